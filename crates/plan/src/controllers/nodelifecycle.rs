//! Node lifecycle: notices nodes that fell silent, and what that means for their pods.
//!
//! A kubelet renews its Lease; one that has not for [`GRACE_S`] seconds (by this process' own
//! clock) has its node's conditions set to `Unknown` and its pods to not ready. Conditions become
//! taints: the scheduler heeds `NoSchedule`, and pods that do not tolerate a `NoExecute` taint
//! are deleted, at once or after their tolerationSeconds.

mod eviction;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeCondition, Pod, PodCondition, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;

use super::action::{Part, Patch, Plan, Severity, Target, Write};
use super::object;

/// How long a node may be silent, in seconds.
pub const GRACE_S: i64 = 40;

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
const NO_SCHEDULE: &str = "NoSchedule";
const NO_EXECUTE: &str = "NoExecute";

/// Conditions that become `NoSchedule` taints while they are true.
const PRESSURES: [(&str, &str); 4] = [
    ("MemoryPressure", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "node.kubernetes.io/network-unavailable"),
];

/// What is known of a node.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The node.
    pub node: Arc<Node>,
    /// When its Lease, or its own status, was last seen to change, by this process' clock.
    pub heard_at: Timestamp,
    /// When the node's present `NoExecute` taints were first seen, for those without a time.
    pub tainted_at: Timestamp,
    /// The pods bound to it.
    pub pods: Vec<Arc<Pod>>,
}

/// Decides; see the module.
#[must_use]
pub fn plan(snapshot: &Snapshot, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let node = &*snapshot.node;
    if object::is_deleting(&node.metadata) {
        return plan;
    }
    let silent_at = object::after(snapshot.heard_at, GRACE_S);
    if silent_at <= now {
        if let Some(changed) = silenced(node, now) {
            let name = object::name(&node.metadata);
            plan.note(format!("{name} has been silent since {}", snapshot.heard_at));
            plan.write(Write::update_status(&changed));
            let message = format!("Node {name} status is now: NodeNotReady");
            plan.event(object::reference(node), Severity::Normal, "NodeNotReady", message);
            // The taints follow in the next plan, on the version that this one makes.
            return plan;
        }
    } else {
        plan.requeue(silent_at);
    }
    let ready = condition(node, "Ready").map_or("", |ready| ready.status.as_str());
    if ready != "True" {
        for pod in snapshot.pods.iter().filter(|pod| object::is_ready(pod)) {
            plan.write(not_ready(pod, now));
        }
    }
    if let Some(patch) = taint_patch(node, ready, now) {
        plan.write(Write::merge(node, patch));
    } else {
        eviction::evict(snapshot, now, &mut plan);
    }
    plan
}

fn condition<'a>(node: &'a Node, kind: &str) -> Option<&'a NodeCondition> {
    node.status.as_ref()?.conditions.iter().flatten().find(|known| known.type_ == kind)
}

/// The node with conditions that only a kubelet could vouch for set to unknown; `None` if they
/// are so already.
fn silenced(node: &Node, now: Timestamp) -> Option<Node> {
    let mut node = node.clone();
    let status = node.status.get_or_insert_default();
    let conditions = status.conditions.get_or_insert_default();
    let mut changed = false;
    for kind in ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"] {
        let known = conditions.iter_mut().find(|known| known.type_ == kind);
        let (known, reason, message) = match known {
            Some(known) if known.status == "Unknown" => continue,
            Some(known) => (known, "NodeStatusUnknown", "Kubelet stopped posting node status."),
            None => {
                conditions.push(NodeCondition { type_: kind.to_owned(), ..Default::default() });
                let Some(fresh) = conditions.last_mut() else { continue };
                (fresh, "NodeStatusNeverUpdated", "Kubelet never posted node status.")
            }
        };
        known.status = "Unknown".to_owned();
        known.reason = Some(reason.to_owned());
        known.message = Some(message.to_owned());
        known.last_transition_time = Some(Time(now));
        changed = true;
    }
    changed.then_some(node)
}

/// The write that tells the world that a pod no longer answers.
fn not_ready(pod: &Pod, now: Timestamp) -> Write {
    let condition = PodCondition {
        type_: "Ready".to_owned(),
        status: "False".to_owned(),
        reason: Some("NodeNotReady".to_owned()),
        last_transition_time: Some(Time(now)),
        ..PodCondition::default()
    };
    let patch = json!({
        "metadata": { "uid": pod.metadata.uid },
        "status": { "conditions": [condition] },
    });
    Write::Patch { target: Target::of(pod), part: Part::Status, patch: Patch::Strategic(patch) }
}

/// The patch that makes the node's taints follow its conditions, if they do not.
fn taint_patch(node: &Node, ready: &str, now: Timestamp) -> Option<serde_json::Value> {
    let spec = node.spec.clone().unwrap_or_default();
    let present = spec.taints.unwrap_or_default();
    let wanted = wanted_taints(node, ready, spec.unschedulable == Some(true));
    let is_ours = |taint: &Taint| {
        let key = taint.key.as_str();
        (matches!(key, NOT_READY | UNREACHABLE) && matches!(taint.effect.as_str(), NO_SCHEDULE | NO_EXECUTE))
            || (taint.effect == NO_SCHEDULE
                && (key == UNSCHEDULABLE || PRESSURES.iter().any(|(_, known)| *known == key)))
    };
    let is_wanted =
        |taint: &Taint| wanted.iter().any(|(key, effect)| taint.key == *key && taint.effect == *effect);
    let mut next: Vec<Taint> =
        present.iter().filter(|taint| !is_ours(taint) || is_wanted(taint)).cloned().collect();
    for (key, effect) in &wanted {
        if !next.iter().any(|taint| taint.key == *key && taint.effect == *effect) {
            next.push(Taint {
                key: (*key).to_owned(),
                effect: (*effect).to_owned(),
                time_added: Some(Time(now)),
                value: None,
            });
        }
    }
    let taints = if next.is_empty() { json!(null) } else { json!(next) };
    (next != present).then(|| {
        json!({
            "metadata": { "resourceVersion": node.metadata.resource_version },
            "spec": { "taints": taints },
        })
    })
}

fn wanted_taints(node: &Node, ready: &str, unschedulable: bool) -> Vec<(&'static str, &'static str)> {
    let mut wanted = Vec::new();
    match ready {
        "True" => {}
        "False" => wanted.extend([(NOT_READY, NO_SCHEDULE), (NOT_READY, NO_EXECUTE)]),
        "Unknown" => wanted.extend([(UNREACHABLE, NO_SCHEDULE), (UNREACHABLE, NO_EXECUTE)]),
        // The kubelet has yet to speak: nothing is sent there, nothing there is ended.
        _ => wanted.push((NOT_READY, NO_SCHEDULE)),
    }
    for (kind, key) in PRESSURES {
        if condition(node, kind).is_some_and(|known| known.status == "True") {
            wanted.push((key, NO_SCHEDULE));
        }
    }
    if unschedulable {
        wanted.push((UNSCHEDULABLE, NO_SCHEDULE));
    }
    wanted
}
