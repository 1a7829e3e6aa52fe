//! One change of one object, as watches see it.

use std::sync::Arc;
use std::sync::OnceLock;

use bytes::Bytes;

use crate::cache::object::{Object, frame_of};

/// The type of a watch event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// The object is new, or new to this watch.
    Added,
    /// It changed.
    Modified,
    /// It is gone, or gone from this watch.
    Deleted,
}

impl Change {
    /// The beginning of the frame.
    pub(crate) const fn frame_prefix(self) -> &'static [u8] {
        match self {
            Self::Added => b"{\"type\":\"ADDED\",\"object\":",
            Self::Modified => b"{\"type\":\"MODIFIED\",\"object\":",
            Self::Deleted => b"{\"type\":\"DELETED\",\"object\":",
        }
    }
}

/// A change. Shared by the ring and every watch that must hear of it.
#[derive(Debug)]
pub(crate) struct Event {
    /// Its number among the kind's events: one revision may change several objects.
    pub(crate) sequence: u64,
    /// The revision that made the change.
    pub(crate) revision: i64,
    /// The object after the change; `None` when it was deleted.
    pub(crate) new: Option<Arc<Object>>,
    /// The object before the change; `None` when it is new.
    pub(crate) old: Option<Arc<Object>>,
    gone: OnceLock<(Bytes, Bytes)>,
}

impl Event {
    /// A change from `old` to `new`, of which at least one is there.
    pub(crate) fn new(
        sequence: u64,
        revision: i64,
        new: Option<Arc<Object>>,
        old: Option<Arc<Object>>,
    ) -> Self {
        Self { sequence, revision, new, old, gone: OnceLock::new() }
    }

    /// Bytes that the ring accounts for the event: its new version, or the old one when
    /// that is what it keeps alive.
    pub(crate) fn cost(&self) -> usize {
        self.new.as_ref().or(self.old.as_ref()).map_or(0, |object| object.cost())
    }

    /// What a watch that sees the new and the old version as `matches` says must be told:
    /// the type of the event, or nothing.
    pub(crate) fn change_for(&self, matches: impl Fn(&Object) -> bool) -> Option<Change> {
        let now = self.new.as_deref().is_some_and(&matches);
        let before = self.old.as_deref().is_some_and(&matches);
        match (before, now) {
            (false, true) => Some(Change::Added),
            (true, true) => Some(Change::Modified),
            (true, false) => Some(Change::Deleted),
            (false, false) => None,
        }
    }

    /// The object that an event of type `change` shows: the new version, or the last one
    /// under the revision of the change when it is gone.
    pub(crate) fn body(&self, change: Change) -> Bytes {
        match (change, &self.new) {
            (Change::Added | Change::Modified, Some(new)) => new.body(),
            _ => self.gone().0.clone(),
        }
    }

    /// The frame of an event of type `change`.
    pub(crate) fn frame(&self, change: Change) -> Bytes {
        match (change, &self.new) {
            (Change::Added | Change::Modified, Some(new)) => new.frame(change),
            _ => self.gone().1.clone(),
        }
    }

    fn gone(&self) -> &(Bytes, Bytes) {
        self.gone.get_or_init(|| {
            let body = self.old.as_ref().map(|old| old.body_at(self.revision)).unwrap_or_default();
            let frame = frame_of(Change::Deleted, &body);
            (body, frame)
        })
    }
}
