//! Wake-up calls by key: one task and one ordered set for any number of sleepers, so that
//! what waits costs no task of its own.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

/// At most one pending call per key.
pub(crate) struct Timers<K> {
    queue: Mutex<Queue<K>>,
    changed: Notify,
}

struct Queue<K> {
    order: BTreeSet<(Instant, K)>,
    at: HashMap<K, Instant>,
}

impl<K: Ord + Hash + Clone> Timers<K> {
    pub(crate) fn new() -> Self {
        let queue = Queue { order: BTreeSet::new(), at: HashMap::new() };
        Self { queue: Mutex::new(queue), changed: Notify::new() }
    }

    /// Calls `key` after `delay`, in place of any call that was set before.
    pub(crate) fn set(&self, key: K, delay: Duration) {
        let at = Instant::now() + delay;
        let mut queue = self.queue.lock();
        if let Some(old) = queue.at.insert(key.clone(), at) {
            queue.order.remove(&(old, key.clone()));
        }
        let first = queue.order.first().is_none_or(|(earliest, _)| at < *earliest);
        queue.order.insert((at, key));
        drop(queue);
        if first {
            self.changed.notify_one();
        }
    }

    /// Takes back the call of `key`.
    pub(crate) fn clear(&self, key: &K) {
        let mut queue = self.queue.lock();
        if let Some(at) = queue.at.remove(key) {
            queue.order.remove(&(at, key.clone()));
        }
    }

    /// Waits for the next call that is due.
    pub(crate) async fn next(&self) -> K {
        loop {
            let changed = self.changed.notified();
            let now = Instant::now();
            let earliest = {
                let mut queue = self.queue.lock();
                match queue.order.first().map(|(at, _)| *at) {
                    Some(at) if at <= now => {
                        if let Some((_, key)) = queue.order.pop_first() {
                            queue.at.remove(&key);
                            return key;
                        }
                        None
                    }
                    later => later,
                }
            };
            match earliest {
                Some(at) => tokio::select! {
                    () = changed => {}
                    () = tokio::time::sleep_until(at) => {}
                },
                None => changed.await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn calls_come_in_order_and_the_last_setting_counts() {
        let timers = Timers::new();
        timers.set("late", Duration::from_millis(30));
        timers.set("moved", Duration::from_secs(60));
        timers.set("gone", Duration::from_millis(1));
        timers.set("moved", Duration::from_millis(5));
        timers.clear(&"gone");
        assert_eq!(timers.next().await, "moved");
        assert_eq!(timers.next().await, "late");
    }
}
