//! When leases run out: the volatile half of leases, which only the leader has. What is
//! replicated (which leases exist, their keys) is in the state.
//!
//! A deadline is never too early: after a restart, or when leadership moves, a lease gets
//! the time that was left at its last checkpoint, or its full time to live.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{
    clock::Clock,
    kv::{Error, Lease},
    mvcc::{apply::LeaseEffect, disk::Terms},
};

/// How long to wait before a revocation that failed is tried again.
const REVOKE_RETRY: Duration = Duration::from_secs(1);

/// Leases that live longer than this are checkpointed this often, so that a restart gives
/// back at most this much time.
pub(crate) const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(300);

/// Deadlines of leases, while this member leads.
pub(crate) struct Lessor {
    clock: Arc<dyn Clock>,
    inner: Mutex<Inner>,
    /// Told when the earliest deadline may have changed.
    changed: Notify,
}

#[derive(Default)]
struct Inner {
    leading: bool,
    leases: HashMap<i64, Live>,
    deadlines: BTreeSet<(Duration, i64)>,
}

struct Live {
    ttl_s: i64,
    deadline: Duration,
    /// It ran out and is being revoked; it can no longer be kept alive.
    expired: bool,
}

impl Inner {
    fn set(&mut self, id: i64, ttl_s: i64, deadline: Duration) {
        if let Some(old) = self.leases.insert(id, Live { ttl_s, deadline, expired: false }) {
            self.deadlines.remove(&(old.deadline, id));
        }
        self.deadlines.insert((deadline, id));
    }

    fn remove(&mut self, id: i64) {
        if let Some(old) = self.leases.remove(&id) {
            self.deadlines.remove(&(old.deadline, id));
        }
    }
}

fn seconds(ttl_s: i64) -> Duration {
    Duration::from_secs(ttl_s.max(0) as u64)
}

impl Lessor {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, inner: Mutex::default(), changed: Notify::new() }
    }

    /// Begins to lead: every lease gets its deadline.
    pub(crate) fn promote(&self, leases: impl Iterator<Item = (i64, Terms)>) {
        let now = self.clock.now();
        let mut inner = self.inner.lock();
        *inner = Inner { leading: true, ..Inner::default() };
        for (id, terms) in leases {
            let left_s = if terms.remaining_s > 0 { terms.remaining_s } else { terms.ttl_s };
            inner.set(id, terms.ttl_s, now + seconds(left_s));
        }
        drop(inner);
        self.changed.notify_one();
    }

    /// Follows what was applied.
    pub(crate) fn apply(&self, effects: &[LeaseEffect]) {
        if effects.is_empty() {
            return;
        }
        let now = self.clock.now();
        let mut inner = self.inner.lock();
        if !inner.leading {
            return;
        }
        for effect in effects {
            match *effect {
                LeaseEffect::Granted { id, ttl_s } => inner.set(id, ttl_s, now + seconds(ttl_s)),
                LeaseEffect::Ended { id } => inner.remove(id),
            }
        }
        drop(inner);
        self.changed.notify_one();
    }

    /// Renews a lease for its full time to live.
    pub(crate) fn keep_alive(&self, id: i64) -> Result<Lease, Error> {
        let now = self.clock.now();
        let mut inner = self.inner.lock();
        if !inner.leading {
            return Err(Error::NoLeader);
        }
        // A lease whose time is over but whose end is not yet noticed is over, too.
        let live = inner.leases.get(&id).filter(|live| !live.expired && live.deadline > now);
        let ttl_s = live.ok_or(Error::LeaseNotFound)?.ttl_s;
        inner.set(id, ttl_s, now + seconds(ttl_s));
        Ok(Lease { id, ttl_s })
    }

    /// Leases that ran out, at most `max`; they are returned again if they still exist
    /// after [`REVOKE_RETRY`].
    pub(crate) fn expired(&self, max: usize) -> Vec<i64> {
        let now = self.clock.now();
        let mut inner = self.inner.lock();
        let due: Vec<i64> = inner
            .deadlines
            .iter()
            .take_while(|(deadline, _)| *deadline <= now)
            .take(max)
            .map(|(_, id)| *id)
            .collect();
        for id in &due {
            if let Some(live) = inner.leases.get(id) {
                let ttl_s = live.ttl_s;
                inner.set(*id, ttl_s, now + REVOKE_RETRY);
            }
            if let Some(live) = inner.leases.get_mut(id) {
                live.expired = true;
            }
        }
        due
    }

    /// The earliest deadline.
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        self.inner.lock().deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// Waits until the earliest deadline may have changed.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Seconds left, rounded up, of the leases that are worth a checkpoint.
    pub(crate) fn checkpoint(&self) -> Vec<(i64, i64)> {
        let now = self.clock.now();
        let inner = self.inner.lock();
        let long = inner
            .leases
            .iter()
            .filter(|(_, live)| seconds(live.ttl_s) > CHECKPOINT_INTERVAL && !live.expired);
        long.map(|(id, live)| {
            let left = live.deadline.saturating_sub(now);
            (*id, (left.as_secs() + 1).min(live.ttl_s as u64) as i64)
        })
        .collect()
    }

    /// Whether a checkpoint would have something to say.
    pub(crate) fn has_long_leases(&self) -> bool {
        self.inner.lock().leases.values().any(|live| seconds(live.ttl_s) > CHECKPOINT_INTERVAL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    fn granted(id: i64, ttl_s: i64) -> LeaseEffect {
        LeaseEffect::Granted { id, ttl_s }
    }

    #[test]
    fn deadlines_move_and_run_out() {
        let clock = ManualClock::default();
        let lessor = Lessor::new(Arc::new(clock.clone()));
        assert_eq!(lessor.keep_alive(1), Err(Error::NoLeader));
        lessor.promote([(1, Terms { ttl_s: 600, remaining_s: 30 })].into_iter());
        lessor.apply(&[granted(2, 10), granted(3, 20)]);
        assert_eq!(lessor.next_deadline(), Some(Duration::from_secs(10)));
        clock.advance(Duration::from_secs(9));
        assert_eq!(lessor.keep_alive(2), Ok(Lease { id: 2, ttl_s: 10 }));
        assert_eq!(lessor.expired(9), []);
        clock.advance(Duration::from_secs(11));
        assert_eq!(lessor.keep_alive(2), Err(Error::LeaseNotFound), "over, though not yet revoked");
        assert_eq!(lessor.expired(9), [2, 3]);
        assert_eq!(lessor.expired(9), []);
        clock.advance(REVOKE_RETRY);
        assert_eq!(lessor.expired(1), [2], "not revoked: again");
        lessor.apply(&[LeaseEffect::Ended { id: 2 }, LeaseEffect::Ended { id: 3 }]);
        clock.advance(Duration::from_secs(9));
        assert_eq!(lessor.expired(9), [1], "after a restart, what was left at the checkpoint");
    }

    #[test]
    fn only_long_leases_are_checkpointed() {
        let clock = ManualClock::default();
        let lessor = Lessor::new(Arc::new(clock.clone()));
        lessor.promote(std::iter::empty());
        lessor.apply(&[granted(1, 300), granted(2, 1_000)]);
        clock.advance(Duration::from_millis(400_500));
        assert_eq!(lessor.checkpoint(), [(2, 600)]);
    }
}
