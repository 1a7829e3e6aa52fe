//! A Deployment's status: sums over its ReplicaSets, and the three conditions `Available`,
//! `Progressing` and `ReplicaFailure`.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus, ReplicaSetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::rollout::Rollout;
use crate::controllers::action::{Plan, Write};
use crate::controllers::object;

const AVAILABLE: &str = "Available";
const PROGRESSING: &str = "Progressing";
const REPLICA_FAILURE: &str = "ReplicaFailure";
/// The reason of `Progressing` once a rollout is complete; from then on no deadline runs.
const COMPLETE: &str = "NewReplicaSetAvailable";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";
const PAUSED: &str = "DeploymentPaused";

/// Adds the status update, if it changed, and the time at which progress would be overdue.
pub(super) fn update(rollout: &Rollout<'_>, plan: &mut Plan) {
    let deployment = &*rollout.snapshot.deployment;
    let old = deployment.status.clone().unwrap_or_default();
    let mut next = count(rollout);
    let mut conditions = old.conditions.clone().unwrap_or_default();
    available(rollout, &next, &mut conditions);
    if !object::is_deleting(&deployment.metadata) {
        progress(rollout, &old, &next, &mut conditions, plan);
        replica_failure(rollout, &mut conditions);
    }
    next.conditions = (!conditions.is_empty()).then_some(conditions);
    if next != old {
        let mut changed = Deployment::clone(deployment);
        changed.status = Some(next);
        plan.write(Write::update_status(&changed));
    }
}

fn count(rollout: &Rollout<'_>) -> DeploymentStatus {
    let status = |member: &super::Member| member.set.status.clone().unwrap_or_default();
    let sum = |of: fn(&ReplicaSetStatus) -> i32| -> i32 {
        rollout.members().map(|member| of(&status(member))).sum()
    };
    let wanted: i32 = rollout.members().map(super::Member::size).sum();
    let available = sum(|status| status.available_replicas.unwrap_or(0));
    let some = |count: i32| (count > 0).then_some(count);
    DeploymentStatus {
        observed_generation: rollout.snapshot.deployment.metadata.generation,
        replicas: some(sum(|status| status.replicas)),
        updated_replicas: some(rollout.new.as_ref().map_or(0, |new| status(new).replicas)),
        ready_replicas: some(sum(|status| status.ready_replicas.unwrap_or(0))),
        available_replicas: some(available),
        unavailable_replicas: some(wanted - available),
        terminating_replicas: Some(sum(|status| status.terminating_replicas.unwrap_or(0))),
        collision_count: (rollout.collisions > 0).then_some(rollout.collisions),
        conditions: None,
    }
}

fn available(rollout: &Rollout<'_>, next: &DeploymentStatus, conditions: &mut Vec<DeploymentCondition>) {
    let enough = next.available_replicas.unwrap_or(0) >= rollout.limits.fewest_available();
    let (status, reason, message) = if enough {
        ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    } else {
        ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
    };
    set(conditions, condition(AVAILABLE, status, reason, message, rollout.now));
}

fn progress(
    rollout: &Rollout<'_>,
    old: &DeploymentStatus,
    next: &DeploymentStatus,
    conditions: &mut Vec<DeploymentCondition>,
    plan: &mut Plan,
) {
    let deadline_s = rollout.spec.progress_deadline_seconds.filter(|s| *s != i32::MAX);
    let Some(deadline_s) = deadline_s else {
        conditions.retain(|known| known.type_ != PROGRESSING);
        return;
    };
    let now = rollout.now;
    let known = conditions.iter().find(|known| known.type_ == PROGRESSING).cloned();
    let reason = known.as_ref().and_then(|known| known.reason.clone()).unwrap_or_default();
    let say =
        |status: &str, reason: &str, message: String| condition(PROGRESSING, status, reason, &message, now);
    if rollout.spec.paused == Some(true) {
        if reason != TIMED_OUT {
            set(conditions, say("Unknown", PAUSED, "Deployment is paused".to_owned()));
        }
        return;
    }
    if reason == PAUSED {
        let message = "Deployment is resumed".to_owned();
        set(conditions, say("Unknown", "DeploymentResumed", message));
        return;
    }
    let name = rollout.new.as_ref().map(|new| object::name(&new.set.metadata));
    let subject = match name {
        Some(name) => format!("ReplicaSet \"{name}\""),
        None => format!("Deployment \"{}\"", object::name(&rollout.snapshot.deployment.metadata)),
    };
    let created = rollout.new.as_ref().is_some_and(|new| new.was.is_none());
    if created {
        let message = format!("Created new replica set \"{}\"", name.unwrap_or_default());
        set(conditions, say("True", "NewReplicaSetCreated", message));
        plan.requeue(object::after(now, i64::from(deadline_s) + 1));
        return;
    }
    if rollout.new.is_some() && known.is_none() {
        let message = format!("Found new replica set \"{}\"", name.unwrap_or_default());
        set(conditions, say("True", "FoundNewReplicaSet", message));
    }
    if next.replicas == next.updated_replicas && reason == COMPLETE {
        return;
    }
    let last = known.as_ref().and_then(|known| known.last_update_time.as_ref()).map(|time| time.0);
    let overdue = object::after(last.unwrap_or(now), i64::from(deadline_s));
    if is_complete(rollout, next) {
        let message = format!("{subject} has successfully progressed.");
        set(conditions, say("True", COMPLETE, message));
    } else if has_progressed(old, next) {
        let mut moved = say("True", "ReplicaSetUpdated", format!("{subject} is progressing."));
        if let Some(known) = known.filter(|known| known.status == "True") {
            moved.last_transition_time = known.last_transition_time;
        }
        conditions.retain(|known| known.type_ != PROGRESSING);
        conditions.push(moved);
        plan.requeue(object::after(now, i64::from(deadline_s) + 1));
    } else if reason == TIMED_OUT || (known.is_some() && reason != COMPLETE && overdue < now) {
        let message = format!("{subject} has timed out progressing.");
        set(conditions, say("False", TIMED_OUT, message));
    } else if reason != COMPLETE {
        plan.requeue(object::after(overdue, 1));
    }
}

fn is_complete(rollout: &Rollout<'_>, next: &DeploymentStatus) -> bool {
    let desired = rollout.limits.desired;
    let counts = [next.updated_replicas, next.replicas, next.available_replicas];
    rollout.new.is_some() && counts.iter().all(|count| count.unwrap_or(0) == desired)
}

fn has_progressed(old: &DeploymentStatus, next: &DeploymentStatus) -> bool {
    let outdated =
        |status: &DeploymentStatus| status.replicas.unwrap_or(0) - status.updated_replicas.unwrap_or(0);
    next.updated_replicas > old.updated_replicas
        || outdated(next) < outdated(old)
        || next.ready_replicas > old.ready_replicas
        || next.available_replicas > old.available_replicas
}

/// Passes on that the API refuses pods to a ReplicaSet, the new one's news first.
fn replica_failure(rollout: &Rollout<'_>, conditions: &mut Vec<DeploymentCondition>) {
    let failure = rollout.new.iter().chain(&rollout.old).find_map(|member| {
        let status = member.set.status.as_ref()?;
        status.conditions.iter().flatten().find(|known| known.type_ == REPLICA_FAILURE).cloned()
    });
    match failure {
        None => conditions.retain(|known| known.type_ != REPLICA_FAILURE),
        Some(failure) => {
            let reason = failure.reason.unwrap_or_default();
            let message = failure.message.unwrap_or_default();
            let told = condition(REPLICA_FAILURE, &failure.status, &reason, &message, rollout.now);
            set(conditions, told);
        }
    }
}

fn condition(kind: &str, status: &str, reason: &str, message: &str, now: Timestamp) -> DeploymentCondition {
    DeploymentCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_update_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    }
}

/// Replaces a condition unless its status and reason are as before.
fn set(conditions: &mut Vec<DeploymentCondition>, mut new: DeploymentCondition) {
    if let Some(at) = conditions.iter().position(|known| known.type_ == new.type_) {
        let known = &conditions[at];
        if known.status == new.status && known.reason == new.reason {
            return;
        }
        if known.status == new.status {
            new.last_transition_time = known.last_transition_time.clone();
        }
        conditions.remove(at);
    }
    conditions.push(new);
}
