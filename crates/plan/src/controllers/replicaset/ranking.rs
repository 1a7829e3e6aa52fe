//! Which pod goes first when there are too many: the order is kube-controller-manager's.

use std::cmp::Ordering;
use std::collections::HashMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use crate::controllers::object;

/// The annotation by which users say what a pod's loss would cost; pods with less go first.
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// `Less` if `a` goes before `b`: unassigned, then pending, then unready, then cheap, then from
/// crowded nodes, then recently ready, then often restarted, then young ones. Ages are compared
/// by order of magnitude, so that a scale-down does not always hit the newest zone.
pub(super) fn compare(
    a: &Pod,
    b: &Pod,
    related_per_node: &HashMap<String, usize>,
    now: Timestamp,
) -> Ordering {
    let crowd = |pod: &Pod| node(pod).and_then(|name| related_per_node.get(name)).copied();
    node(a)
        .is_some()
        .cmp(&node(b).is_some())
        .then_with(|| stage(a).cmp(&stage(b)))
        .then_with(|| object::is_ready(a).cmp(&object::is_ready(b)))
        .then_with(|| cost(a).cmp(&cost(b)))
        .then_with(|| crowd(b).cmp(&crowd(a)))
        .then_with(|| younger_first(object::ready_since(a), object::ready_since(b), now))
        .then_with(|| restarts(b).cmp(&restarts(a)))
        .then_with(|| younger_first(created(a), created(b), now))
        .then_with(|| a.metadata.uid.cmp(&b.metadata.uid))
}

fn node(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref().filter(|name| !name.is_empty())
}

fn stage(pod: &Pod) -> u8 {
    match object::phase(pod) {
        "Pending" => 0,
        "Unknown" => 1,
        _ => 2,
    }
}

fn cost(pod: &Pod) -> i32 {
    let text = object::annotation(&pod.metadata, DELETION_COST);
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn created(pod: &Pod) -> Option<Timestamp> {
    pod.metadata.creation_timestamp.as_ref().map(|time| time.0)
}

fn restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    statuses.into_iter().flatten().map(|status| status.restart_count).max().unwrap_or(0)
}

/// Compares ages by their binary logarithm; what has no time is youngest.
fn younger_first(a: Option<Timestamp>, b: Option<Timestamp>, now: Timestamp) -> Ordering {
    let magnitude = |since: Option<Timestamp>| {
        let age_ns = since.map(|since| now.as_nanosecond().saturating_sub(since.as_nanosecond()))?;
        Some(u128::try_from(age_ns).ok().filter(|age| *age > 0).map_or(0, u128::ilog2))
    };
    magnitude(a).cmp(&magnitude(b))
}
