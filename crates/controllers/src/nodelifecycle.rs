//! Node lifecycle: watches nodes, their Leases and their pods.
//!
//! A renewed Lease is only noted, with the time by this process' clock; the plan looks at the
//! note when a node's grace would end. So a healthy node costs one plan per grace period.

use std::collections::HashMap;
use std::sync::Arc;

use coracle_client::driver::{Controller, Driver, SnapshotError};
use coracle_client::{Change, Informer, Informers, ObjectKey};
use coracle_plan::controllers::action::Plan;
use coracle_plan::controllers::nodelifecycle::{self, Snapshot};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use parking_lot::Mutex;

/// Where kubelets keep their Leases, one per node and of its name.
const LEASES: &str = "kube-node-lease";
/// The index of pods by node.
const BY_NODE: &str = "node";

/// What is remembered of a node.
struct Known {
    heard_at: Timestamp,
    /// The `NoExecute` taints it has, and since when.
    taints: Vec<(String, Option<String>)>,
    tainted_at: Timestamp,
}

impl Known {
    fn new(now: Timestamp) -> Self {
        Known { heard_at: now, taints: Vec::new(), tainted_at: now }
    }
}

type Memory = Arc<Mutex<HashMap<String, Known>>>;

pub(crate) struct NodeLifecycle {
    nodes: Informer<Node>,
    pods: Informer<Pod>,
    memory: Memory,
}

pub(crate) fn driver(client: &kube::Client, informers: &Informers) -> Driver<NodeLifecycle> {
    let nodes = informers.get::<Node>();
    let leases = informers.get::<Lease>();
    let pods = informers.get::<Pod>();
    pods.add_index(BY_NODE, |pod| node_of(pod).map(str::to_owned).into_iter().collect());
    let memory = Memory::default();
    let controller = NodeLifecycle { nodes: nodes.clone(), pods: pods.clone(), memory: Arc::clone(&memory) };
    let (by_lease, by_status, known) = (Arc::clone(&memory), memory, nodes.clone());
    Driver::new(client.clone(), controller)
        .watch(&leases, move |change, _queue| {
            let meta = &change.object().metadata;
            let renews = !matches!(change, Change::Deleted(_));
            if let (true, Some(LEASES), Some(name)) = (renews, meta.namespace.as_deref(), &meta.name) {
                note(&by_lease, name);
            }
        })
        .watch(&nodes, move |change, queue| {
            let node = change.object();
            let name = node.metadata.name.clone().unwrap_or_default();
            match change {
                Change::Added(_) => note(&by_status, &name),
                Change::Updated { old, new } if heartbeat(old) != heartbeat(new) => {
                    note(&by_status, &name);
                }
                Change::Updated { .. } => {}
                Change::Deleted(_) => {
                    by_status.lock().remove(&name);
                }
            }
            queue.add(ObjectKey::of(&**node));
        })
        .watch(&pods, move |change, queue| {
            if matches!(change, Change::Deleted(_)) {
                return;
            }
            let node = node_of(change.object()).and_then(|name| known.get(None, name));
            if let Some(node) = node.filter(|node| !no_execute(node).is_empty()) {
                queue.add(ObjectKey::of(&*node));
            }
        })
}

/// Remembers that a node was heard of just now.
fn note(memory: &Memory, name: &str) {
    let now = Timestamp::now();
    let mut memory = memory.lock();
    memory.entry(name.to_owned()).or_insert_with(|| Known::new(now)).heard_at = now;
}

/// When the kubelet last vouched for the node; this controller's own writes leave it alone.
fn heartbeat(node: &Node) -> Option<&Time> {
    let conditions = node.status.as_ref()?.conditions.as_ref()?;
    let ready = conditions.iter().find(|condition| condition.type_ == "Ready")?;
    ready.last_heartbeat_time.as_ref()
}

fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref().filter(|name| !name.is_empty())
}

fn no_execute(node: &Node) -> Vec<&Taint> {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
    taints.into_iter().flatten().filter(|taint| taint.effect == "NoExecute").collect()
}

impl Controller for NodeLifecycle {
    type Key = ObjectKey;
    type Snapshot = Snapshot;

    fn name(&self) -> &'static str {
        "node-lifecycle-controller"
    }

    async fn snapshot(&self, key: &ObjectKey) -> Result<Option<Snapshot>, SnapshotError> {
        let Some(node) = self.nodes.get_key(key) else { return Ok(None) };
        let now = Timestamp::now();
        let taints: Vec<(String, Option<String>)> =
            no_execute(&node).into_iter().map(|taint| (taint.key.clone(), taint.value.clone())).collect();
        let mut memory = self.memory.lock();
        let known = memory.entry(key.name.clone()).or_insert_with(|| Known::new(now));
        if known.taints != taints {
            known.taints = taints;
            known.tainted_at = now;
        }
        let (heard_at, tainted_at) = (known.heard_at, known.tainted_at);
        drop(memory);
        let pods = self.pods.by_index(BY_NODE, &key.name);
        Ok(Some(Snapshot { node, heard_at, tainted_at, pods }))
    }

    fn plan(&self, snapshot: &Snapshot, now: Timestamp) -> Plan {
        nodelifecycle::plan(snapshot, now)
    }
}
