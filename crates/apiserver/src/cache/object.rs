//! One version of one object, ready to be sent.
//!
//! The bytes are laid out as the watch frame that announced this version, and the object is
//! a slice of that frame: a GET, a LIST and every watcher share one allocation.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::cache::event::Change;
use crate::registry::Stored;

/// What selectors look at, parsed once per version.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Facts {
    /// `metadata.labels`.
    pub(crate) labels: Map<String, Value>,
    /// The kind's selectable fields with their values, without `metadata.*`.
    pub(crate) fields: Vec<(Cow<'static, str>, String)>,
}

impl Facts {
    /// The value of a selectable field.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

/// A version of an object. Immutable; shared as `Arc`.
#[derive(Debug)]
pub(crate) struct Object {
    tail: Arc<str>,
    name_at: usize,
    announced_as: Change,
    frame: Bytes,
    body: Bytes,
    version_at: usize,
    version_len: usize,
    metadata_at: usize,
    /// Revision of the store that made this version.
    pub(crate) revision: i64,
    /// Facts for selectors.
    pub(crate) facts: Facts,
}

impl Object {
    /// Makes the bytes of `stored` as changed in `revision`. `tail` is the object's place in
    /// its kind, and `change` the event that announces it.
    pub(crate) fn new(tail: Arc<str>, change: Change, stored: &Stored, revision: i64, facts: Facts) -> Self {
        let prefix = change.frame_prefix();
        let mut frame = Vec::with_capacity(prefix.len() + stored.json.len() + 48);
        frame.extend_from_slice(prefix);
        let (digits_at, version_len) = stored.write_with_version(revision, &mut frame);
        let end = frame.len();
        frame.extend_from_slice(FRAME_SUFFIX);
        let frame = Bytes::from(frame);
        Self {
            name_at: tail.rfind('/').map_or(0, |slash| slash + 1),
            tail,
            announced_as: change,
            body: frame.slice(prefix.len()..end),
            frame,
            version_at: digits_at - prefix.len(),
            version_len,
            metadata_at: stored.splice_at.saturating_sub(METADATA_OPEN.len()),
            revision,
            facts,
        }
    }

    /// `<namespace>/<name>`, or `<name>` for cluster-scoped kinds.
    pub(crate) fn tail(&self) -> &Arc<str> {
        &self.tail
    }

    /// The object's name.
    pub(crate) fn name(&self) -> &str {
        self.tail.get(self.name_at..).unwrap_or_default()
    }

    /// The object's namespace; empty for cluster-scoped kinds.
    pub(crate) fn namespace(&self) -> &str {
        self.tail.get(..self.name_at.saturating_sub(1)).unwrap_or_default()
    }

    /// The object as JSON.
    pub(crate) fn body(&self) -> Bytes {
        self.body.clone()
    }

    /// The object as JSON, borrowed.
    pub(crate) fn json(&self) -> &[u8] {
        &self.body
    }

    /// Bytes that the object occupies, for budgets.
    pub(crate) fn cost(&self) -> usize {
        self.frame.len() + self.tail.len() + OBJECT_OVERHEAD_BYTES
    }

    /// The object parsed.
    pub(crate) fn value(&self) -> Option<Value> {
        serde_json::from_slice(&self.body).ok()
    }

    /// The frame that announces this object as `change`: shared when that is what it was
    /// announced as in the first place.
    pub(crate) fn frame(&self, change: Change) -> Bytes {
        if change == self.announced_as { self.frame.clone() } else { frame_of(change, &self.body) }
    }

    /// The JSON of this version under another resourceVersion: what a deletion shows.
    pub(crate) fn body_at(&self, revision: i64) -> Bytes {
        let digits = revision.to_string();
        let mut out = Vec::with_capacity(self.body.len() + digits.len());
        let (head, rest) = self.body.split_at(self.version_at);
        out.extend_from_slice(head);
        out.extend_from_slice(digits.as_bytes());
        out.extend_from_slice(rest.get(self.version_len..).unwrap_or_default());
        Bytes::from(out)
    }

    /// The object without the brace it begins with, its kind and its `apiVersion`: how items
    /// of built-in lists go on after a brace.
    pub(crate) fn item(&self) -> &[u8] {
        self.body.get(self.metadata_at..).unwrap_or_default()
    }
}

/// What stands before the inside of the metadata, after the comma.
const METADATA_OPEN: &[u8] = b"\"metadata\":{";
/// What ends a frame.
const FRAME_SUFFIX: &[u8] = b"}\n";
/// Rough size of the structures around an object's bytes.
const OBJECT_OVERHEAD_BYTES: usize = 256;

/// A frame made for one watcher.
pub(crate) fn frame_of(change: Change, body: &[u8]) -> Bytes {
    let prefix = change.frame_prefix();
    let mut frame = Vec::with_capacity(prefix.len() + body.len() + FRAME_SUFFIX.len());
    frame.extend_from_slice(prefix);
    frame.extend_from_slice(body);
    frame.extend_from_slice(FRAME_SUFFIX);
    Bytes::from(frame)
}
