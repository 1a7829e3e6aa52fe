//! ReplicaSet: keeps as many pods of one template as the spec asks for.
//!
//! It adopts pods that nobody manages and its selector matches, lets go of those that no longer
//! match, creates the missing in slowly growing batches, and deletes the surplus in the order of
//! [`ranking`]: those whose loss costs least first. The status counts what the snapshot holds.
//!
//! It must never count pods that have ended or are being deleted, and never act on pods that
//! another controller manages.

mod ranking;
mod status;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use super::action::{Action, Narration, Plan, Write};
use super::object::{self, Claim};

/// Pods created or deleted by one plan at most (kube-controller-manager's burst); the next plan
/// goes on from there.
pub const BURST_PODS_MAX: usize = 500;

/// What a ReplicaSet's decision depends on.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The ReplicaSet.
    pub replica_set: Arc<ReplicaSet>,
    /// Its namespace's pods that it manages or that nobody does; others are ignored.
    pub pods: Vec<Arc<Pod>>,
    /// How many active pods of its own and its siblings (ReplicaSets of the same Deployment) each
    /// node runs.
    pub related_per_node: HashMap<String, usize>,
    /// Why the last plan's creations or deletions failed, if they did.
    pub failure: Option<ManageFailure>,
}

/// A failed creation or deletion, shown in the `ReplicaFailure` condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManageFailure {
    /// Whether it was a creation.
    pub creating: bool,
    /// What the API answered.
    pub message: String,
}

/// Decides; see the module.
#[must_use]
pub fn plan(snapshot: &Snapshot, now: Timestamp) -> Plan {
    let set = &*snapshot.replica_set;
    let Some(spec) = set.spec.as_ref() else { return Plan::default() };
    let mut plan = Plan::default();
    if object::is_empty_selector(&spec.selector) {
        plan.note("the selector matches everything: left alone");
        return plan;
    }
    let claimed = claim(snapshot, &mut plan);
    let active: Vec<&Pod> = claimed.iter().copied().filter(|pod| object::is_active(pod)).collect();

    let mut manage = Vec::new();
    if !object::is_deleting(&set.metadata) {
        let wanted = usize::try_from(spec.replicas.unwrap_or(1)).unwrap_or(0);
        if active.len() < wanted {
            let missing = (wanted - active.len()).min(BURST_PODS_MAX);
            plan.note(format!("{} of {wanted} pods: creates {missing}", active.len()));
            manage = creations(set, missing);
        } else if active.len() > wanted {
            let surplus = (active.len() - wanted).min(BURST_PODS_MAX);
            plan.note(format!("{} of {wanted} pods: deletes {surplus}", active.len()));
            manage = deletions(set, &active, surplus, &snapshot.related_per_node, now);
        }
    }

    let next = status::of(snapshot, &claimed, now, &mut plan);
    // While pods come and go the watch will soon ask again, and that status will be true for
    // longer; but a failure must be told before it is repeated.
    let quiet = manage.is_empty() || snapshot.failure.is_some();
    if quiet && set.status.as_ref() != Some(&next) {
        let mut changed = ReplicaSet::clone(set);
        changed.status = Some(next);
        plan.write(Write::update_status(&changed));
    }
    if !manage.is_empty() {
        plan.actions.push(Action::Batch(manage));
    }
    plan
}

/// The pods that are (or by this plan become) the set's.
fn claim<'a>(snapshot: &'a Snapshot, plan: &mut Plan) -> Vec<&'a Pod> {
    let set = &*snapshot.replica_set;
    let Some(spec) = set.spec.as_ref() else { return Vec::new() };
    let mut claimed = Vec::new();
    for pod in &snapshot.pods {
        match object::claim(set, &spec.selector, &**pod) {
            Claim::Keep => claimed.push(&**pod),
            Claim::Adopt(_) if object::is_finished(pod) => {}
            Claim::Adopt(write) => {
                plan.note(format!("adopts {}", object::name(&pod.metadata)));
                plan.write(write);
                claimed.push(&**pod);
            }
            Claim::Release(write) => {
                plan.note(format!("releases {}", object::name(&pod.metadata)));
                plan.write(write);
            }
            Claim::Leave => {}
        }
    }
    claimed
}

fn creations(set: &ReplicaSet, count: usize) -> Vec<Write> {
    let template = set.spec.as_ref().and_then(|spec| spec.template.clone()).unwrap_or_default();
    let owner = object::controller_reference(set);
    let pod = pod_from(&template, &set.metadata, owner);
    let write = Write::create(&pod).narrated(Narration {
        regarding: object::reference(set),
        done: ("SuccessfulCreate", "Created pod: "),
        failed: ("FailedCreate", "Error creating: "),
    });
    vec![write; count]
}

fn deletions(
    set: &ReplicaSet,
    active: &[&Pod],
    count: usize,
    related_per_node: &HashMap<String, usize>,
    now: Timestamp,
) -> Vec<Write> {
    let mut ranked = active.to_vec();
    ranked.sort_by(|a, b| ranking::compare(a, b, related_per_node, now));
    let narration = Narration {
        regarding: object::reference(set),
        done: ("SuccessfulDelete", "Deleted pod: "),
        failed: ("FailedDelete", "Error deleting: "),
    };
    let surplus = ranked.into_iter().take(count);
    surplus.map(|pod| Write::delete(pod).narrated(narration.clone())).collect()
}

/// A pod of `template`, managed by `owner`, whose name the API server makes up from the owner's.
#[must_use]
pub fn pod_from(template: &PodTemplateSpec, owner: &ObjectMeta, by: OwnerReference) -> Pod {
    let meta = template.metadata.clone().unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", object::name(owner))),
            namespace: owner.namespace.clone(),
            labels: meta.labels,
            annotations: meta.annotations,
            finalizers: meta.finalizers,
            owner_references: Some(vec![by]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}
