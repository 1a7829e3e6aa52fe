//! Job: runs pods until enough of them have succeeded, or too many have failed.
//!
//! No pod is counted twice or missed: each carries a finalizer that is removed only after the
//! status lists the pod as uncounted, and the counters grow only once the finalizer is gone. A
//! Job that is decided first says so (`SuccessCriteriaMet`, `FailureTarget`), ends its remaining
//! pods, and is `Complete` or `Failed` when all of them have ended and are counted.
//!
//! `backoffLimitPerIndex` is not observed: its failures count for the Job as a whole.

mod indexes;
mod outcome;
mod pods;
mod tally;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobCondition, JobSpec, JobStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, Time};

use super::action::{Action, Plan, Propagation, Severity, Write};
use super::object::{self, Claim};
use outcome::Verdict;
use tally::Tally;

/// Keeps a pod until it has been counted.
pub const TRACKING_FINALIZER: &str = "batch.kubernetes.io/job-tracking";
/// The index of a pod of an Indexed Job, as annotation and label.
pub const COMPLETION_INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// Pods created or deleted by one plan at most (kube-controller-manager's burst).
pub const BURST_PODS_MAX: usize = 500;

/// What a Job's decision depends on.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The Job.
    pub job: Arc<Job>,
    /// Its namespace's pods that it manages or that nobody does; others are ignored.
    pub pods: Vec<Arc<Pod>>,
}

/// Decides; see the module.
#[must_use]
pub fn plan(snapshot: &Snapshot, now: Timestamp) -> Plan {
    let job = &*snapshot.job;
    let Some(spec) = job.spec.as_ref() else { return Plan::default() };
    let mut plan = Plan::default();
    let managed_by = spec.managed_by.as_deref().unwrap_or("kubernetes.io/job-controller");
    if managed_by != "kubernetes.io/job-controller" {
        return plan;
    }
    let pods = claim(snapshot, spec, &mut plan);
    if object::is_deleting(&job.metadata) || is_finished(job) {
        release(&pods, &mut plan);
        expire(job, spec, now, &mut plan);
        return plan;
    }
    let mut status = job.status.clone().unwrap_or_default();
    let tally = Tally::of(spec, &pods, &mut status);
    let suspended = spec.suspend == Some(true);
    if status.start_time.is_none() && !suspended {
        status.start_time = Some(Time(now));
    }
    let verdict = outcome::decide(spec, &status, &pods, &tally, now);
    let mut work = Vec::new();
    match &verdict {
        Some(verdict) => conclude(job, verdict, &tally, &mut status, now, &mut work, &mut plan),
        None if suspended => {
            suspend(job, &mut status, now, &mut plan);
            work = pods::deletions(job, &tally.active);
        }
        None => {
            resume(job, &mut status, now, &mut plan);
            outcome::watch_deadline(spec, &status, &mut plan);
            work = pods::manage(job, spec, &pods, &tally, now, &mut plan);
        }
    }
    if job.status.as_ref() != Some(&status) {
        let mut changed = job.clone();
        changed.status = Some(status);
        plan.write(Write::update_status(&changed));
    }
    let counted: Vec<Write> = tally.to_release.iter().map(|pod| release_one(pod)).collect();
    if !counted.is_empty() {
        plan.actions.push(Action::Batch(counted));
    }
    if !work.is_empty() {
        plan.actions.push(Action::Batch(work));
    }
    plan
}

fn claim<'a>(snapshot: &'a Snapshot, spec: &JobSpec, plan: &mut Plan) -> Vec<&'a Pod> {
    let job = &*snapshot.job;
    let mut claimed = Vec::new();
    for pod in &snapshot.pods {
        let pod = &**pod;
        let owned = object::is_controlled_by(&pod.metadata, object::uid(&job.metadata));
        let selector = spec.selector.clone().filter(|known| !object::is_empty_selector(known));
        let Some(selector): Option<LabelSelector> = selector else {
            claimed.extend(owned.then_some(pod));
            continue;
        };
        match object::claim(job, &selector, pod) {
            Claim::Keep => claimed.push(pod),
            Claim::Adopt(write) => {
                plan.write(write);
                claimed.push(pod);
            }
            Claim::Release(write) => plan.write(write),
            Claim::Leave => {}
        }
    }
    claimed
}

/// Whether the Job is `Complete` or `Failed`.
#[must_use]
pub fn is_finished(job: &Job) -> bool {
    finished_at(job).is_some()
}

fn finished_at(job: &Job) -> Option<Timestamp> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    let last = conditions
        .iter()
        .find(|known| matches!(known.type_.as_str(), "Complete" | "Failed") && known.status == "True")?;
    Some(last.last_transition_time.as_ref().map_or(Timestamp::MIN, |time| time.0))
}

/// Lets pods go that no longer have to be counted.
fn release(pods: &[&Pod], plan: &mut Plan) {
    let writes: Vec<Write> =
        pods.iter().filter(|pod| tally::is_tracked(pod)).map(|pod| release_one(pod)).collect();
    if !writes.is_empty() {
        plan.actions.push(Action::Batch(writes));
    }
}

fn release_one(pod: &Pod) -> Write {
    let finalizers = pod.metadata.finalizers.iter().flatten();
    let rest: Vec<&String> = finalizers.filter(|one| *one != TRACKING_FINALIZER).collect();
    Write::merge(
        pod,
        serde_json::json!({ "metadata": {
            "uid": pod.metadata.uid,
            "resourceVersion": pod.metadata.resource_version,
            "finalizers": rest,
        }}),
    )
}

/// Deletes a finished Job when its time to live is over.
fn expire(job: &Job, spec: &JobSpec, now: Timestamp, plan: &mut Plan) {
    let Some(ttl_s) = spec.ttl_seconds_after_finished else { return };
    let Some(finished_at) = finished_at(job) else { return };
    if object::is_deleting(&job.metadata) {
        return;
    }
    let at = object::after(finished_at, i64::from(ttl_s));
    if at > now {
        plan.requeue(at);
        return;
    }
    plan.note("its time to live is over");
    let mut delete = Write::delete(job);
    if let Write::Delete { propagation, .. } = &mut delete {
        *propagation = Some(Propagation::Foreground);
    }
    plan.write(delete);
}

/// Moves a decided Job towards its end: its pods first, then the final condition.
fn conclude(
    job: &Job,
    verdict: &Verdict,
    tally: &Tally<'_>,
    status: &mut JobStatus,
    now: Timestamp,
    work: &mut Vec<Write>,
    plan: &mut Plan,
) {
    let (interim, last) =
        if verdict.success { ("SuccessCriteriaMet", "Complete") } else { ("FailureTarget", "Failed") };
    set(status, interim, "True", verdict.reason, &verdict.message, now);
    let done = tally.active.is_empty() && tally.terminating == 0 && tally.is_counted();
    if !done {
        plan.note(format!("{interim}: ends {} pods first", tally.active.len()));
        *work = pods::deletions(job, &tally.active);
        return;
    }
    set(status, last, "True", verdict.reason, &verdict.message, now);
    status.ready = Some(0);
    let regarding = object::reference(job);
    if verdict.success {
        status.completion_time = Some(Time(now));
        plan.event(regarding, Severity::Normal, "Completed", "Job completed");
    } else {
        plan.event(regarding, Severity::Warning, verdict.reason, verdict.message.clone());
    }
}

fn suspend(job: &Job, status: &mut JobStatus, now: Timestamp, plan: &mut Plan) {
    status.start_time = None;
    if set(status, "Suspended", "True", "JobSuspended", "Job suspended", now) {
        plan.event(object::reference(job), Severity::Normal, "Suspended", "Job suspended");
    }
}

fn resume(job: &Job, status: &mut JobStatus, now: Timestamp, plan: &mut Plan) {
    let mut conditions = status.conditions.iter().flatten();
    let was = conditions.any(|one| one.type_ == "Suspended" && one.status == "True");
    if was {
        set(status, "Suspended", "False", "JobResumed", "Job resumed", now);
        status.start_time = Some(Time(now));
        plan.event(object::reference(job), Severity::Normal, "Resumed", "Job resumed");
    }
}

/// Sets a condition; false if it had this status already.
fn set(status: &mut JobStatus, kind: &str, value: &str, reason: &str, message: &str, now: Timestamp) -> bool {
    let conditions = status.conditions.get_or_insert_default();
    if conditions.iter().any(|one| one.type_ == kind && one.status == value) {
        return false;
    }
    conditions.retain(|one| one.type_ != kind);
    conditions.push(JobCondition {
        type_: kind.to_owned(),
        status: value.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_probe_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    });
    true
}
