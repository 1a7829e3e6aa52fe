//! NodeAffinity: the pod's `nodeSelector` and required node affinity must hold; preferred
//! node affinity makes a node better liked.

use std::sync::Arc;

use k8s_openapi::api::core::v1::PreferredSchedulingTerm;

use super::normalize;
use crate::scheduler::cluster::Cluster;
use crate::scheduler::framework::{
    ClusterEvent, CycleState, ExtensionPoints, Filter, Interest, Plugin, PreFilter, PreFiltered, PreScore,
    PreScored, Rejection, Score,
};
use crate::scheduler::node_info::NodeInfo;
use crate::scheduler::node_selector::{matches_required, matches_term, named_nodes};
use crate::scheduler::pod_info::PodInfo;

const NAME: &str = "NodeAffinity";
const REASON: &str = "node(s) didn't match Pod's node affinity/selector";
const CONFLICT: &str = "pod affinity terms conflict";
const WEIGHT: i64 = 2;

/// The plugin.
pub(super) struct NodeAffinity;

impl Plugin for NodeAffinity {
    fn name(&self) -> &'static str {
        NAME
    }

    fn register(&'static self, points: &mut ExtensionPoints) {
        points.pre_filter.push(self);
        points.filter.push(self);
        points.pre_score.push(self);
        points.score.push((self, WEIGHT));
    }

    fn interest(&self) -> Interest {
        Interest::NODE_ADDED | Interest::NODE_LABELS
    }

    fn hint(&self, pod: &PodInfo, event: &ClusterEvent<'_>) -> bool {
        match event {
            ClusterEvent::NodeAdded(node) | ClusterEvent::NodeUpdated(node, _) => fits(pod, node),
            ClusterEvent::PodLeft(_) => false,
        }
    }
}

impl PreFilter for NodeAffinity {
    fn pre_filter(
        &self,
        _state: &mut CycleState,
        pod: &PodInfo,
        _cluster: &Cluster,
    ) -> Result<PreFiltered, Rejection> {
        let Some(spec) = pod.spec() else { return Ok(PreFiltered::Skip) };
        let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
        let required =
            affinity.and_then(|all| all.required_during_scheduling_ignored_during_execution.as_ref());
        if required.is_none() && spec.node_selector.as_ref().is_none_or(|selector| selector.is_empty()) {
            return Ok(PreFiltered::Skip);
        }
        match named_nodes(spec) {
            None => Ok(PreFiltered::Any),
            Some(names) if names.is_empty() => Err(Rejection::unresolvable(NAME, CONFLICT)),
            Some(names) => Ok(PreFiltered::Only(names.into_iter().map(Arc::from).collect())),
        }
    }
}

impl Filter for NodeAffinity {
    fn filter(&self, _state: &CycleState, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        if fits(pod, node) { Ok(()) } else { Err(Rejection::unresolvable(NAME, REASON)) }
    }
}

impl PreScore for NodeAffinity {
    fn pre_score(&self, _state: &mut CycleState, pod: &PodInfo, _nodes: &[&NodeInfo]) -> PreScored {
        if preferred(pod).is_empty() { PreScored::Skip } else { PreScored::Score }
    }
}

impl Score for NodeAffinity {
    fn score(&self, _state: &CycleState, pod: &PodInfo, node: &NodeInfo, _cluster: &Cluster) -> i64 {
        preferred(pod)
            .iter()
            .filter(|term| matches_term(&term.preference, node))
            .map(|term| i64::from(term.weight))
            .sum()
    }

    fn normalize(&self, scores: &mut [i64]) {
        normalize(scores, false);
    }
}

fn fits(pod: &PodInfo, node: &NodeInfo) -> bool {
    pod.spec().is_none_or(|spec| matches_required(spec, node))
}

fn preferred(pod: &PodInfo) -> &[PreferredSchedulingTerm] {
    pod.spec()
        .and_then(|spec| spec.affinity.as_ref()?.node_affinity.as_ref())
        .and_then(|all| all.preferred_during_scheduling_ignored_during_execution.as_deref())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduler::testing::{MakeNode, MakePod};

    fn pre_filter(pod: MakePod) -> PreFiltered {
        NodeAffinity.pre_filter(&mut CycleState::default(), &pod.info(), &Cluster::default()).unwrap()
    }

    #[test]
    fn only_what_is_asked_for_is_looked_at() {
        assert_eq!(pre_filter(MakePod::new("p")), PreFiltered::Skip);
        assert_eq!(pre_filter(MakePod::new("p").node_selector("a", "b")), PreFiltered::Any);
        let daemon = MakePod::new("p").on_named_nodes(&["x"]);
        assert_eq!(pre_filter(daemon), PreFiltered::Only(vec!["x".into()]));
    }

    #[test]
    fn preferences_add_up() {
        let node = MakeNode::new("a").label("zone", "east").label("disk", "ssd").info();
        let pod =
            MakePod::new("p").prefer(10, "zone", "east").prefer(5, "disk", "ssd").prefer(7, "zone", "x");
        let state = CycleState::default();
        assert_eq!(NodeAffinity.score(&state, &pod.info(), &node, &Cluster::default()), 15);
    }
}
