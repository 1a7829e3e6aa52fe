//! The `PodScheduled` condition: what a pod's status says about a pod that has no node.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use serde_json::{Value, json};

/// The condition's type.
pub const POD_SCHEDULED: &str = "PodScheduled";
/// No node could be found.
pub const UNSCHEDULABLE: &str = "Unschedulable";
/// The pod waits for its gates.
pub const SCHEDULING_GATED: &str = "SchedulingGated";
/// The scheduler itself failed.
pub const SCHEDULER_ERROR: &str = "SchedulerError";
/// What a gated pod's condition says.
pub const GATED_MESSAGE: &str = "Scheduling is blocked due to non-empty scheduling gates";

/// A strategic merge patch of the pod's status that says it is not scheduled and why; `None`
/// when its status says so already.
pub fn not_scheduled(pod: &Pod, reason: &str, message: &str, now: Timestamp) -> Option<Value> {
    let known = current(pod);
    let said = known.is_some_and(|known| {
        known.status == "False"
            && known.reason.as_deref() == Some(reason)
            && known.message.as_deref() == Some(message)
    });
    if said {
        return None;
    }
    // The time is that of the last change of `status`, not of its reason.
    let since =
        known.filter(|known| known.status == "False").and_then(|known| known.last_transition_time.clone());
    let mut condition = json!({
        "type": POD_SCHEDULED,
        "status": "False",
        "reason": reason,
        "message": message,
        "lastProbeTime": null,
        "lastTransitionTime": coracle_api::time::seconds(since.map_or(now, |since| since.0)),
    });
    if let Some(generation) = pod.metadata.generation {
        condition["observedGeneration"] = json!(generation);
    }
    Some(json!({ "status": { "conditions": [condition] } }))
}

fn current(pod: &Pod) -> Option<&PodCondition> {
    pod.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == POD_SCHEDULED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduler::testing::MakePod;

    #[test]
    fn says_it_once_and_keeps_the_time_of_the_change() {
        let first = Timestamp::from_second(100).unwrap();
        let later = Timestamp::from_second(200).unwrap();
        let mut pod = MakePod::new("p").obj();
        let patch = not_scheduled(&pod, UNSCHEDULABLE, "why", first).unwrap();
        let condition = &patch["status"]["conditions"][0];
        assert_eq!(condition["lastTransitionTime"], "1970-01-01T00:01:40Z");
        let condition: PodCondition = serde_json::from_value(condition.clone()).unwrap();
        pod.status.get_or_insert_default().conditions = Some(vec![condition]);

        assert_eq!(not_scheduled(&pod, UNSCHEDULABLE, "why", later), None);
        let patch = not_scheduled(&pod, UNSCHEDULABLE, "another why", later).unwrap();
        let condition = &patch["status"]["conditions"][0];
        assert_eq!(condition["lastTransitionTime"], "1970-01-01T00:01:40Z");
        assert_eq!(condition["message"], "another why");
    }
}
