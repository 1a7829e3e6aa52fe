//! A follower's view of an informer: the changes it has not taken yet, one per object.
//!
//! A slow follower costs at most one entry per object, and sees the latest state when it comes.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{Object, ObjectKey};

/// How an object changed since the follower last heard of it.
#[derive(Debug)]
pub enum Change<K> {
    /// It was not there.
    Added(Arc<K>),
    /// It was there, with the same uid.
    Updated {
        /// What the follower was last told.
        old: Arc<K>,
        /// What it is now.
        new: Arc<K>,
    },
    /// It is gone; this is what the follower was last told of it.
    Deleted(Arc<K>),
}

impl<K> Change<K> {
    /// The newest value known: of a deleted object, the last one.
    #[must_use]
    pub fn object(&self) -> &Arc<K> {
        match self {
            Change::Added(object) | Change::Deleted(object) => object,
            Change::Updated { new, .. } => new,
        }
    }

    /// The value before the change, unless the object is new.
    #[must_use]
    pub fn old(&self) -> Option<&Arc<K>> {
        match self {
            Change::Added(_) => None,
            Change::Updated { old, .. } | Change::Deleted(old) => Some(old),
        }
    }
}

struct Step<K> {
    /// What the follower was last told.
    old: Option<Arc<K>>,
    /// What is stored now.
    new: Option<Arc<K>>,
}

struct State<K> {
    order: VecDeque<ObjectKey>,
    steps: HashMap<ObjectKey, Step<K>>,
    closed: bool,
}

/// The shared half of a subscription.
pub(super) struct Pending<K> {
    state: Mutex<State<K>>,
    wake: Notify,
}

impl<K: Object> Pending<K> {
    pub(super) fn new() -> Self {
        let state = State { order: VecDeque::new(), steps: HashMap::new(), closed: false };
        Pending { state: Mutex::new(state), wake: Notify::new() }
    }

    pub(super) fn push(&self, key: ObjectKey, old: Option<Arc<K>>, new: Option<Arc<K>>) {
        let mut state = self.state.lock();
        if let Some(step) = state.steps.get_mut(&key) {
            step.new = new;
        } else {
            state.order.push_back(key.clone());
            state.steps.insert(key, Step { old, new });
        }
        drop(state);
        self.wake.notify_one();
    }

    pub(super) fn close(&self) {
        self.state.lock().closed = true;
        self.wake.notify_one();
    }

    /// The next change, or whether the informer has ended.
    fn pop(&self) -> Result<Change<K>, bool> {
        let mut state = self.state.lock();
        while let Some(key) = state.order.pop_front() {
            let Some(step) = state.steps.remove(&key) else { continue };
            match (step.old, step.new) {
                (None, None) => {}
                (None, Some(new)) => return Ok(Change::Added(new)),
                (Some(old), None) => return Ok(Change::Deleted(old)),
                (Some(old), Some(new)) if old.meta().uid == new.meta().uid => {
                    return Ok(Change::Updated { old, new });
                }
                (Some(old), Some(new)) => {
                    state.order.push_front(key.clone());
                    state.steps.insert(key, Step { old: None, new: Some(new) });
                    return Ok(Change::Deleted(old));
                }
            }
        }
        Err(state.closed)
    }
}

/// The changes of an informer, each object's coalesced until taken. Dropping it unsubscribes.
pub struct Subscription<K: Object> {
    pending: Arc<Pending<K>>,
}

impl<K: Object> Subscription<K> {
    pub(super) fn new(pending: Arc<Pending<K>>) -> Self {
        Subscription { pending }
    }

    /// Waits for the next change; `None` once the informer has been shut down. Cancel-safe.
    pub async fn next(&mut self) -> Option<Change<K>> {
        loop {
            match self.pending.pop() {
                Ok(change) => return Some(change),
                Err(true) => return None,
                Err(false) => self.pending.wake.notified().await,
            }
        }
    }

    /// The next change if there is one already.
    pub fn try_next(&mut self) -> Option<Change<K>> {
        self.pending.pop().ok()
    }
}
