//! One pod's worker: takes news in, looks, plans, acts, reports; until there is nothing
//! left to do now.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use coracle_client::events::Type;
use coracle_plan::kubelet::backoff::{API, Failure, add_seconds};
use coracle_plan::kubelet::probe::{ContainerProbes, ProbeKind, Timing};
use coracle_plan::kubelet::{
    Action, ApiDelete, ContainerPhase, ContainerRecord, Memory, Plan, PodView, Sandbox, Volumes, containers,
    field_path, plan,
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod};
use tokio::time::Instant;

use super::report::Written;
use super::{Found, News, PodEntry, Seen, act, look};
use crate::probes::ProbeKey;
use crate::shared::Shared;

/// Plans made in a row before a worker takes a rest: more than any pod needs, few enough
/// that a plan which never comes to an end cannot spin.
const ROUNDS_MAX: usize = 32;
/// The rest after an action that failed without a back-off of its own, in seconds.
const STUCK_PAUSE_S: i64 = 2;
/// How long actions may take before the status is written without their outcome.
const INTERIM_DELAY: Duration = Duration::from_millis(250);
/// How old a mounted ConfigMap, Secret or token may be before it is looked at again, in
/// seconds.
const REFRESH_S: i64 = 60;

/// What a worker keeps between its runs.
pub(super) struct Worker {
    pub(super) known: Known,
    pub(super) written: Written,
}

/// What is known of a pod.
pub(super) struct Known {
    pub(super) pod: Arc<Pod>,
    pub(super) gone: bool,
    /// When this kubelet first saw the pod.
    pub(super) since: Instant,
    pub(super) sandboxes: Vec<Sandbox>,
    pub(super) containers: Vec<ContainerRecord>,
    pub(super) memory: Memory,
    /// False when an interrupted call may have left something that is not known here.
    pub(super) complete: bool,
    pub(super) found: Option<Found>,
    pub(super) touched: BTreeSet<String>,
    /// When the contents of the volumes are to be looked at again.
    pub(super) refresh_at: Option<Timestamp>,
}

/// How a worker comes to rest.
enum Rest {
    /// Nothing is left of the pod.
    Finished,
    /// Until something happens, or this time.
    Until(Option<Timestamp>),
}

impl Worker {
    pub(super) fn new(pod: Arc<Pod>) -> Self {
        let memory = Memory { first_seen: Some(Timestamp::now()), ..Memory::default() };
        let known = Known {
            pod,
            gone: false,
            since: Instant::now(),
            sandboxes: Vec::new(),
            containers: Vec::new(),
            memory,
            complete: true,
            found: None,
            touched: BTreeSet::new(),
            refresh_at: None,
        };
        Self { known, written: Written::default() }
    }
}

/// Works for one pod until its inbox is empty and nothing is to be done.
pub(super) async fn run(shared: Arc<Shared>, entry: Arc<PodEntry>) {
    let mut worker = entry.worker.lock().await;
    while let Some(news) = entry.take() {
        worker.known.take_in(news);
        let rest = Box::pin(sync(&shared, &entry, &mut worker)).await;
        publish(&entry, &worker.known);
        let until = match rest {
            Rest::Finished => {
                shared.pods.forget(&shared, &entry.id.uid);
                return;
            }
            Rest::Until(until) => until,
        };
        schedule_probes(&shared, &entry, &worker.known);
        match until {
            Some(at) => shared.pods.timers.set(entry.id.uid.clone(), until_then(at)),
            None => shared.pods.timers.clear(&entry.id.uid),
        }
    }
}

/// The time from now to `at`.
pub(super) fn until_then(at: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or(Duration::ZERO)
}

async fn sync(shared: &Shared, entry: &PodEntry, worker: &mut Worker) -> Rest {
    let Worker { known, written } = worker;
    for _ in 0..ROUNDS_MAX {
        if let Err(error) = look::look(shared, entry, known).await {
            tracing::debug!(pod = %entry.id.name, %error, "the runtime cannot be asked");
            return Rest::Until(Some(add_seconds(Timestamp::now(), STUCK_PAUSE_S)));
        }
        known.begin_probes();
        let next = next_plan(shared, known, written);
        announce(shared, entry, known, &next);
        publish(entry, known);
        if next.finished {
            return Rest::Finished;
        }
        if next.actions.is_empty() {
            return settle(shared, entry, known, written, &next).await;
        }
        if !perform(shared, entry, known, written, &next).await {
            return Rest::Until(Some(add_seconds(Timestamp::now(), STUCK_PAUSE_S)));
        }
        if entry.has_news() {
            return Rest::Until(None);
        }
    }
    tracing::warn!(pod = %entry.id.name, "a pod's plan does not come to an end");
    Rest::Until(Some(add_seconds(Timestamp::now(), STUCK_PAUSE_S)))
}

fn next_plan(shared: &Shared, known: &mut Known, written: &Written) -> Plan {
    let now = Timestamp::now();
    let due = known.refresh_at.is_some_and(|at| at <= now);
    if due && !known.is_ending() && known.memory.volumes == Volumes::Mounted {
        known.memory.volumes = Volumes::Unmounted;
    }
    let facts = shared.facts();
    let status: Cow<'_, _> = written.newest(&known.pod);
    let mut next = plan(&PodView {
        pod: &known.pod,
        gone: known.gone,
        status: &status,
        node: &facts,
        sandboxes: &known.sandboxes,
        containers: &known.containers,
        memory: &known.memory,
        now,
    });
    let mounted = known.memory.volumes == Volumes::Mounted && !known.is_ending();
    let refresh = known.refresh_at.filter(|_| mounted);
    next.requeue_at = earliest(next.requeue_at, refresh);
    next
}

/// Executes a plan's actions; false when one failed that has no back-off of its own.
async fn perform(
    shared: &Shared,
    entry: &PodEntry,
    known: &mut Known,
    written: &mut Written,
    next: &Plan,
) -> bool {
    let mut urgent = entry.urgent.subscribe();
    if next.actions.contains(&Action::DeletePod)
        && let Some(status) = &next.status
        && let Err(message) = written.write(shared, entry, &known.pod, status).await
    {
        known.delete_failed(message);
        return true;
    }
    // News that came before now are in the inbox, and `take` will hand them out.
    urgent.mark_unchanged();
    if entry.has_news() {
        return true;
    }
    // The end of a pod is a row of short calls; the news of its deletion, which it causes
    // itself, shall not interrupt it.
    let interruptible = !next.actions.contains(&Action::DeletePod);
    let outcome = {
        let mut work = Box::pin(act::act(shared, entry, known, &next.actions));
        tokio::select! {
            biased;
            done = &mut work => Some(done),
            _ = urgent.changed(), if interruptible => None,
            () = tokio::time::sleep(INTERIM_DELAY) => {
                let report = async {
                    if let Some(status) = &next.status {
                        // A failure shows again when the pod comes to rest.
                        let pod = entry.seen().pod.clone();
                        let _ = written.write(shared, entry, &pod, status).await;
                    }
                };
                tokio::select! {
                    done = async { tokio::join!(&mut work, report).0 } => Some(done),
                    _ = urgent.changed(), if interruptible => None,
                }
            }
        }
    };
    if outcome.is_none() {
        // A call was dropped half way: what it made is only known to the runtime.
        known.complete = false;
    }
    outcome.unwrap_or(true)
}

/// Writes the status, unless it is about to change again.
async fn settle(
    shared: &Shared,
    entry: &PodEntry,
    known: &mut Known,
    written: &mut Written,
    next: &Plan,
) -> Rest {
    let hold = next.hold_until.filter(|at| *at > Timestamp::now());
    let mut until = earliest(next.requeue_at, hold);
    if let (None, Some(status)) = (hold, &next.status)
        && let Err(message) = written.write(shared, entry, &known.pod, status).await
    {
        tracing::debug!(pod = %entry.id.name, %message, "the status cannot be written");
        until = earliest(until, written.retry_at());
    }
    Rest::Until(until)
}

fn announce(shared: &Shared, entry: &PodEntry, known: &mut Known, next: &Plan) {
    for event in &next.events {
        let path = known.path_of(&event.container);
        shared.event(&entry.id, path, Type::Warning, event.reason, &event.message);
        known.memory.announced.insert(event.container.clone(), event.until);
    }
}

fn publish(entry: &PodEntry, known: &Known) {
    let seen = Seen {
        pod: Arc::clone(&known.pod),
        sandboxes: known.sandboxes.clone(),
        containers: known.containers.clone(),
        probes: known.memory.probes.clone(),
    };
    *entry.seen.lock() = Arc::new(seen);
}

/// Makes sure that every probe that should run has its next call set.
fn schedule_probes(shared: &Shared, entry: &PodEntry, known: &Known) {
    for record in known.containers.iter().filter(|c| c.state == ContainerPhase::Running) {
        let Some(probes) = known.memory.probes.get(&record.id) else { continue };
        let Some(container) = known.container(&record.name) else { continue };
        for kind in ProbeKind::ALL.into_iter().filter(|kind| probes.wants(*kind)) {
            let Some(probe) = kind.of(container) else { continue };
            let first = Timing::of(probe).next_run(record.started_at.unwrap_or(record.created_at), None);
            let key = ProbeKey { uid: entry.id.uid.clone(), container_id: record.id.clone(), kind };
            shared.probes.ensure(key, until_then(first));
        }
    }
}

impl Known {
    fn take_in(&mut self, news: News) {
        if let Some(pod) = news.pod {
            self.pod = pod;
        }
        self.gone |= news.gone;
        if news.found.is_some() {
            self.found = news.found;
        }
        self.touched.extend(news.touched);
        for result in news.probes {
            let name = self.containers.iter().find(|c| c.id == result.container_id);
            let Some(name) = name.map(|c| c.name.clone()) else { continue };
            let pod = Arc::clone(&self.pod);
            let probe = container_of(&pod, &name).and_then(|c| result.kind.of(c));
            let Some(probe) = probe else { continue };
            if let Some(probes) = self.memory.probes.get_mut(&result.container_id) {
                probes.record(result.kind, probe, result.success);
            }
        }
    }

    /// Opens the books of containers that have begun to run.
    fn begin_probes(&mut self) {
        self.memory.retain_probes(&self.containers);
        let pod = Arc::clone(&self.pod);
        for record in self.containers.iter().filter(|c| c.state == ContainerPhase::Running) {
            if self.memory.probes.contains_key(&record.id) {
                continue;
            }
            let Some(container) = container_of(&pod, &record.name) else { continue };
            let status = pod.status.as_ref();
            let stored = status.and_then(|s| {
                let init = s.init_container_statuses.iter().flatten();
                init.chain(s.container_statuses.iter().flatten())
                    .find(|c| c.container_id.as_deref().is_some_and(|id| id.ends_with(&record.id)))
            });
            let ready = stored.is_some_and(|s| s.ready);
            let started = stored.is_some_and(|s| s.started == Some(true));
            let probes = ContainerProbes::new(container, ready, started);
            if !probes.is_empty() {
                self.memory.probes.insert(record.id.clone(), probes);
            }
        }
    }

    /// The specification of a container.
    pub(super) fn container(&self, name: &str) -> Option<&Container> {
        container_of(&self.pod, name)
    }

    /// Where events about a container point.
    pub(super) fn path_of(&self, name: &str) -> Option<String> {
        let spec = self.pod.spec.as_ref()?;
        let (kind, _) = containers(spec).find(|(_, c)| c.name == name)?;
        Some(field_path(kind, name))
    }

    fn is_ending(&self) -> bool {
        self.gone || self.pod.metadata.deletion_timestamp.is_some()
    }

    /// Notes that the pod's object could not be deleted.
    pub(super) fn delete_failed(&mut self, message: String) {
        let previous = match &self.memory.delete {
            ApiDelete::Failed(failure) => Some(failure),
            _ => None,
        };
        let failure = Failure::after(previous, API, "FailedDelete", message, Timestamp::now());
        self.memory.delete = ApiDelete::Failed(failure);
    }

    /// Whether the deletion of the pod's object has failed and waits for its next attempt.
    pub(super) fn delete_is_waiting(&self) -> bool {
        matches!(&self.memory.delete, ApiDelete::Failed(f) if f.waits(Timestamp::now()))
    }

    /// Notes that the volumes have been set up just now.
    pub(super) fn mounted(&mut self) {
        self.memory.volumes = Volumes::Mounted;
        let spec = self.pod.spec.as_ref();
        let changing = spec.is_some_and(|spec| {
            let mut volumes = spec.volumes.iter().flatten();
            volumes.any(|v| {
                v.config_map.is_some()
                    || v.secret.is_some()
                    || v.projected.is_some()
                    || v.downward_api.is_some()
            })
        });
        self.refresh_at = changing.then(|| add_seconds(Timestamp::now(), REFRESH_S));
    }
}

fn container_of<'a>(pod: &'a Pod, name: &str) -> Option<&'a Container> {
    containers(pod.spec.as_ref()?).map(|(_, c)| c).find(|c| c.name == name)
}

/// The earlier of two times, where there are any.
fn earliest(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
