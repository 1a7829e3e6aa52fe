//! Node IPAM: watches nodes. All of them are one key and one worker, so that no range is given
//! twice.

use coracle_client::driver::{Controller, Driver, SnapshotError};
use coracle_client::{Change, Informer, Informers, ObjectKey};
use coracle_plan::controllers::action::Plan;
use coracle_plan::controllers::nodeipam::{self, Range, Snapshot};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;

pub(crate) struct NodeIpam {
    nodes: Informer<Node>,
    range: Range,
}

pub(crate) fn driver(client: &kube::Client, informers: &Informers, range: Range) -> Driver<NodeIpam> {
    let nodes = informers.get::<Node>();
    let controller = NodeIpam { nodes: nodes.clone(), range };
    Driver::new(client.clone(), controller).workers(1).watch(&nodes, |change, queue| {
        // A deleted node's range may be what another waits for.
        let deleted = matches!(change, Change::Deleted(_));
        if deleted || nodeipam::ranges(change.object()).is_empty() {
            queue.add(ObjectKey::new("", "all nodes"));
        }
    })
}

impl Controller for NodeIpam {
    type Key = ObjectKey;
    type Snapshot = Snapshot;

    fn name(&self) -> &'static str {
        "node-ipam-controller"
    }

    async fn snapshot(&self, _key: &ObjectKey) -> Result<Option<Snapshot>, SnapshotError> {
        Ok(Some(Snapshot { nodes: self.nodes.list(), range: self.range }))
    }

    fn plan(&self, snapshot: &Snapshot, now: Timestamp) -> Plan {
        nodeipam::plan(snapshot, now)
    }
}
