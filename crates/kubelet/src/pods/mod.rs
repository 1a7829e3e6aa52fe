//! The pods of this node: one entry each, and a task only while there is something to do.
//!
//! News about a pod (its object, its containers, its probes) goes into the entry's inbox
//! and, if no worker runs for it, starts one. A worker handles one pod, one round at a time,
//! until the inbox is empty and the plan has no actions; then it ends, and the pod costs
//! memory only. Whatever must happen later is a call in [`Timers`].

mod act;
mod look;
mod report;
mod start;
mod worker;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use coracle_client::Change;
use coracle_cri::runtime::v1 as cri;
use coracle_plan::kubelet::probe::{ContainerProbes, ProbeKind};
use coracle_plan::kubelet::{ContainerPhase, ContainerRecord, Sandbox};
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::convert::{self, PodId};
use crate::shared::Shared;
use crate::timers::Timers;
use worker::Worker;

/// All pods of the node by uid.
pub(crate) struct Pods {
    entries: Mutex<HashMap<String, Arc<PodEntry>>>,
    timers: Timers<String>,
}

/// One pod.
pub(crate) struct PodEntry {
    /// Which one.
    pub(crate) id: PodId,
    inbox: Mutex<Inbox>,
    /// Counts news that must interrupt what the worker is doing.
    urgent: watch::Sender<u64>,
    worker: tokio::sync::Mutex<Worker>,
    seen: Mutex<Arc<Seen>>,
}

/// What a worker last knew of its pod, for everybody else.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) pod: Arc<Pod>,
    pub(crate) sandboxes: Vec<Sandbox>,
    pub(crate) containers: Vec<ContainerRecord>,
    pub(crate) probes: BTreeMap<String, ContainerProbes>,
}

/// What the runtime's lists say about one pod.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Found {
    /// Sandboxes: id, whether ready.
    pub(crate) sandboxes: Vec<(String, bool)>,
    /// Containers: id, sandbox, state.
    pub(crate) containers: Vec<(String, String, ContainerPhase)>,
}

/// The result of one probe.
#[derive(Debug)]
pub(crate) struct ProbeResult {
    pub(crate) container_id: String,
    pub(crate) kind: ProbeKind,
    pub(crate) success: bool,
}

#[derive(Default)]
struct Inbox {
    /// A worker runs, or is about to.
    queued: bool,
    news: Option<News>,
}

/// What has come in since the worker last looked.
#[derive(Default)]
struct News {
    pod: Option<Arc<Pod>>,
    gone: bool,
    found: Option<Found>,
    touched: BTreeSet<String>,
    probes: Vec<ProbeResult>,
}

impl Pods {
    pub(crate) fn new() -> Self {
        Self { entries: Mutex::new(HashMap::new()), timers: Timers::new() }
    }

    /// Takes in a change of the pods bound to this node.
    pub(crate) fn changed(
        &self,
        shared: &Arc<Shared>,
        change: &Change<Pod>,
        start: &mut HashMap<String, Found>,
    ) {
        match change {
            Change::Added(pod) => self.upsert(shared, pod, start),
            Change::Updated { old, new } => {
                if old.metadata.uid != new.metadata.uid {
                    self.removed(shared, old);
                }
                self.upsert(shared, new, start);
            }
            Change::Deleted(pod) => self.removed(shared, pod),
        }
    }

    fn upsert(&self, shared: &Arc<Shared>, pod: &Arc<Pod>, start: &mut HashMap<String, Found>) {
        let Some(id) = PodId::of(pod) else { return };
        let mut entries = self.entries.lock();
        let known = entries.get(&id.uid).map(Arc::clone);
        let entry = known.unwrap_or_else(|| {
            let entry = Arc::new(PodEntry::new(id.clone(), Arc::clone(pod)));
            entries.insert(id.uid.clone(), Arc::clone(&entry));
            entry
        });
        drop(entries);
        let found = start.remove(&id.uid);
        let urgent = entry.is_urgent(pod);
        entry.tell(shared, urgent, |news| {
            news.pod = Some(Arc::clone(pod));
            if found.is_some() {
                news.found = found;
            }
        });
    }

    fn removed(&self, shared: &Arc<Shared>, pod: &Pod) {
        let entry = pod.metadata.uid.as_deref().and_then(|uid| self.get(uid));
        if let Some(entry) = entry {
            entry.tell(shared, true, |news| news.gone = true);
        }
    }

    /// Takes in a complete list of what the runtime has; the uids that belong to no pod.
    pub(crate) fn relisted(&self, shared: &Arc<Shared>, mut found: HashMap<String, Found>) -> Vec<String> {
        for entry in self.all() {
            let found = found.remove(&entry.id.uid).unwrap_or_default();
            if !entry.seen().agrees(&found) {
                entry.tell(shared, false, |news| news.found = Some(found));
            }
        }
        found.into_keys().collect()
    }

    /// Something happened to a container.
    pub(crate) fn touched(&self, shared: &Arc<Shared>, uid: &str, container_id: &str) {
        if let Some(entry) = self.get(uid) {
            entry.tell(shared, false, |news| {
                news.touched.insert(container_id.to_owned());
            });
        }
    }

    /// A probe has run.
    pub(crate) fn probed(&self, shared: &Arc<Shared>, uid: &str, result: ProbeResult) {
        if let Some(entry) = self.get(uid) {
            entry.tell(shared, false, |news| news.probes.push(result));
        }
    }

    /// Has a pod looked at again.
    pub(crate) fn wake(&self, shared: &Arc<Shared>, uid: &str) {
        if let Some(entry) = self.get(uid) {
            entry.tell(shared, false, |_| {});
        }
    }

    /// The pod with this uid.
    pub(crate) fn get(&self, uid: &str) -> Option<Arc<PodEntry>> {
        self.entries.lock().get(uid).map(Arc::clone)
    }

    /// The newest pod of this name.
    pub(crate) fn find(&self, namespace: &str, name: &str) -> Option<Arc<PodEntry>> {
        let mut found: Vec<_> =
            self.all().into_iter().filter(|e| e.id.namespace == namespace && e.id.name == name).collect();
        found.sort_by_key(|e| e.seen().pod.metadata.creation_timestamp.as_ref().map(|t| t.0));
        found.pop()
    }

    /// Every pod.
    pub(crate) fn all(&self) -> Vec<Arc<PodEntry>> {
        self.entries.lock().values().map(Arc::clone).collect()
    }

    fn forget(&self, shared: &Shared, uid: &str) {
        self.timers.clear(&uid.to_owned());
        self.entries.lock().remove(uid);
        shared.objects.forget(uid);
    }

    /// Wakes pods when their time has come; never ends.
    pub(crate) async fn run_timers(shared: Arc<Shared>) {
        loop {
            let uid = shared.pods.timers.next().await;
            shared.pods.wake(&shared, &uid);
        }
    }
}

impl PodEntry {
    fn new(id: PodId, pod: Arc<Pod>) -> Self {
        let seen = Seen { pod: Arc::clone(&pod), ..Seen::default() };
        Self {
            id,
            inbox: Mutex::new(Inbox::default()),
            urgent: watch::Sender::new(0),
            worker: tokio::sync::Mutex::new(Worker::new(pod)),
            seen: Mutex::new(Arc::new(seen)),
        }
    }

    /// What the worker last knew.
    pub(crate) fn seen(&self) -> Arc<Seen> {
        Arc::clone(&self.seen.lock())
    }

    /// Adds news and makes sure that a worker looks at it; `urgent` news interrupt what it
    /// is doing. Both happen under one lock, so that a worker that has taken the news is not
    /// interrupted for them again.
    fn tell(self: &Arc<Self>, shared: &Arc<Shared>, urgent: bool, add: impl FnOnce(&mut News)) {
        let mut inbox = self.inbox.lock();
        add(inbox.news.get_or_insert_default());
        if urgent {
            self.urgent.send_modify(|count| *count += 1);
        }
        let start = !inbox.queued;
        inbox.queued = true;
        drop(inbox);
        if start {
            tokio::spawn(worker::run(Arc::clone(shared), Arc::clone(self)));
        }
    }

    /// The news so far; `None` ends the worker.
    fn take(&self) -> Option<News> {
        let mut inbox = self.inbox.lock();
        let news = inbox.news.take();
        if news.is_none() {
            inbox.queued = false;
        }
        news
    }

    fn has_news(&self) -> bool {
        self.inbox.lock().news.is_some()
    }

    /// Whether `pod` is to end sooner than was known.
    fn is_urgent(&self, pod: &Pod) -> bool {
        let known = self.seen();
        let ending = |pod: &Pod| {
            let meta = &pod.metadata;
            (meta.deletion_timestamp.is_some(), meta.deletion_grace_period_seconds)
        };
        ending(pod) != ending(&known.pod)
    }
}

impl Seen {
    /// Whether the runtime's lists hold nothing new.
    fn agrees(&self, found: &Found) -> bool {
        let sandboxes: BTreeSet<(&str, bool)> =
            self.sandboxes.iter().map(|s| (s.id.as_str(), s.ready)).collect();
        let containers: HashMap<&str, ContainerPhase> =
            self.containers.iter().map(|c| (c.id.as_str(), c.state)).collect();
        let found_sandboxes: BTreeSet<(&str, bool)> =
            found.sandboxes.iter().map(|(id, ready)| (id.as_str(), *ready)).collect();
        let found_containers: HashMap<&str, ContainerPhase> =
            found.containers.iter().map(|(id, _, state)| (id.as_str(), *state)).collect();
        sandboxes == found_sandboxes && containers == found_containers
    }
}

impl Found {
    /// Adds a sandbox of a list.
    pub(crate) fn add_sandbox(&mut self, sandbox: &cri::PodSandbox) {
        let ready = sandbox.state() == cri::PodSandboxState::SandboxReady;
        self.sandboxes.push((sandbox.id.clone(), ready));
    }

    /// Adds a container of a list.
    pub(crate) fn add_container(&mut self, container: &cri::Container) {
        let state = convert::phase(container.state());
        self.containers.push((container.id.clone(), container.pod_sandbox_id.clone(), state));
    }
}
