//! Old revisions beyond `revisionHistoryLimit` are deleted once a rollout is complete.

use super::rollout::Rollout;
use super::{revision, size};
use crate::controllers::action::{Plan, Write};
use crate::controllers::object;

/// Kubernetes' default of `spec.revisionHistoryLimit`.
const HISTORY_LIMIT_DEFAULT: i32 = 10;

/// Deletes the oldest revisions that run nothing; only when all pods are of the new one.
pub(super) fn trim(rollout: &Rollout<'_>, plan: &mut Plan) {
    if object::is_deleting(&rollout.snapshot.deployment.metadata) || !is_complete(rollout) {
        return;
    }
    let limit = rollout.spec.revision_history_limit.unwrap_or(HISTORY_LIMIT_DEFAULT);
    let limit = usize::try_from(limit).unwrap_or(0);
    let mut old: Vec<_> = rollout
        .old
        .iter()
        .map(|member| &member.set)
        .filter(|set| !object::is_deleting(&set.metadata))
        .collect();
    let Some(surplus) = old.len().checked_sub(limit).filter(|surplus| *surplus > 0) else {
        return;
    };
    old.sort_by_key(|set| revision::number(set));
    for set in old.into_iter().take(surplus) {
        let status = set.status.clone().unwrap_or_default();
        let observed = status.observed_generation >= set.metadata.generation;
        if size(set) == 0 && status.replicas == 0 && observed {
            plan.note(format!("forgets revision {}", object::name(&set.metadata)));
            plan.write(Write::delete(set));
        }
    }
}

fn is_complete(rollout: &Rollout<'_>) -> bool {
    let desired = rollout.limits.desired;
    let paused = rollout.spec.paused == Some(true);
    let quiet = rollout.members().all(|member| !member.changed);
    quiet
        && (paused
            || rollout.new.as_ref().is_some_and(|new| {
                let status = new.set.status.clone().unwrap_or_default();
                status.replicas == desired && new.available() == desired
            }))
        && rollout.old.iter().all(|member| paused || member.size() == 0)
}
