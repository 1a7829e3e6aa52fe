//! Deployment: watches Deployments, ReplicaSets, and (for `Recreate`) the end of pods.

use coracle_client::driver::{Controller, Driver, Queue, SnapshotError};
use coracle_client::{Change, Informer, Informers, ObjectKey};
use coracle_plan::controllers::action::Plan;
use coracle_plan::controllers::deployment::{self, Snapshot};
use coracle_plan::controllers::object;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;

use crate::owners;

pub(crate) struct Deployments {
    deployments: Informer<Deployment>,
    sets: Informer<ReplicaSet>,
    pods: Informer<Pod>,
}

pub(crate) fn driver(client: &kube::Client, informers: &Informers) -> Driver<Deployments> {
    let deployments = informers.get::<Deployment>();
    let sets = informers.get::<ReplicaSet>();
    let pods = informers.get::<Pod>();
    owners::index_by_controller(&sets);
    owners::index_by_controller(&pods);
    let controller = Deployments { deployments: deployments.clone(), sets: sets.clone(), pods: pods.clone() };
    let (known, known_sets, recreated) = (deployments.clone(), sets.clone(), deployments.clone());
    Driver::new(client.clone(), controller)
        .watch(&deployments, |change, queue| queue.add(ObjectKey::of(&**change.object())))
        .watch(&sets, move |change, queue| {
            owners::add_managers(change, "Deployment", queue);
            if owners::is_orphan(change) {
                add_selecting(&known, change, queue);
            }
        })
        .watch(&pods, move |change, queue| {
            let ended = match change {
                Change::Deleted(_) => true,
                Change::Updated { old, new } => object::is_finished(new) && !object::is_finished(old),
                Change::Added(_) => false,
            };
            if ended {
                add_recreating(&known_sets, &recreated, change.object(), queue);
            }
        })
}

/// Adds the Deployments that may adopt a ReplicaSet.
fn add_selecting(deployments: &Informer<Deployment>, change: &Change<ReplicaSet>, queue: &Queue<ObjectKey>) {
    let meta = &change.object().metadata;
    for deployment in deployments.list_in(meta.namespace.as_deref().unwrap_or_default()) {
        let selector = deployment.spec.as_ref().map(|spec| &spec.selector);
        if selector.is_some_and(|wants| object::selects(wants, meta.labels.as_ref())) {
            queue.add(ObjectKey::of(&*deployment));
        }
    }
}

/// Adds the Deployment that waits for this pod's end, if there is one.
fn add_recreating(
    sets: &Informer<ReplicaSet>,
    deployments: &Informer<Deployment>,
    pod: &Pod,
    queue: &Queue<ObjectKey>,
) {
    let namespace = pod.metadata.namespace.as_deref();
    let owner = object::controller_of(&pod.metadata).filter(|owner| owner.kind == "ReplicaSet");
    let Some(set) = owner.and_then(|owner| sets.get(namespace, &owner.name)) else { return };
    let Some(owner) = object::controller_of(&set.metadata) else { return };
    let Some(deployment) = deployments.get(namespace, &owner.name) else { return };
    let strategy = deployment.spec.as_ref().and_then(|spec| spec.strategy.as_ref());
    if strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("Recreate") {
        queue.add(ObjectKey::of(&*deployment));
    }
}

impl Controller for Deployments {
    type Key = ObjectKey;
    type Snapshot = Snapshot;

    fn name(&self) -> &'static str {
        "deployment-controller"
    }

    async fn snapshot(&self, key: &ObjectKey) -> Result<Option<Snapshot>, SnapshotError> {
        let Some(deployment) = self.deployments.get_key(key) else { return Ok(None) };
        let uid = object::uid(&deployment.metadata);
        let replica_sets = owners::candidates(&self.sets, uid, &key.namespace);
        let prefix = format!("{}-", key.name);
        let all = self.sets.list_in(&key.namespace);
        let names = all.iter().map(|set| object::name(&set.metadata));
        let taken_names = names.filter(|name| name.starts_with(&prefix)).map(str::to_owned).collect();
        let strategy = deployment.spec.as_ref().and_then(|spec| spec.strategy.as_ref());
        let recreates = strategy.and_then(|one| one.type_.as_deref()) == Some("Recreate");
        let mut pods = Vec::new();
        if recreates {
            for set in owners::managed_by(&self.sets, uid) {
                pods.extend(owners::managed_by(&self.pods, object::uid(&set.metadata)));
            }
        }
        Ok(Some(Snapshot { deployment, replica_sets, taken_names, pods }))
    }

    fn plan(&self, snapshot: &Snapshot, now: Timestamp) -> Plan {
        deployment::plan(snapshot, now)
    }
}
