//! NodePorts: two pods of a node cannot have the same port of the host.

use crate::scheduler::cluster::Cluster;
use crate::scheduler::framework::{
    ClusterEvent, CycleState, ExtensionPoints, Filter, Interest, Plugin, PreFilter, PreFiltered, Rejection,
};
use crate::scheduler::node_info::NodeInfo;
use crate::scheduler::pod_info::PodInfo;

const NAME: &str = "NodePorts";
const REASON: &str = "node(s) didn't have free ports for the requested pod ports";

/// The plugin.
pub(super) struct NodePorts;

impl Plugin for NodePorts {
    fn name(&self) -> &'static str {
        NAME
    }

    fn register(&'static self, points: &mut ExtensionPoints) {
        points.pre_filter.push(self);
        points.filter.push(self);
    }

    fn interest(&self) -> Interest {
        Interest::NODE_ADDED | Interest::POD_LEFT
    }

    fn hint(&self, pod: &PodInfo, event: &ClusterEvent<'_>) -> bool {
        match event {
            ClusterEvent::NodeAdded(node) | ClusterEvent::NodeUpdated(node, _) => fits(pod, node),
            ClusterEvent::PodLeft(gone) => gone
                .host_ports
                .iter()
                .any(|freed| pod.host_ports.iter().any(|wanted| wanted.port == freed.port)),
        }
    }
}

impl PreFilter for NodePorts {
    fn pre_filter(
        &self,
        _state: &mut CycleState,
        pod: &PodInfo,
        _cluster: &Cluster,
    ) -> Result<PreFiltered, Rejection> {
        Ok(if pod.host_ports.is_empty() { PreFiltered::Skip } else { PreFiltered::Any })
    }
}

impl Filter for NodePorts {
    fn filter(&self, _state: &CycleState, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        if fits(pod, node) { Ok(()) } else { Err(Rejection::new(NAME, REASON)) }
    }
}

fn fits(pod: &PodInfo, node: &NodeInfo) -> bool {
    !pod.host_ports.iter().any(|wanted| node.has_port_conflict(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduler::testing::{MakeNode, MakePod};

    #[test]
    fn ports_conflict_by_protocol_and_address() {
        let taken = MakePod::new("old").host_port("TCP", "127.0.0.1", 80);
        let node = MakeNode::new("a").pod(taken).info();
        let cases = [
            ("TCP", "127.0.0.1", 80, false),
            ("TCP", "", 80, false),
            ("TCP", "0.0.0.0", 80, false),
            ("TCP", "127.0.0.2", 80, true),
            ("UDP", "127.0.0.1", 80, true),
            ("TCP", "127.0.0.1", 81, true),
        ];
        for (protocol, ip, port, expected) in cases {
            let pod = MakePod::new("p").host_port(protocol, ip, port).info();
            assert_eq!(fits(&pod, &node), expected, "{protocol} {ip} {port}");
        }
    }

    #[test]
    fn a_pod_that_frees_the_port_helps() {
        let pod = MakePod::new("p").host_port("TCP", "", 80).info();
        let helps = |gone: MakePod| NodePorts.hint(&pod, &ClusterEvent::PodLeft(&gone.info()));
        assert!(helps(MakePod::new("q").host_port("TCP", "", 80)));
        assert!(!helps(MakePod::new("q")));
    }
}
