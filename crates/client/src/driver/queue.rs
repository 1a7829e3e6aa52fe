//! The work queue of a controller: keys, each at most once, with delays and back-off.
//!
//! A key that is added while it is being worked on is worked on again afterwards, and never by
//! two workers at once. The queue is bounded by the number of distinct keys.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

/// The pause after a key's first failure; it doubles with each failure in a row (as client-go's
/// default rate limiter).
pub const BACKOFF_MIN: Duration = Duration::from_millis(5);
/// The longest pause after failures.
pub const BACKOFF_MAX: Duration = Duration::from_secs(1000);

/// When a delayed key is due, and a number that keeps equal times apart.
type Due = (Instant, u64);

struct State<K> {
    ready: VecDeque<K>,
    /// Keys that wait in `ready`, or must be worked on again when they are done.
    dirty: HashSet<K>,
    working: HashSet<K>,
    delayed: BTreeMap<Due, K>,
    due: HashMap<K, Due>,
    failures: HashMap<K, u32>,
    sequence: u64,
    closed: bool,
}

struct Shared<K> {
    state: Mutex<State<K>>,
    wake: Notify,
}

/// A handle on the queue. Cheap to clone.
pub struct Queue<K> {
    shared: Arc<Shared<K>>,
}

impl<K> Clone for Queue<K> {
    fn clone(&self) -> Self {
        Queue { shared: Arc::clone(&self.shared) }
    }
}

impl<K: Clone + Eq + Hash> Default for Queue<K> {
    fn default() -> Self {
        Queue::new()
    }
}

impl<K: Clone + Eq + Hash> Queue<K> {
    /// An empty queue.
    #[must_use]
    pub fn new() -> Self {
        let state = State {
            ready: VecDeque::new(),
            dirty: HashSet::new(),
            working: HashSet::new(),
            delayed: BTreeMap::new(),
            due: HashMap::new(),
            failures: HashMap::new(),
            sequence: 0,
            closed: false,
        };
        Queue { shared: Arc::new(Shared { state: Mutex::new(state), wake: Notify::new() }) }
    }

    /// Adds a key to be worked on now.
    pub fn add(&self, key: K) {
        self.shared.state.lock().add(key);
        self.shared.wake.notify_one();
    }

    /// Adds a key to be worked on after `delay`; of several delays of a key the shortest counts.
    pub fn add_after(&self, key: K, delay: Duration) {
        if delay.is_zero() {
            self.add(key);
            return;
        }
        let mut state = self.shared.state.lock();
        let at = Instant::now() + delay;
        if let Some(&known) = state.due.get(&key) {
            if known.0 <= at {
                return;
            }
            state.delayed.remove(&known);
        }
        state.sequence += 1;
        let due = (at, state.sequence);
        state.due.insert(key.clone(), due);
        state.delayed.insert(due, key);
        drop(state);
        self.shared.wake.notify_one();
    }

    /// Adds a key after its back-off: [`BACKOFF_MIN`], doubled with each failure in a row.
    pub fn add_failed(&self, key: K) {
        let delay = {
            let mut state = self.shared.state.lock();
            let failures = state.failures.entry(key.clone()).or_insert(0);
            let delay = backoff(*failures);
            *failures = failures.saturating_add(1);
            delay
        };
        self.add_after(key, delay);
    }

    /// Forgets a key's failures.
    pub fn forget(&self, key: &K) {
        self.shared.state.lock().failures.remove(key);
    }

    /// Waits for a key and marks it as being worked on; [`Self::done`] must follow. `None` once
    /// the queue is closed.
    pub async fn next(&self) -> Option<K> {
        loop {
            let woken = self.shared.wake.notified();
            let due = {
                let mut state = self.shared.state.lock();
                if state.closed {
                    return None;
                }
                state.release_due(Instant::now());
                if let Some(key) = state.take() {
                    let more = !state.ready.is_empty();
                    drop(state);
                    if more {
                        self.shared.wake.notify_one();
                    }
                    return Some(key);
                }
                state.delayed.first_key_value().map(|((at, _), _)| *at)
            };
            match due {
                None => woken.await,
                Some(at) => tokio::select! {
                    () = woken => {}
                    () = tokio::time::sleep_until(at) => {}
                },
            }
        }
    }

    /// Ends the work on a key; if it was added meanwhile it is ready again.
    pub fn done(&self, key: &K) {
        let mut state = self.shared.state.lock();
        state.working.remove(key);
        let again = state.dirty.contains(key);
        if again {
            state.ready.push_back(key.clone());
        }
        drop(state);
        if again {
            self.shared.wake.notify_one();
        }
    }

    /// Ends the queue: [`Self::next`] returns `None` from now on.
    pub fn close(&self) {
        self.shared.state.lock().closed = true;
        self.shared.wake.notify_waiters();
        self.shared.wake.notify_one();
    }

    /// Keys that are ready to be worked on.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.shared.state.lock().ready.len()
    }
}

impl<K: Clone + Eq + Hash> State<K> {
    fn add(&mut self, key: K) {
        if !self.dirty.insert(key.clone()) || self.working.contains(&key) {
            return;
        }
        self.ready.push_back(key);
    }

    fn take(&mut self) -> Option<K> {
        let key = self.ready.pop_front()?;
        self.dirty.remove(&key);
        self.working.insert(key.clone());
        Some(key)
    }

    fn release_due(&mut self, now: Instant) {
        while let Some(entry) = self.delayed.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let key = entry.remove();
            self.due.remove(&key);
            self.add(key);
        }
    }
}

fn backoff(failures: u32) -> Duration {
    let factor = 2u32.checked_pow(failures.min(30)).unwrap_or(u32::MAX);
    BACKOFF_MIN.saturating_mul(factor).min(BACKOFF_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_key_is_queued_once_and_again_if_added_during_work() {
        let queue = Queue::new();
        queue.add("a");
        queue.add("a");
        queue.add("b");
        assert_eq!(queue.depth(), 2);
        assert_eq!(queue.next().await, Some("a"));
        queue.add("a");
        assert_eq!(queue.next().await, Some("b"));
        assert_eq!(queue.depth(), 0);
        queue.done(&"a");
        assert_eq!(queue.next().await, Some("a"));
        queue.done(&"a");
        assert_eq!(queue.depth(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_shortest_delay_counts() {
        let queue = Queue::new();
        let start = Instant::now();
        queue.add_after("a", Duration::from_secs(10));
        queue.add_after("a", Duration::from_secs(1));
        queue.add_after("a", Duration::from_secs(5));
        assert_eq!(queue.next().await, Some("a"));
        assert_eq!(start.elapsed(), Duration::from_secs(1));
        queue.done(&"a");
        queue.close();
        assert_eq!(queue.next().await, None);
    }

    #[test]
    fn backoff_doubles_up_to_its_bound() {
        let steps: Vec<u128> = (0..4).map(|failures| backoff(failures).as_millis()).collect();
        assert_eq!(steps, [5, 10, 20, 40]);
        assert_eq!(backoff(18), BACKOFF_MAX);
        assert_eq!(backoff(u32::MAX), BACKOFF_MAX);
    }
}
