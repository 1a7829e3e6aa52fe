//! Deployment: brings a template out through ReplicaSets, one per revision.
//!
//! The newest ReplicaSet has the Deployment's template; the others are history. A rolling update
//! grows the new and shrinks the old within maxSurge and maxUnavailable; `Recreate` empties the
//! old first. A change of size during a rollout is shared out in proportion. Revisions are
//! numbered in annotations, so that `kubectl rollout undo` can find them, and history beyond the
//! limit is deleted once a rollout is complete. Progress, availability and refused pods are told
//! in the status' conditions as kube-controller-manager tells them.
//!
//! It must never touch pods: those are the ReplicaSets'.

mod history;
mod revision;
mod rollout;
mod status;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, ReplicaSet};
use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::action::{Plan, Severity, Write};
use super::object::{self, Claim};

/// The label that tells a revision's pods from another's.
pub const HASH_LABEL: &str = "pod-template-hash";
/// The revision's number, on the Deployment and its ReplicaSets.
pub const REVISION: &str = "deployment.kubernetes.io/revision";
/// Earlier numbers of a revision that was rolled back to.
pub const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
/// The Deployment's size when the ReplicaSet was last scaled.
pub const DESIRED_REPLICAS: &str = "deployment.kubernetes.io/desired-replicas";
/// That size plus the surge.
pub const MAX_REPLICAS: &str = "deployment.kubernetes.io/max-replicas";

/// What a Deployment's decision depends on.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The Deployment.
    pub deployment: Arc<Deployment>,
    /// Its namespace's ReplicaSets that it manages or that nobody does; others are ignored.
    pub replica_sets: Vec<Arc<ReplicaSet>>,
    /// The names of all ReplicaSets in the namespace that begin with the Deployment's.
    pub taken_names: BTreeSet<String>,
    /// The pods of its ReplicaSets (looked at by `Recreate` alone).
    pub pods: Vec<Arc<Pod>>,
}

/// Decides; see the module.
#[must_use]
pub fn plan(snapshot: &Snapshot, now: Timestamp) -> Plan {
    let deployment = &*snapshot.deployment;
    let Some(spec) = deployment.spec.as_ref() else { return Plan::default() };
    let mut plan = Plan::default();
    if object::is_empty_selector(&spec.selector) {
        let message = "This deployment is selecting all pods. A non-empty selector is required.";
        plan.event(object::reference(deployment), Severity::Warning, "SelectingAll", message);
        return plan;
    }
    let sets = claim(snapshot, &mut plan);
    let mut rollout = rollout::Rollout::new(snapshot, spec, sets, now);
    if !object::is_deleting(&deployment.metadata) {
        rollout.decide();
    }
    rollout.finish(plan)
}

fn claim(snapshot: &Snapshot, plan: &mut Plan) -> Vec<Arc<ReplicaSet>> {
    let deployment = &*snapshot.deployment;
    let Some(spec) = deployment.spec.as_ref() else { return Vec::new() };
    let mut claimed = Vec::new();
    for set in &snapshot.replica_sets {
        match object::claim(deployment, &spec.selector, &**set) {
            Claim::Keep => claimed.push(Arc::clone(set)),
            // It is managed from the next plan on, when its new version has been seen.
            Claim::Adopt(write) | Claim::Release(write) => plan.write(write),
            Claim::Leave => {}
        }
    }
    claimed
}

/// A ReplicaSet as this plan leaves it.
#[derive(Clone, Debug)]
struct Member {
    set: ReplicaSet,
    /// The size it had; `None` if the plan makes it.
    was: Option<i32>,
    changed: bool,
}

impl Member {
    fn existing(set: &ReplicaSet) -> Self {
        Member { set: set.clone(), was: Some(size(set)), changed: false }
    }

    fn size(&self) -> i32 {
        size(&self.set)
    }

    fn available(&self) -> i32 {
        let status = self.set.status.as_ref();
        status.and_then(|status| status.available_replicas).unwrap_or(0)
    }

    fn set_size(&mut self, size: i32) {
        if let Some(spec) = self.set.spec.as_mut().filter(|spec| spec.replicas != Some(size)) {
            spec.replicas = Some(size);
            self.changed = true;
        }
    }

    fn annotate(&mut self, key: &str, value: &str) {
        let annotations = self.set.metadata.annotations.get_or_insert_default();
        if annotations.get(key).map(String::as_str) != Some(value) {
            annotations.insert(key.to_owned(), value.to_owned());
            self.changed = true;
        }
    }

    /// The write that this plan makes of it, if any, and its event.
    fn write(&self, regarding: ObjectReference, plan: &mut Plan) {
        let name = object::name(&self.set.metadata);
        if self.was.is_none() {
            plan.write(Write::create(&self.set));
        } else if self.changed {
            plan.write(Write::update(&self.set));
        }
        let (was, is) = (self.was.unwrap_or(0), self.size());
        if was != is {
            let direction = if is > was { "up" } else { "down" };
            let message = format!("Scaled {direction} replica set {name} from {was} to {is}");
            plan.event(regarding, Severity::Normal, "ScalingReplicaSet", message);
        }
    }
}

fn size(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

/// The Deployment's strategy, resolved to pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Limits {
    desired: i32,
    rolling: bool,
    surge: i32,
    unavailable: i32,
}

impl Limits {
    /// Surge rounds up and unavailability down; if both come to nothing one pod may be
    /// unavailable, or nothing could ever move.
    fn of(spec: &DeploymentSpec) -> Self {
        let desired = spec.replicas.unwrap_or(1).max(0);
        let strategy = spec.strategy.clone().unwrap_or_default();
        let rolling = strategy.type_.as_deref() != Some("Recreate");
        if !rolling {
            return Limits { desired, rolling, surge: 0, unavailable: 0 };
        }
        let quarter = IntOrString::String("25%".to_owned());
        let rolling_update = strategy.rolling_update.unwrap_or_default();
        let surge = rolling_update.max_surge.unwrap_or_else(|| quarter.clone());
        let unavailable = rolling_update.max_unavailable.unwrap_or(quarter);
        let surge = object::scaled(&surge, desired, true).max(0);
        let mut unavailable = object::scaled(&unavailable, desired, false).max(0);
        if surge == 0 && unavailable == 0 {
            unavailable = 1;
        }
        Limits { desired, rolling, surge, unavailable: unavailable.min(desired) }
    }

    /// The most pods there may be.
    fn most(self) -> i32 {
        if self.desired == 0 { 0 } else { self.desired.saturating_add(self.surge) }
    }

    /// The fewest available pods there may be.
    fn fewest_available(self) -> i32 {
        self.desired - self.unavailable
    }
}
