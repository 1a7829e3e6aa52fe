//! A ReplicaSet's status: counts of its pods and the `ReplicaFailure` condition.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::Snapshot;
use crate::controllers::action::Plan;
use crate::controllers::object;

/// The condition that tells of failed creations and deletions.
const REPLICA_FAILURE: &str = "ReplicaFailure";

/// The status that `pods` amount to. Asks to be called again when a ready pod becomes available.
pub(super) fn of(snapshot: &Snapshot, pods: &[&Pod], now: Timestamp, plan: &mut Plan) -> ReplicaSetStatus {
    let set = &*snapshot.replica_set;
    let spec = set.spec.clone().unwrap_or_default();
    let template = spec.template.and_then(|template| template.metadata);
    let wanted_labels = template.and_then(|meta| meta.labels).unwrap_or_default();
    let min_ready_s = spec.min_ready_seconds.unwrap_or(0);
    let (mut replicas, mut labelled, mut ready, mut available, mut terminating) = (0, 0, 0, 0, 0);
    for pod in pods {
        if object::is_deleting(&pod.metadata) && !object::is_finished(pod) {
            terminating += 1;
        }
        if !object::is_active(pod) {
            continue;
        }
        replicas += 1;
        if object::has_labels(&wanted_labels, pod.metadata.labels.as_ref()) {
            labelled += 1;
        }
        let Some(at) = object::available_at(pod, min_ready_s) else { continue };
        ready += 1;
        if at <= now {
            available += 1;
        } else {
            plan.requeue(at);
        }
    }
    let some = |count: i32| (count > 0).then_some(count);
    ReplicaSetStatus {
        replicas,
        fully_labeled_replicas: some(labelled),
        ready_replicas: some(ready),
        available_replicas: some(available),
        terminating_replicas: Some(terminating),
        observed_generation: set.metadata.generation,
        conditions: conditions(snapshot, now),
    }
}

fn conditions(snapshot: &Snapshot, now: Timestamp) -> Option<Vec<ReplicaSetCondition>> {
    let status = snapshot.replica_set.status.as_ref();
    let mut conditions = status.and_then(|status| status.conditions.clone()).unwrap_or_default();
    let known = conditions.iter().position(|condition| condition.type_ == REPLICA_FAILURE);
    match (&snapshot.failure, known) {
        (None, None) => {}
        (None, Some(at)) => {
            conditions.remove(at);
        }
        // Told already: telling the same again would only make writes.
        (Some(_), Some(_)) => {}
        (Some(failure), None) => conditions.push(ReplicaSetCondition {
            type_: REPLICA_FAILURE.to_owned(),
            status: "True".to_owned(),
            reason: Some(if failure.creating { "FailedCreate" } else { "FailedDelete" }.to_owned()),
            message: Some(failure.message.clone()),
            last_transition_time: Some(Time(now)),
        }),
    }
    (!conditions.is_empty()).then_some(conditions)
}
