//! TaintToleration: a node's NoSchedule and NoExecute taints keep out pods that do not
//! tolerate them; PreferNoSchedule taints make it less liked.

use k8s_openapi::api::core::v1::{Taint, Toleration};

use super::normalize;
use crate::scheduler::cluster::Cluster;
use crate::scheduler::framework::{
    ClusterEvent, CycleState, ExtensionPoints, Filter, Interest, Plugin, PreScore, PreScored, Rejection,
    Score,
};
use crate::scheduler::node_info::NodeInfo;
use crate::scheduler::pod_info::PodInfo;

const NAME: &str = "TaintToleration";
const REASON: &str = "node(s) had untolerated taint(s)";
const WEIGHT: i64 = 3;

/// The plugin.
pub(super) struct TaintToleration;

impl Plugin for TaintToleration {
    fn name(&self) -> &'static str {
        NAME
    }

    fn register(&'static self, points: &mut ExtensionPoints) {
        points.filter.push(self);
        points.pre_score.push(self);
        points.score.push((self, WEIGHT));
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

impl Filter for TaintToleration {
    fn filter(&self, _state: &CycleState, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        if fits(pod, node) { Ok(()) } else { Err(Rejection::unresolvable(NAME, REASON)) }
    }
}

impl PreScore for TaintToleration {
    fn pre_score(&self, _state: &mut CycleState, _pod: &PodInfo, nodes: &[&NodeInfo]) -> PreScored {
        let some = nodes.iter().any(|node| node.taints().iter().any(is_preference));
        if some { PreScored::Score } else { PreScored::Skip }
    }
}

impl Score for TaintToleration {
    fn score(&self, _state: &CycleState, pod: &PodInfo, node: &NodeInfo, _cluster: &Cluster) -> i64 {
        let disliked = node
            .taints()
            .iter()
            .filter(|taint| is_preference(taint))
            .filter(|taint| !pod.tolerations().iter().any(|one| tolerates(one, taint)))
            .count();
        i64::try_from(disliked).unwrap_or(i64::MAX)
    }

    fn normalize(&self, scores: &mut [i64]) {
        normalize(scores, true);
    }
}

fn is_preference(taint: &Taint) -> bool {
    taint.effect == "PreferNoSchedule"
}

fn fits(pod: &PodInfo, node: &NodeInfo) -> bool {
    node.taints()
        .iter()
        .filter(|taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute"))
        .all(|taint| pod.tolerations().iter().any(|one| tolerates(one, taint)))
}

/// Whether a toleration is meant for a taint.
pub(super) fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let any_or = |wanted: &Option<String>, has: &str| {
        wanted.as_deref().is_none_or(|wanted| wanted.is_empty() || wanted == has)
    };
    if !any_or(&toleration.effect, &taint.effect) || !any_or(&toleration.key, &taint.key) {
        return false;
    }
    let value = |field: &Option<String>| field.clone().unwrap_or_default();
    match toleration.operator.as_deref().unwrap_or_default() {
        "" | "Equal" => value(&toleration.value) == value(&taint.value),
        "Exists" => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduler::testing::{MakeNode, MakePod};

    #[test]
    fn tolerations_match_by_key_value_and_effect() {
        let node = MakeNode::new("a").taint("role", "db", "NoSchedule").info();
        let cases = [
            ("role", "Equal", "db", "NoSchedule", true),
            ("role", "", "db", "", true),
            ("role", "Exists", "", "", true),
            ("", "Exists", "", "", true),
            ("role", "Equal", "web", "NoSchedule", false),
            ("role", "Equal", "db", "NoExecute", false),
            ("other", "Exists", "", "", false),
            ("role", "Sometimes", "db", "", false),
        ];
        for (key, operator, value, effect, expected) in cases {
            let pod = MakePod::new("p").tolerate(key, operator, value, effect).info();
            assert_eq!(fits(&pod, &node), expected, "{key} {operator} {value} {effect}");
        }
        assert!(!fits(&MakePod::new("p").info(), &node));
    }

    #[test]
    fn preferences_do_not_keep_out_but_count() {
        let node = MakeNode::new("a")
            .taint("slow", "", "PreferNoSchedule")
            .taint("old", "", "PreferNoSchedule")
            .info();
        let pod = MakePod::new("p").tolerate("old", "Exists", "", "").info();
        assert!(fits(&pod, &node));
        let score =
            |pod: &PodInfo| TaintToleration.score(&CycleState::default(), pod, &node, &Cluster::default());
        assert_eq!(score(&pod), 1);
        assert_eq!(score(&MakePod::new("p").info()), 2);
    }
}
