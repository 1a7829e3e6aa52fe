//! NodeResourcesFit: a node must have room for what the pod asks for; the more is left
//! over, the better (LeastAllocated).

use std::borrow::Cow;

use crate::scheduler::cluster::Cluster;
use crate::scheduler::framework::{
    ClusterEvent, CycleState, ExtensionPoints, Filter, Interest, Plugin, Rejection, SCORE_MAX, Score,
};
use crate::scheduler::node_info::NodeInfo;
use crate::scheduler::pod_info::PodInfo;
use crate::scheduler::resources::Resources;

const NAME: &str = "NodeResourcesFit";
const TOO_MANY_PODS: &str = "Too many pods";
const WEIGHT: i64 = 1;

/// The plugin.
pub(super) struct NodeResourcesFit;

impl Plugin for NodeResourcesFit {
    fn name(&self) -> &'static str {
        NAME
    }

    fn register(&'static self, points: &mut ExtensionPoints) {
        points.filter.push(self);
        points.score.push((self, WEIGHT));
    }

    fn interest(&self) -> Interest {
        Interest::NODE_ADDED | Interest::NODE_ALLOCATABLE | Interest::POD_LEFT
    }

    fn hint(&self, pod: &PodInfo, event: &ClusterEvent<'_>) -> bool {
        match event {
            ClusterEvent::NodeAdded(node) | ClusterEvent::NodeUpdated(node, _) => {
                shortages(pod, node).is_empty()
            }
            // A place among the node's pods is always freed.
            ClusterEvent::PodLeft(_) => true,
        }
    }
}

impl Filter for NodeResourcesFit {
    fn filter(&self, _state: &CycleState, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        let shortages = shortages(pod, node);
        if shortages.is_empty() {
            return Ok(());
        }
        Err(Rejection {
            plugin: NAME,
            resolvable: shortages.iter().all(|shortage| shortage.resolvable),
            reasons: shortages.into_iter().map(|shortage| shortage.reason).collect(),
        })
    }
}

impl Score for NodeResourcesFit {
    fn score(&self, _state: &CycleState, pod: &PodInfo, node: &NodeInfo, _cluster: &Cluster) -> i64 {
        let (has, used) = (node.allocatable(), node.usage());
        let cpu = share_left(has.milli_cpu, used.milli_cpu, pod.usage.milli_cpu);
        let memory = share_left(has.memory, used.memory, pod.usage.memory);
        let known: Vec<i64> = [cpu, memory].into_iter().flatten().collect();
        let count = i64::try_from(known.len()).unwrap_or(1).max(1);
        known.iter().sum::<i64>() / count
    }
}

/// What is left of a resource with the pod there, in 0..=[`SCORE_MAX`]; nothing is said
/// about a resource that the node does not have.
fn share_left(allocatable: i64, used: i64, wanted: i64) -> Option<i64> {
    if allocatable <= 0 {
        return None;
    }
    let left = i128::from(allocatable) - i128::from(used) - i128::from(wanted);
    let share = left.max(0) * i128::from(SCORE_MAX) / i128::from(allocatable);
    Some(i64::try_from(share).unwrap_or(0))
}

/// A resource of which the node has too little.
struct Shortage {
    reason: Cow<'static, str>,
    /// The node would have enough if it were empty.
    resolvable: bool,
}

fn shortages(pod: &PodInfo, node: &NodeInfo) -> Vec<Shortage> {
    let mut all = Vec::new();
    let pods = i64::try_from(node.pod_count()).unwrap_or(i64::MAX);
    if pods >= node.allocatable_pods() {
        all.push(Shortage { reason: TOO_MANY_PODS.into(), resolvable: node.allocatable_pods() > 0 });
    }
    let mut check = |name: &'static str, of: fn(&Resources) -> i64| {
        let (wanted, has) = (of(&pod.requests), of(node.allocatable()));
        if wanted > 0 && wanted > has.saturating_sub(of(node.requested())) {
            all.push(Shortage { reason: name.into(), resolvable: wanted <= has });
        }
    };
    check("Insufficient cpu", |all| all.milli_cpu);
    check("Insufficient memory", |all| all.memory);
    check("Insufficient ephemeral-storage", |all| all.ephemeral_storage);
    for (name, wanted) in &pod.requests.scalar {
        let amount = |all: &Resources| all.scalar.get(name).copied().unwrap_or(0);
        let has = amount(node.allocatable());
        if *wanted > has.saturating_sub(amount(node.requested())) {
            let reason = format!("Insufficient {name}").into();
            all.push(Shortage { reason, resolvable: *wanted <= has });
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduler::testing::{MakeNode, MakePod};

    fn node() -> MakeNode {
        MakeNode::new("a").capacity(&[
            ("cpu", "2"),
            ("memory", "1Gi"),
            ("pods", "3"),
            ("example.com/gpu", "1"),
            ("ephemeral-storage", "10Gi"),
        ])
    }

    fn reasons(pod: MakePod, node: &NodeInfo) -> (Vec<String>, bool) {
        match NodeResourcesFit.filter(&CycleState::default(), &pod.info(), node) {
            Ok(()) => (Vec::new(), true),
            Err(no) => (no.reasons.iter().map(ToString::to_string).collect(), no.resolvable),
        }
    }

    /// What a pod asks for, the reasons against it, and whether removing pods could help.
    type Case = (&'static [(&'static str, &'static str)], &'static [&'static str], bool);

    #[test]
    fn says_what_is_short() {
        let busy = node().pod(MakePod::new("x").req(&[("cpu", "1500m"), ("example.com/gpu", "1")])).info();
        let cases: [Case; 7] = [
            (&[], &[], true),
            (&[("cpu", "500m"), ("memory", "1Gi")], &[], true),
            (&[("cpu", "501m")], &["Insufficient cpu"], true),
            (&[("cpu", "3"), ("memory", "2Gi")], &["Insufficient cpu", "Insufficient memory"], false),
            (&[("ephemeral-storage", "11Gi")], &["Insufficient ephemeral-storage"], false),
            (&[("example.com/gpu", "1")], &["Insufficient example.com/gpu"], true),
            (&[("example.com/other", "1")], &["Insufficient example.com/other"], false),
        ];
        for (requests, expected, resolvable) in cases {
            let (found, solvable) = reasons(MakePod::new("p").req(requests), &busy);
            assert_eq!(found, expected, "{requests:?}");
            assert_eq!(solvable, resolvable, "{requests:?}");
        }
    }

    #[test]
    fn counts_pods() {
        let full = ["x", "y", "z"].iter().fold(node(), |node, name| node.pod(MakePod::new(name))).info();
        assert_eq!(reasons(MakePod::new("p"), &full), (vec!["Too many pods".to_owned()], true));
    }

    #[test]
    fn what_is_left_is_the_score() {
        let score = |node: MakeNode, requests: &[(&str, &str)]| {
            let pod = MakePod::new("p").req(requests).info();
            NodeResourcesFit.score(&CycleState::default(), &pod, &node.info(), &Cluster::default())
        };
        assert_eq!(score(node(), &[("cpu", "1"), ("memory", "512Mi")]), 50);
        assert_eq!(score(node(), &[("cpu", "2"), ("memory", "1Gi")]), 0);
        assert_eq!(score(node(), &[("cpu", "9"), ("memory", "512Mi")]), 25);
        assert_eq!(score(MakeNode::new("a").capacity(&[]), &[]), 0);
        let busy = node().pod(MakePod::new("x").req(&[("cpu", "1"), ("memory", "512Mi")]));
        assert_eq!(score(busy, &[("cpu", "500m"), ("memory", "256Mi")]), 25);
    }
}
