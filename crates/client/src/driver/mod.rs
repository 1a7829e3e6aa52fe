//! The loop that every controller runs in.
//!
//! Informers' changes are mapped to keys; a de-duplicating [`Queue`] hands keys to a few workers;
//! a worker takes a snapshot, asks the controller's pure `plan` what to do, carries it out, waits
//! until the informers show what was written, and only then lets go of the key. Failures come
//! back with growing pauses. Nothing polls: an idle controller costs nothing.

mod execute;
mod metrics;
mod queue;

use std::fmt;
use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;

use coracle_plan::controllers::action::Plan;
use futures::future::{BoxFuture, join_all};
use jiff::Timestamp;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use execute::{Executor, Failure, Outcome, path};
pub use metrics::Metrics;
pub use queue::{BACKOFF_MAX, BACKOFF_MIN, Queue};

use crate::events::Recorder;
use crate::informer::{Change, Informer, Object};

/// Workers of a controller that asks for no other number.
const WORKERS_DEFAULT: usize = 8;

/// Why a snapshot could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// A live read failed.
    #[error("cannot read {what}")]
    Read {
        /// What was to be read.
        what: String,
        /// What the API answered.
        #[source]
        source: Box<kube::Error>,
    },
}

impl SnapshotError {
    /// A failed read of `what`.
    pub fn read(what: impl Into<String>, source: kube::Error) -> Self {
        SnapshotError::Read { what: what.into(), source: Box::new(source) }
    }
}

/// A controller: what it looks at, and what it decides. Watching, queueing and applying are the
/// [`Driver`]'s.
pub trait Controller: Send + Sync + 'static {
    /// What it works on, one at a time.
    type Key: Clone + Eq + Hash + fmt::Display + Send + Sync + 'static;
    /// Everything a decision depends on, but the time.
    type Snapshot: Send + Sync + 'static;

    /// Its name in logs, metrics and events, such as `deployment-controller`.
    fn name(&self) -> &'static str;

    /// The facts about `key`; `None` if there is nothing to decide.
    fn snapshot(
        &self,
        key: &Self::Key,
    ) -> impl Future<Output = Result<Option<Self::Snapshot>, SnapshotError>> + Send;

    /// The decision. Pure.
    fn plan(&self, snapshot: &Self::Snapshot, now: Timestamp) -> Plan;

    /// Hears what came of a plan, before the key is let go.
    fn settled(&self, _key: &Self::Key, _outcome: &Outcome) {}
}

/// Runs one [`Controller`].
pub struct Driver<C: Controller> {
    controller: Arc<C>,
    executor: Executor,
    queue: Queue<C::Key>,
    workers: usize,
    synced: Vec<BoxFuture<'static, ()>>,
    sources: Vec<BoxFuture<'static, ()>>,
}

impl<C: Controller> Driver<C> {
    /// A driver that watches nothing yet; its events come from a recorder of the controller's
    /// name. Must be called inside a tokio runtime.
    pub fn new(client: kube::Client, controller: C) -> Self {
        let recorder = Recorder::new(client.clone(), controller.name(), "");
        Driver {
            controller: Arc::new(controller),
            executor: Executor::new(client, recorder),
            queue: Queue::new(),
            workers: WORKERS_DEFAULT,
            synced: Vec::new(),
            sources: Vec::new(),
        }
    }

    /// Works on up to this many keys at once.
    #[must_use]
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers.max(1);
        self
    }

    /// Follows an informer: `map` adds the keys that a change concerns. The informer also
    /// witnesses the controller's own writes of its kind.
    #[must_use]
    pub fn watch<K: Object>(
        mut self,
        informer: &Informer<K>,
        map: impl Fn(&Change<K>, &Queue<C::Key>) + Send + 'static,
    ) -> Self {
        self = self.reads(informer);
        let queue = self.queue.clone();
        let informer = informer.clone();
        self.sources.push(Box::pin(async move {
            let mut changes = informer.subscribe();
            while let Some(change) = changes.next().await {
                map(&change, &queue);
            }
        }));
        self
    }

    /// Waits for an informer before the first decision, and lets it witness writes, without
    /// following its changes.
    #[must_use]
    pub fn reads<K: Object>(mut self, informer: &Informer<K>) -> Self {
        self.executor.witness(informer);
        let informer = informer.clone();
        self.synced.push(Box::pin(async move { informer.synced().await }));
        self
    }

    /// The controller's counters.
    #[must_use]
    pub fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(self.executor.metrics())
    }

    /// The controller's queue, to add keys from elsewhere.
    #[must_use]
    pub fn queue(&self) -> Queue<C::Key> {
        self.queue.clone()
    }

    /// Runs until shutdown; keys that are being worked on are finished first.
    pub async fn run(self, shutdown: CancellationToken) {
        let Driver { controller, executor, queue, workers, synced, sources } = self;
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = join_all(synced) => {}
        }
        let mut followers = JoinSet::new();
        for source in sources {
            followers.spawn(source);
        }
        let mut tasks = JoinSet::new();
        for _ in 0..workers {
            let worker = Worker {
                controller: Arc::clone(&controller),
                executor: executor.clone(),
                queue: queue.clone(),
                shutdown: shutdown.clone(),
            };
            tasks.spawn(worker.run());
        }
        shutdown.cancelled().await;
        queue.close();
        followers.shutdown().await;
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(controller = controller.name(), %error, "worker died");
            }
        }
    }
}

struct Worker<C: Controller> {
    controller: Arc<C>,
    executor: Executor,
    queue: Queue<C::Key>,
    shutdown: CancellationToken,
}

impl<C: Controller> Worker<C> {
    async fn run(self) {
        while let Some(key) = self.queue.next().await {
            self.reconcile(&key).await;
            self.queue.done(&key);
        }
    }

    async fn reconcile(&self, key: &C::Key) {
        let began = Instant::now();
        let (name, metrics) = (self.controller.name(), self.executor.metrics());
        let snapshot = match self.controller.snapshot(key).await {
            Ok(Some(snapshot)) => snapshot,
            Ok(None) => {
                self.queue.forget(key);
                return;
            }
            Err(error) => {
                let error = crate::chain(&error);
                tracing::warn!(controller = name, %key, %error, "no snapshot, trying again");
                metrics.reconciled(began.elapsed(), true, false);
                self.queue.add_failed(key.clone());
                return;
            }
        };
        let now = Timestamp::now();
        let plan = self.controller.plan(&snapshot, now);
        drop(snapshot);
        if !plan.report.is_empty() {
            tracing::debug!(controller = name, %key, report = ?plan.report, "planned");
        }
        let requeue_at = plan.requeue_at;
        let outcome = self.executor.apply(plan.actions).await;
        self.controller.settled(key, &outcome);
        tokio::select! {
            () = self.shutdown.cancelled() => {}
            () = self.executor.observed(&outcome) => {}
        }
        let conflict = outcome.failure.as_ref().is_some_and(Failure::is_conflict);
        metrics.reconciled(began.elapsed(), outcome.failure.is_some(), conflict);
        match outcome.failure {
            None => self.queue.forget(key),
            Some(error) if conflict => {
                tracing::debug!(controller = name, %key, %error, "stale view, trying again");
                self.queue.add_failed(key.clone());
            }
            Some(error) => {
                let why = error.message();
                tracing::warn!(controller = name, %key, %error, %why, "trying again");
                self.queue.add_failed(key.clone());
            }
        }
        if let Some(at) = requeue_at {
            let delay = at.duration_since(now).unsigned_abs();
            self.queue.add_after(key.clone(), if at > now { delay } else { BACKOFF_MIN });
        }
    }
}
