//! What the embedded engine does without being asked: purging the log, ending and
//! checkpointing leases, progress messages, and bringing watchers up to date.

use std::{sync::Arc, time::Duration};

use crate::{
    clock::Clock,
    command::Command,
    embedded::propose,
    hub::Watcher,
    lessor::{CHECKPOINT_INTERVAL, Lessor},
    mvcc::store::Store,
    raft::RaftHandle,
};

/// How often quiet watches that asked for it get a progress message.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(10);
/// Most leases that one round of expiry revokes, and that one checkpoint entry holds.
const LEASES_PER_ROUND: usize = 1_000;
/// Most revocations in flight.
const REVOCATIONS_IN_FLIGHT: usize = 64;

/// Purges the log whenever the state file has caught up with it: openraft purges up to its
/// newest snapshot, and the file is the snapshot.
pub(crate) async fn purge(raft: RaftHandle, store: Arc<Store>) {
    let mut durable = store.durable();
    while durable.changed().await.is_ok() {
        if let Err(e) = raft.trigger().snapshot().await {
            tracing::debug!(error = %e, "no more purging");
            return;
        }
    }
}

/// Sends history until it meets the present, then hands the watcher to the hub.
pub(crate) async fn catch_up(store: Arc<Store>, mut watcher: Watcher, mut from: i64) {
    loop {
        let history = match store.history(&watcher.range, from, watcher.prev_kv) {
            Ok(history) => history,
            Err(e) => {
                // The watcher may be gone.
                let _ = watcher.sender.send(Err(e)).await;
                return;
            }
        };
        for message in history.messages {
            if watcher.sender.send(Ok(message)).await.is_err() {
                return;
            }
        }
        from = history.next;
        if history.is_complete {
            match store.hub().join(watcher, from, 0) {
                None => return,
                Some(behind) => watcher = behind,
            }
        } else {
            // A long history must not keep a thread from others.
            tokio::task::yield_now().await;
        }
    }
}

/// What the leader does by itself: ends leases that ran out, checkpoints the others, and
/// tells quiet watches how far they are.
pub(crate) struct Duties {
    raft: RaftHandle,
    store: Arc<Store>,
    lessor: Arc<Lessor>,
    clock: Arc<dyn Clock>,
    next_checkpoint: Duration,
    next_progress: Duration,
}

impl Duties {
    pub(crate) fn new(
        raft: &RaftHandle,
        store: &Arc<Store>,
        lessor: &Arc<Lessor>,
        clock: &Arc<dyn Clock>,
    ) -> Self {
        let now = clock.now();
        Self {
            raft: raft.clone(),
            store: store.clone(),
            lessor: lessor.clone(),
            clock: clock.clone(),
            next_checkpoint: now + CHECKPOINT_INTERVAL,
            next_progress: now + PROGRESS_INTERVAL,
        }
    }

    pub(crate) async fn run(mut self) {
        loop {
            let lease = self.lessor.next_deadline();
            let checkpoint = self.lessor.has_long_leases().then_some(self.next_checkpoint);
            let due = [lease, checkpoint, Some(self.next_progress)].into_iter().flatten().min();
            let due = due.unwrap_or(self.next_progress);
            tokio::select! {
                () = self.clock.sleep_until(due) => {}
                () = self.lessor.changed() => continue,
            }
            self.revoke_expired().await;
            let now = self.clock.now();
            if now >= self.next_checkpoint {
                self.next_checkpoint = now + CHECKPOINT_INTERVAL;
                self.checkpoint().await;
            }
            if now >= self.next_progress {
                self.next_progress = now + PROGRESS_INTERVAL;
                if self.store.hub().wants_progress() {
                    self.store.hub().progress();
                }
            }
        }
    }

    async fn revoke_expired(&self) {
        let expired = self.lessor.expired(LEASES_PER_ROUND);
        for ids in expired.chunks(REVOCATIONS_IN_FLIGHT) {
            let revocations = ids.iter().map(|id| propose(&self.raft, Command::LeaseRevoke { id: *id }));
            for (id, revoked) in ids.iter().zip(futures::future::join_all(revocations).await) {
                if let Err(e) = revoked {
                    tracing::warn!(lease = id, error = %e, "a lease ran out but is not revoked yet");
                }
            }
        }
    }

    async fn checkpoint(&self) {
        for remaining in self.lessor.checkpoint().chunks(LEASES_PER_ROUND) {
            let remaining = remaining.to_vec();
            if let Err(e) = propose(&self.raft, Command::LeaseCheckpoint { remaining }).await {
                tracing::warn!(error = %e, "leases are not checkpointed");
                return;
            }
        }
    }
}
