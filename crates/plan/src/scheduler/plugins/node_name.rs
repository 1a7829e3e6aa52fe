//! NodeName: a pod that names its node goes there and nowhere else. The API server's pods
//! that come with a node are not the scheduler's, so this only guards against mistakes.

use crate::scheduler::framework::{
    ClusterEvent, CycleState, ExtensionPoints, Filter, Interest, Plugin, Rejection,
};
use crate::scheduler::node_info::NodeInfo;
use crate::scheduler::pod_info::PodInfo;

const NAME: &str = "NodeName";
const REASON: &str = "node(s) didn't match the requested node name";

/// The plugin.
pub(super) struct NodeName;

impl Plugin for NodeName {
    fn name(&self) -> &'static str {
        NAME
    }

    fn register(&'static self, points: &mut ExtensionPoints) {
        points.filter.push(self);
    }

    fn interest(&self) -> Interest {
        Interest::NODE_ADDED
    }

    fn hint(&self, pod: &PodInfo, event: &ClusterEvent<'_>) -> bool {
        matches!(event, ClusterEvent::NodeAdded(node) if fits(pod, node))
    }
}

impl Filter for NodeName {
    fn filter(&self, _state: &CycleState, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        if fits(pod, node) { Ok(()) } else { Err(Rejection::unresolvable(NAME, REASON)) }
    }
}

fn fits(pod: &PodInfo, node: &NodeInfo) -> bool {
    pod.node_name().is_none_or(|name| name == &**node.name())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduler::testing::{MakeNode, MakePod};

    #[test]
    fn only_the_named_node_fits() {
        let node = MakeNode::new("a").info();
        assert!(fits(&MakePod::new("p").info(), &node));
        assert!(fits(&MakePod::new("p").node("a").info(), &node));
        assert!(!fits(&MakePod::new("p").node("b").info(), &node));
    }
}
