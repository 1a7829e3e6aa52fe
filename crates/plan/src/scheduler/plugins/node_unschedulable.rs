//! NodeUnschedulable: a cordoned node takes no pods but those that tolerate the taint of
//! the same meaning.

use k8s_openapi::api::core::v1::Taint;

use super::taint_toleration::tolerates;
use crate::scheduler::framework::{
    ClusterEvent, CycleState, ExtensionPoints, Filter, Interest, Plugin, Rejection,
};
use crate::scheduler::node_info::NodeInfo;
use crate::scheduler::pod_info::PodInfo;

const NAME: &str = "NodeUnschedulable";
const REASON: &str = "node(s) were unschedulable";
const TAINT: &str = "node.kubernetes.io/unschedulable";

/// The plugin.
pub(super) struct NodeUnschedulable;

impl Plugin for NodeUnschedulable {
    fn name(&self) -> &'static str {
        NAME
    }

    fn register(&'static self, points: &mut ExtensionPoints) {
        points.filter.push(self);
    }

    fn interest(&self) -> Interest {
        Interest::NODE_ADDED | Interest::NODE_TAINTS
    }

    fn hint(&self, pod: &PodInfo, event: &ClusterEvent<'_>) -> bool {
        match event {
            ClusterEvent::NodeAdded(node) | ClusterEvent::NodeUpdated(node, _) => fits(pod, node),
            ClusterEvent::PodLeft(_) => false,
        }
    }
}

impl Filter for NodeUnschedulable {
    fn filter(&self, _state: &CycleState, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        if fits(pod, node) { Ok(()) } else { Err(Rejection::unresolvable(NAME, REASON)) }
    }
}

fn fits(pod: &PodInfo, node: &NodeInfo) -> bool {
    if !node.is_unschedulable() {
        return true;
    }
    let taint = Taint { key: TAINT.to_owned(), effect: "NoSchedule".to_owned(), ..Taint::default() };
    pod.tolerations().iter().any(|toleration| tolerates(toleration, &taint))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduler::testing::{MakeNode, MakePod};

    #[test]
    fn a_cordon_can_be_tolerated() {
        let cordoned = MakeNode::new("a").cordon().info();
        assert!(fits(&MakePod::new("p").info(), &MakeNode::new("a").info()));
        assert!(!fits(&MakePod::new("p").info(), &cordoned));
        let daemon = MakePod::new("p").tolerate(TAINT, "Exists", "", "NoSchedule").info();
        assert!(fits(&daemon, &cordoned));
    }
}
