//! Which pods a node's `NoExecute` taints drive away, and when.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, Taint, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;

use super::{NO_EXECUTE, Snapshot};
use crate::controllers::action::{Part, Patch, Plan, Severity, Target, Write};
use crate::controllers::object;

/// Deletes what has to go now, and asks to be called again for what has to go later.
pub(super) fn evict(snapshot: &Snapshot, now: Timestamp, plan: &mut Plan) {
    let spec = snapshot.node.spec.as_ref();
    let taints: Vec<&Taint> = spec
        .and_then(|spec| spec.taints.as_ref())
        .into_iter()
        .flatten()
        .filter(|taint| taint.effect == NO_EXECUTE)
        .collect();
    if taints.is_empty() {
        return;
    }
    for pod in snapshot.pods.iter().filter(|pod| object::is_active(pod)) {
        match leaves_at(pod, &taints, snapshot.tainted_at) {
            None => {}
            Some(at) if at > now => plan.requeue(at),
            Some(_) => delete(pod, now, plan),
        }
    }
}

/// When a pod has to leave; `None` if it may stay for good.
fn leaves_at(pod: &Pod, taints: &[&Taint], seen_at: Timestamp) -> Option<Timestamp> {
    let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref());
    let tolerations = tolerations.unwrap_or_default();
    let mut leaves: Option<Timestamp> = None;
    for taint in taints {
        let since = taint.time_added.as_ref().map_or(seen_at, |time| time.0);
        let mut tolerating = tolerations.iter().filter(|one| tolerates(one, taint)).peekable();
        if tolerating.peek().is_none() {
            return Some(Timestamp::MIN);
        }
        // A toleration without a time tolerates for good; the shortest of the others counts.
        if let Some(seconds) = tolerating.filter_map(|one| one.toleration_seconds).min() {
            let at = object::after(since, seconds.max(0));
            leaves = Some(leaves.map_or(at, |already| already.min(at)));
        }
    }
    leaves
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let given = |field: &Option<String>| field.clone().filter(|text| !text.is_empty());
    let effect = given(&toleration.effect).is_none_or(|effect| effect == taint.effect);
    let key = given(&toleration.key);
    let exists = toleration.operator.as_deref() == Some("Exists");
    let key_fits = match &key {
        None => exists,
        Some(key) => *key == taint.key,
    };
    let value = toleration.value.as_deref().unwrap_or_default();
    effect && key_fits && (exists || value == taint.value.as_deref().unwrap_or_default())
}

fn delete(pod: &Pod, now: Timestamp, plan: &mut Plan) {
    let name = object::name(&pod.metadata);
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let message = format!("Marking for deletion Pod {namespace}/{name}");
    plan.event(object::reference(pod), Severity::Normal, "TaintManagerEviction", message);
    let patch = json!({
        "metadata": { "uid": pod.metadata.uid },
        "status": { "conditions": [{
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "DeletionByTaintManager",
            "message": "Taint manager: deleting due to NoExecute taint",
            "lastTransitionTime": Time(now),
        }] },
    });
    plan.write(Write::Patch { target: Target::of(pod), part: Part::Status, patch: Patch::Strategic(patch) });
    plan.write(Write::delete(pod));
}
