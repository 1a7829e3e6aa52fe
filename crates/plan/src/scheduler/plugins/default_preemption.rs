//! DefaultPreemption: when no node can run a pod, says whether removing other pods could
//! have helped. This scheduler does not remove them: where it could have helped it says so.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::scheduler::cluster::Cluster;
use crate::scheduler::framework::{ExtensionPoints, Plugin, PostFilter, Rejection};
use crate::scheduler::pod_info::PodInfo;
use crate::scheduler::schedule::histogram;

const NEVER: &str = "preemption: not eligible due to preemptionPolicy=Never.";
const NOT_HELPFUL: &str = "Preemption is not helpful for scheduling";
const NO_VICTIMS: &str = "No preemption victims found for incoming pod";
const NOT_OFFERED: &str = "Preemption is not offered by this scheduler";

/// The plugin.
pub(super) struct DefaultPreemption;

impl Plugin for DefaultPreemption {
    fn name(&self) -> &'static str {
        "DefaultPreemption"
    }

    fn register(&'static self, points: &mut ExtensionPoints) {
        points.post_filter.push(self);
    }
}

impl PostFilter for DefaultPreemption {
    fn post_filter(&self, pod: &PodInfo, cluster: &Cluster, rejections: &[(Arc<str>, Rejection)]) -> String {
        let policy = pod.spec().and_then(|spec| spec.preemption_policy.as_deref());
        if policy == Some("Never") {
            return NEVER.to_owned();
        }
        let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
        for (node, rejection) in rejections {
            let lowest = cluster.node(node).and_then(|node| node.lowest_priority());
            let reason = match lowest {
                _ if !rejection.resolvable => NOT_HELPFUL,
                Some(lowest) if lowest < pod.priority => NOT_OFFERED,
                _ => NO_VICTIMS,
            };
            *reasons.entry(reason).or_default() += 1;
        }
        format!("preemption: 0/{} nodes are available: {}.", cluster.len(), histogram(&reasons))
    }
}
