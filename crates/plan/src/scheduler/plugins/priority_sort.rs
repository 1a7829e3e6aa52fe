//! PrioritySort: higher priority first; among equals, whoever has been ready for longest.

use std::cmp::Reverse;
use std::time::Duration;

use crate::scheduler::framework::{ExtensionPoints, Plugin, QueueSort, Rank};
use crate::scheduler::pod_info::PodInfo;

/// The plugin.
pub(super) struct PrioritySort;

impl Plugin for PrioritySort {
    fn name(&self) -> &'static str {
        "PrioritySort"
    }

    fn register(&'static self, points: &mut ExtensionPoints) {
        points.queue_sort = Some(self);
    }
}

impl QueueSort for PrioritySort {
    fn rank(&self, pod: &PodInfo, since: Duration) -> Rank {
        (Reverse(pod.priority), since)
    }
}
