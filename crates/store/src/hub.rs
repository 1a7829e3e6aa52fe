//! Watchers: who gets which changes, as they are applied.
//!
//! Publishing never waits. Each watcher has a queue of its own, bounded in messages and in
//! bytes; one that does not keep up gets [`Error::WatchLagging`] and is dropped, and nobody
//! else notices.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::mpsc::{self, error::TrySendError};

use crate::{
    kv::{Error, Event, KeyRange, KeyValue, WatchMessage, WatchRequest, WatchStream},
    mvcc::record::Record,
};

/// Most messages that wait for one watcher; the next one ends its watch.
pub(crate) const QUEUE_MESSAGES_MAX: usize = 8_192;
/// Most bytes of keys and values that wait for one watcher, whatever their number.
pub(crate) const QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Watchers that went away are looked for when this many were added.
const SWEEP_AFTER: usize = 64;

type Sender = mpsc::Sender<Result<WatchMessage, Error>>;

/// One watch.
pub(crate) struct Watcher {
    pub(crate) range: KeyRange,
    pub(crate) prev_kv: bool,
    progress: bool,
    /// First revision to send.
    from: i64,
    pub(crate) sender: Sender,
    /// Sizes of the messages that wait, oldest first.
    waiting: VecDeque<usize>,
    waiting_bytes: usize,
    /// Whether anything was sent since the last progress message was due.
    busy: bool,
}

impl Watcher {
    /// Begins a watch. One place of its queue is kept for the reason of its end.
    pub(crate) fn new(request: WatchRequest) -> (Self, WatchStream) {
        let (sender, receiver) = mpsc::channel(QUEUE_MESSAGES_MAX + 1);
        let watcher = Self {
            range: request.range,
            prev_kv: request.prev_kv,
            progress: request.progress_notify,
            from: request.start_revision,
            sender,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            busy: false,
        };
        (watcher, receiver)
    }

    /// Sends a message; answers whether the watch goes on.
    fn send(&mut self, message: WatchMessage) -> bool {
        let free = self.sender.capacity();
        let waiting = self.sender.max_capacity() - free;
        while self.waiting.len() > waiting {
            self.waiting_bytes -= self.waiting.pop_front().unwrap_or_default();
        }
        if free <= 1 || self.waiting_bytes > QUEUE_BYTES_MAX {
            tracing::debug!(range = ?self.range, "a watcher fell behind");
            self.end(Error::WatchLagging);
            return false;
        }
        let bytes = message_bytes(&message);
        self.waiting.push_back(bytes);
        self.waiting_bytes += bytes;
        self.busy = true;
        !matches!(self.sender.try_send(Ok(message)), Err(TrySendError::Closed(_)))
    }

    /// Says why the watch ends.
    fn end(&self, why: Error) {
        // Whoever watched may be gone.
        let _ = self.sender.try_send(Err(why));
    }
}

fn message_bytes(message: &WatchMessage) -> usize {
    let kv = |kv: &KeyValue| kv.key.len() + kv.value.len();
    match message {
        WatchMessage::Events { events, .. } => {
            events.iter().map(|event| kv(&event.kv) + event.prev.as_ref().map_or(0, kv)).sum()
        }
        WatchMessage::Progress { .. } => 0,
    }
}

/// All watchers that are up to date.
#[derive(Default)]
pub(crate) struct Hub {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// Newest revision that watchers were told of.
    published: i64,
    /// Those that watch a single key.
    by_key: HashMap<Bytes, Vec<Watcher>>,
    ranges: Vec<Watcher>,
    added: usize,
    progress: usize,
    closed: bool,
}

impl Hub {
    pub(crate) fn new(published: i64) -> Self {
        Self { inner: Mutex::new(Inner { published, ..Inner::default() }) }
    }

    /// Lets a watcher that has everything before `from` have the rest as it happens. If
    /// `from` was published already it is given back, to read it first. A `from` of 0
    /// means what comes after `newest`, the newest revision that its caller can have seen.
    pub(crate) fn join(&self, mut watcher: Watcher, from: i64, newest: i64) -> Option<Watcher> {
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        if inner.closed {
            watcher.end(Error::Closed);
            return None;
        }
        watcher.from = if from == 0 { inner.published.max(newest) + 1 } else { from };
        if inner.published >= watcher.from {
            return Some(watcher);
        }
        inner.added += 1;
        if inner.added >= SWEEP_AFTER.max(inner.ranges.len() + inner.by_key.len()) {
            inner.added = 0;
            inner.retain(|watcher| !watcher.sender.is_closed());
        }
        inner.progress += usize::from(watcher.progress);
        match &watcher.range {
            KeyRange::Key(key) => inner.by_key.entry(key.clone()).or_default().push(watcher),
            KeyRange::Range(..) | KeyRange::From(_) => inner.ranges.push(watcher),
        }
        None
    }

    /// Tells the watchers of one revision's changes. `prev` finds what a change replaced.
    pub(crate) fn publish(&self, changes: &[Arc<Record>], prev: impl Fn(&Record) -> Option<KeyValue>) {
        let Some(revision) = changes.first().map(|record| record.head.place.revision) else { return };
        let mut inner = self.inner.lock();
        inner.published = revision;
        let event = |watcher: &Watcher, record: &Arc<Record>| -> Event {
            record.event(if watcher.prev_kv { prev(record) } else { None })
        };
        let mut ended = false;
        for watcher in inner.ranges.iter_mut().filter(|watcher| watcher.from <= revision) {
            let events: Vec<Event> = changes
                .iter()
                .filter(|record| watcher.range.contains(&record.key))
                .map(|record| event(watcher, record))
                .collect();
            if !events.is_empty() {
                ended |= !keep(watcher, WatchMessage::Events { revision, events });
            }
        }
        if !inner.by_key.is_empty() {
            for record in changes {
                for watcher in inner.by_key.get_mut(&record.key).into_iter().flatten() {
                    if watcher.from <= revision {
                        let events = vec![event(watcher, record)];
                        ended |= !keep(watcher, WatchMessage::Events { revision, events });
                    }
                }
            }
        }
        if ended {
            inner.retain(|watcher| watcher.from != ENDED);
        }
    }

    /// Tells watchers that asked for it, and that heard nothing since the last call, how
    /// far they are.
    pub(crate) fn progress(&self) {
        let mut inner = self.inner.lock();
        let revision = inner.published;
        inner.retain(|watcher| {
            let due = watcher.progress && !watcher.busy && watcher.from <= revision + 1;
            let goes_on =
                !watcher.sender.is_closed() && (!due || watcher.send(WatchMessage::Progress { revision }));
            watcher.busy = false;
            goes_on
        });
    }

    /// Whether anybody asked for progress messages.
    pub(crate) fn wants_progress(&self) -> bool {
        self.inner.lock().progress > 0
    }

    /// Ends all watches, for good or, when the state jumped, for those that begin later to
    /// go on from `revision`.
    pub(crate) fn end_all(&self, why: &Error, revision: Option<i64>) {
        let mut inner = self.inner.lock();
        inner.retain(|watcher| {
            watcher.end(why.clone());
            false
        });
        match revision {
            Some(revision) => inner.published = revision,
            None => inner.closed = true,
        }
    }
}

/// Marks a watcher as ended.
const ENDED: i64 = i64::MAX;

fn keep(watcher: &mut Watcher, message: WatchMessage) -> bool {
    let goes_on = watcher.send(message);
    if !goes_on {
        watcher.from = ENDED;
    }
    goes_on
}

impl Inner {
    fn retain(&mut self, mut goes_on: impl FnMut(&mut Watcher) -> bool) {
        let progress = &mut self.progress;
        let mut keep = |watcher: &mut Watcher| {
            let keep = goes_on(watcher);
            *progress -= usize::from(!keep && watcher.progress);
            keep
        };
        self.ranges.retain_mut(&mut keep);
        self.by_key.retain(|_, watchers| {
            watchers.retain_mut(&mut keep);
            !watchers.is_empty()
        });
    }
}
