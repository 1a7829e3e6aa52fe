//! Garbage collector: one metadata-only watch per served kind feeds the graph of ownership;
//! workers carry out what the graph calls for. Kinds come and go with their definitions.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use coracle_client::driver::{Executor, Queue};
use coracle_client::events::Recorder;
use coracle_plan::controllers::garbagecollector::{self, Decision, Graph};
use futures::StreamExt as _;
use futures::future::join_all;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Api, DynamicObject};
use kube::core::PartialObjectMeta;
use kube::runtime::watcher;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::discovery::{self, Served};

/// Objects that are looked at, at once.
const WORKERS: usize = 8;
/// The pause before the first watch: nothing of a cluster's start waits for this controller.
const START_DELAY: Duration = Duration::from_millis(500);
/// How long definitions have to be quiet before kinds are discovered anew.
const DISCOVERY_PAUSE: Duration = Duration::from_millis(200);
/// The pause after a failed discovery, and after a failed watch.
const RETRY: Duration = Duration::from_secs(1);
/// How long the workers wait for every kind's first list; owners unknown then are asked for.
const SYNC_MAX: Duration = Duration::from_secs(30);
/// Uids of absent owners that are remembered; beyond it all are forgotten and asked for again.
const ABSENT_MAX: usize = 10_000;

type Meta = PartialObjectMeta<DynamicObject>;

struct Shared {
    client: kube::Client,
    executor: Executor,
    queue: Queue<String>,
    facts: Mutex<Facts>,
    rediscover: Notify,
}

#[derive(Default)]
struct Facts {
    graph: Graph,
    /// Uids of owners that are gone; a uid never comes back.
    absent: HashSet<String>,
    /// Served kinds by group and kind.
    served: HashMap<(String, String), Served>,
}

/// Runs until shutdown.
pub(crate) async fn run(client: kube::Client, shutdown: CancellationToken) {
    tokio::select! {
        () = shutdown.cancelled() => return,
        () = tokio::time::sleep(START_DELAY) => {}
    }
    let recorder = Recorder::new(client.clone(), "garbage-collector", "");
    let shared = Arc::new(Shared {
        executor: Executor::new(client.clone(), recorder),
        client,
        queue: Queue::new(),
        facts: Mutex::default(),
        rediscover: Notify::new(),
    });
    let mut tasks = JoinSet::new();
    let (first, synced) = oneshot::channel();
    tasks.spawn(follow_kinds(Arc::clone(&shared), first));
    tokio::select! {
        () = shutdown.cancelled() => {}
        _ = tokio::time::timeout(SYNC_MAX, synced) => {}
    }
    for _ in 0..WORKERS {
        tasks.spawn(work(Arc::clone(&shared)));
    }
    shutdown.cancelled().await;
    shared.queue.close();
    tasks.shutdown().await;
}

/// Keeps one watch per served kind; tells `first` when the first ones have listed everything.
async fn follow_kinds(shared: Arc<Shared>, first: oneshot::Sender<()>) {
    let mut first = Some(first);
    let mut watches: HashMap<(String, String), tokio::task::JoinHandle<()>> = HashMap::new();
    let mut tasks = Watches(Vec::new());
    loop {
        let served = match discovery::deletable(&shared.client).await {
            Ok(served) => served,
            Err(error) => {
                tracing::warn!(%error, "kinds could not be discovered, trying again");
                tokio::time::sleep(RETRY).await;
                continue;
            }
        };
        let served: HashMap<(String, String), Served> = served
            .into_iter()
            .filter(|one| one.watchable && one.resource.plural != "events")
            .map(|one| ((one.resource.group.clone(), one.resource.kind.clone()), one))
            .collect();
        watches.retain(|key, watch| {
            let stays = served.contains_key(key);
            if !stays {
                watch.abort();
            }
            stays
        });
        let mut lists = Vec::new();
        for (key, one) in &served {
            if !watches.contains_key(key) {
                let (listed, wait) = oneshot::channel();
                let watch = tokio::spawn(follow(Arc::clone(&shared), one.clone(), listed));
                tasks.0.push(watch.abort_handle());
                watches.insert(key.clone(), watch);
                lists.push(wait);
            }
        }
        shared.facts.lock().served = served;
        if let Some(first) = first.take() {
            join_all(lists).await;
            // Nobody may be listening any more.
            let _ = first.send(());
        }
        shared.rediscover.notified().await;
        tokio::time::sleep(DISCOVERY_PAUSE).await;
    }
}

/// Ends the watches when the task that keeps them is ended.
struct Watches(Vec<tokio::task::AbortHandle>);

impl Drop for Watches {
    fn drop(&mut self) {
        for watch in &self.0 {
            watch.abort();
        }
    }
}

/// Feeds the graph with one kind's objects.
async fn follow(shared: Arc<Shared>, served: Served, listed: oneshot::Sender<()>) {
    let kind = Arc::new(served.kind());
    let defines_kinds = kind.plural == "customresourcedefinitions";
    let api = Api::<Meta>::all_with(shared.client.clone(), &served.resource);
    let config = watcher::Config::default().streaming_lists();
    let mut events = std::pin::pin!(watcher(api, config));
    let mut listed = Some(listed);
    let mut known: HashSet<String> = HashSet::new();
    let mut fresh: HashSet<String> = HashSet::new();
    let mut in_list = false;
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Init) => {
                fresh.clear();
                in_list = true;
            }
            Ok(watcher::Event::InitApply(object) | watcher::Event::Apply(object)) => {
                let uid = object.metadata.uid.clone().unwrap_or_default();
                if in_list {
                    fresh.insert(uid);
                } else {
                    known.insert(uid);
                }
                let look = shared.facts.lock().graph.observe(&kind, &object.metadata);
                shared.look_at(look);
            }
            Ok(watcher::Event::Delete(object)) => {
                let uid = object.metadata.uid.unwrap_or_default();
                known.remove(&uid);
                shared.forget(uid);
            }
            Ok(watcher::Event::InitDone) => {
                in_list = false;
                let old = std::mem::replace(&mut known, std::mem::take(&mut fresh));
                for uid in old.into_iter().filter(|uid| !known.contains(uid)) {
                    shared.forget(uid);
                }
                if let Some(listed) = listed.take() {
                    // Nobody may be listening any more.
                    let _ = listed.send(());
                }
            }
            Err(error) => {
                tracing::debug!(plural = %kind.plural, %error, "metadata watch failed");
                tokio::time::sleep(RETRY).await;
                continue;
            }
        }
        if defines_kinds {
            shared.rediscover.notify_one();
        }
    }
}

async fn work(shared: Arc<Shared>) {
    while let Some(uid) = shared.queue.next().await {
        if shared.look(&uid).await {
            shared.queue.forget(&uid);
        } else {
            shared.queue.add_failed(uid.clone());
        }
        shared.queue.done(&uid);
    }
}

impl Shared {
    fn look_at(&self, uids: Vec<String>) {
        for uid in uids {
            self.queue.add(uid);
        }
    }

    fn forget(&self, uid: String) {
        let mut facts = self.facts.lock();
        let look = facts.graph.forget(&uid);
        facts.mark_absent(uid);
        drop(facts);
        self.look_at(look);
    }

    /// Looks at one object; false if it has to be tried again.
    async fn look(&self, uid: &str) -> bool {
        let (unknown, namespace) = {
            let facts = self.facts.lock();
            let namespace = facts.graph.object(uid).and_then(|object| object.namespace.clone());
            (facts.graph.unknown_owners(uid, &facts.absent), namespace)
        };
        for owner in unknown {
            match self.is_absent(&owner, namespace.as_deref()).await {
                Ok(true) => self.facts.lock().mark_absent(owner.uid),
                Ok(false) => {}
                Err(error) => {
                    tracing::debug!(owner = %owner.name, %error, "owner could not be asked for");
                    return false;
                }
            }
        }
        let Decision { plan, also } = {
            let facts = self.facts.lock();
            garbagecollector::plan(&facts.graph, uid, &facts.absent)
        };
        self.look_at(also);
        if plan.actions.is_empty() {
            return true;
        }
        tracing::debug!(uid, report = ?plan.report, "collects");
        let outcome = self.executor.apply(plan.actions).await;
        match outcome.failure {
            None => true,
            Some(failure) if is_gone(&failure) => true,
            Some(failure) => {
                tracing::debug!(error = %failure, why = %failure.message(), "trying again");
                false
            }
        }
    }

    /// Asks the API server whether an owner is gone. Owners of kinds that are not served, or that
    /// a dependent cannot reach, are taken to be there.
    async fn is_absent(&self, owner: &OwnerReference, namespace: Option<&str>) -> Result<bool, kube::Error> {
        let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
        let key = (group.to_owned(), owner.kind.clone());
        let Some(served) = self.facts.lock().served.get(&key).cloned() else { return Ok(false) };
        let client = self.client.clone();
        let api: Api<Meta> = match (served.namespaced, namespace) {
            (false, _) => Api::all_with(client, &served.resource),
            (true, Some(namespace)) => Api::namespaced_with(client, namespace, &served.resource),
            (true, None) => return Ok(false),
        };
        let found = api.get_metadata_opt(&owner.name).await?;
        Ok(found.is_none_or(|found| found.metadata.uid.as_deref() != Some(owner.uid.as_str())))
    }
}

/// Whether what was to be changed is no longer there.
fn is_gone(failure: &coracle_client::driver::Failure) -> bool {
    matches!(&*failure.source, kube::Error::Api(status) if status.code == 404)
}

impl Facts {
    fn mark_absent(&mut self, uid: String) {
        if self.absent.len() >= ABSENT_MAX {
            self.absent.clear();
        }
        self.absent.insert(uid);
    }
}
