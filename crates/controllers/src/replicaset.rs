//! ReplicaSet: watches ReplicaSets and pods.

use std::collections::HashMap;
use std::sync::Arc;

use coracle_client::driver::{Controller, Driver, Outcome, SnapshotError};
use coracle_client::{Informer, Informers, ObjectKey};
use coracle_plan::controllers::action::Plan;
use coracle_plan::controllers::object;
use coracle_plan::controllers::replicaset::{self, ManageFailure, Snapshot};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;

use crate::owners;

pub(crate) struct ReplicaSets {
    sets: Informer<ReplicaSet>,
    pods: Informer<Pod>,
    /// The last failure of each set that has one; cleared by its next success or its end.
    failures: Mutex<HashMap<ObjectKey, ManageFailure>>,
}

pub(crate) fn driver(client: &kube::Client, informers: &Informers) -> Driver<ReplicaSets> {
    let sets = informers.get::<ReplicaSet>();
    let pods = informers.get::<Pod>();
    owners::index_by_controller(&sets);
    owners::index_by_controller(&pods);
    let known = sets.clone();
    let controller = ReplicaSets { sets: sets.clone(), pods: pods.clone(), failures: Mutex::default() };
    Driver::new(client.clone(), controller)
        .watch(&sets, |change, queue| queue.add(ObjectKey::of(&**change.object())))
        .watch(&pods, move |change, queue| {
            owners::add_managers(change, "ReplicaSet", queue);
            if owners::is_orphan(change) {
                let meta = &change.object().metadata;
                for set in known.list_in(meta.namespace.as_deref().unwrap_or_default()) {
                    let selector = set.spec.as_ref().map(|spec| &spec.selector);
                    if selector.is_some_and(|wants| object::selects(wants, meta.labels.as_ref())) {
                        queue.add(ObjectKey::of(&*set));
                    }
                }
            }
        })
}

impl Controller for ReplicaSets {
    type Key = ObjectKey;
    type Snapshot = Snapshot;

    fn name(&self) -> &'static str {
        "replicaset-controller"
    }

    async fn snapshot(&self, key: &ObjectKey) -> Result<Option<Snapshot>, SnapshotError> {
        let Some(replica_set) = self.sets.get_key(key) else {
            self.failures.lock().remove(key);
            return Ok(None);
        };
        let uid = object::uid(&replica_set.metadata);
        let pods = owners::candidates(&self.pods, uid, &key.namespace);
        let wanted = replica_set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
        let shrinks = pods.len() > usize::try_from(wanted).unwrap_or(0);
        let related_per_node = if shrinks { self.related_per_node(&replica_set) } else { HashMap::new() };
        let failure = self.failures.lock().get(key).cloned();
        Ok(Some(Snapshot { replica_set, pods, related_per_node, failure }))
    }

    fn plan(&self, snapshot: &Snapshot, now: Timestamp) -> Plan {
        replicaset::plan(snapshot, now)
    }

    fn settled(&self, key: &ObjectKey, outcome: &Outcome) {
        let mut failures = self.failures.lock();
        match &outcome.failure {
            Some(failure) if failure.kind == "Pod" && failure.verb != "patch" => {
                let creating = failure.verb == "create";
                failures.insert(key.clone(), ManageFailure { creating, message: failure.message() });
            }
            Some(_) => {}
            None => {
                failures.remove(key);
            }
        }
    }
}

impl ReplicaSets {
    /// Active pods per node of all ReplicaSets with the same owner.
    fn related_per_node(&self, set: &Arc<ReplicaSet>) -> HashMap<String, usize> {
        let siblings = match object::controller_of(&set.metadata) {
            Some(owner) => owners::managed_by(&self.sets, &owner.uid),
            None => vec![Arc::clone(set)],
        };
        let mut counts = HashMap::new();
        for sibling in siblings {
            let pods = owners::managed_by(&self.pods, object::uid(&sibling.metadata));
            for pod in pods.iter().filter(|pod| object::is_active(pod)) {
                if let Some(node) = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()) {
                    *counts.entry(node).or_insert(0) += 1;
                }
            }
        }
        counts
    }
}
