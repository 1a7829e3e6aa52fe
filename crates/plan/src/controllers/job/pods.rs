//! Which pods a Job makes and which it ends.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{EnvVar, Pod, PodTemplateSpec};

use super::tally::{Tally, index_of, is_in_range};
use super::{BURST_PODS_MAX, COMPLETION_INDEX, TRACKING_FINALIZER};
use crate::controllers::action::{Narration, Plan, Write};
use crate::controllers::{object, replicaset};

/// The pause after a failed pod; it doubles with each failure in a row.
const BACKOFF_MIN_S: i64 = 10;
/// The longest such pause.
const BACKOFF_MAX_S: i64 = 600;
/// Labels by which a Job's pods can be found, beside the older names without a prefix.
const CONTROLLER_UID: [&str; 2] = ["batch.kubernetes.io/controller-uid", "controller-uid"];
const JOB_NAME: [&str; 2] = ["batch.kubernetes.io/job-name", "job-name"];

/// The writes that bring the number of active pods to what it should be.
pub(super) fn manage(
    job: &Job,
    spec: &JobSpec,
    pods: &[&Pod],
    tally: &Tally<'_>,
    now: Timestamp,
    plan: &mut Plan,
) -> Vec<Write> {
    let indexed = spec.completion_mode.as_deref() == Some("Indexed");
    let active = tally.active.len();
    let parallelism = usize::try_from(spec.parallelism.unwrap_or(1)).unwrap_or(0);
    let wanted = match spec.completions {
        Some(completions) => {
            let left = usize::try_from(completions - tally.succeeded).unwrap_or(0);
            parallelism.min(left)
        }
        None if tally.succeeded > 0 => active.min(parallelism),
        None => parallelism,
    };
    let mut surplus = if indexed { misfits(spec, tally) } else { Vec::new() };
    let fitting = active - surplus.len();
    if fitting > wanted {
        let mut rest: Vec<&Pod> = tally
            .active
            .iter()
            .copied()
            .filter(|pod| !surplus.iter().any(|known| known.metadata.uid == pod.metadata.uid))
            .collect();
        rest.sort_by_key(|pod| {
            let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
            (object::is_ready(pod), object::phase(pod) == "Running", std::cmp::Reverse(created))
        });
        surplus.extend(rest.into_iter().take(fitting - wanted));
    }
    if !surplus.is_empty() {
        plan.note(format!("{active} of {wanted} pods: ends {}", surplus.len()));
        return deletions(job, &surplus);
    }
    let only_failed = spec.pod_replacement_policy.as_deref() == Some("Failed");
    let held = if only_failed { active + tally.terminating } else { active };
    let missing = wanted.saturating_sub(held).min(BURST_PODS_MAX);
    if missing == 0 {
        return Vec::new();
    }
    if let Some(at) = backoff_until(pods).filter(|at| *at > now) {
        plan.note(format!("waits until {at} after failures"));
        plan.requeue(at);
        return Vec::new();
    }
    plan.note(format!("{active} of {wanted} pods: creates {missing}"));
    if indexed {
        let free = free_indexes(spec, tally, missing);
        free.into_iter().map(|index| creation(job, spec, Some(index))).collect()
    } else {
        vec![creation(job, spec, None); missing]
    }
}

/// Deletes pods, telling of each.
pub(super) fn deletions(job: &Job, pods: &[&Pod]) -> Vec<Write> {
    let narration = Narration {
        regarding: object::reference(job),
        done: ("SuccessfulDelete", "Deleted pod: "),
        failed: ("FailedDelete", "Error deleting: "),
    };
    let some = pods.iter().take(BURST_PODS_MAX);
    some.map(|pod| Write::delete(*pod).narrated(narration.clone())).collect()
}

/// Active pods whose index is done, taken twice or out of range.
fn misfits<'a>(spec: &JobSpec, tally: &Tally<'a>) -> Vec<&'a Pod> {
    let mut taken = BTreeSet::new();
    let fits = |pod: &Pod, taken: &mut BTreeSet<u32>| {
        index_of(pod).is_some_and(|index| {
            is_in_range(index, spec) && !tally.indexes.contains(&index) && taken.insert(index)
        })
    };
    tally.active.iter().copied().filter(|pod| !fits(pod, &mut taken)).collect()
}

fn free_indexes(spec: &JobSpec, tally: &Tally<'_>, count: usize) -> Vec<u32> {
    let taken: BTreeSet<u32> = tally.active.iter().filter_map(|pod| index_of(pod)).collect();
    let all = 0..u32::try_from(spec.completions.unwrap_or(0)).unwrap_or(0);
    let free = all.filter(|index| !taken.contains(index) && !tally.indexes.contains(index));
    free.take(count).collect()
}

/// Until when no pod is made: longer the more pods failed since the last success.
fn backoff_until(pods: &[&Pod]) -> Option<Timestamp> {
    let ended = |phase: &str| {
        let of_phase = pods.iter().filter(|pod| object::phase(pod) == phase);
        of_phase.map(|pod| ended_at(pod)).collect::<Vec<Timestamp>>()
    };
    let success = ended("Succeeded").into_iter().max().unwrap_or(Timestamp::MIN);
    let failures: Vec<Timestamp> = ended("Failed").into_iter().filter(|at| *at > success).collect();
    let last = failures.iter().max().copied()?;
    let doublings = u32::try_from(failures.len() - 1).unwrap_or(u32::MAX).min(16);
    let pause_s = (BACKOFF_MIN_S << doublings).min(BACKOFF_MAX_S);
    Some(object::after(last, pause_s))
}

/// When the last of a pod's containers ended; if none says so, when the pod was made.
fn ended_at(pod: &Pod) -> Timestamp {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    let ends = statuses.into_iter().flatten().filter_map(|container| {
        let terminated = container.state.as_ref()?.terminated.as_ref()?;
        terminated.finished_at.as_ref().map(|time| time.0)
    });
    let made = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
    ends.max().or(made).unwrap_or(Timestamp::MIN)
}

fn creation(job: &Job, spec: &JobSpec, index: Option<u32>) -> Write {
    let pod = pod(job, &spec.template, index);
    Write::create(&pod).narrated(Narration {
        regarding: object::reference(job),
        done: ("SuccessfulCreate", "Created pod: "),
        failed: ("FailedCreate", "Error creating: "),
    })
}

fn pod(job: &Job, template: &PodTemplateSpec, index: Option<u32>) -> Pod {
    let owner = object::controller_reference(job);
    let mut pod = replicaset::pod_from(template, &job.metadata, owner);
    pod.metadata.finalizers.get_or_insert_default().push(TRACKING_FINALIZER.to_owned());
    let labels = pod.metadata.labels.get_or_insert_default();
    for key in CONTROLLER_UID {
        labels.entry(key.to_owned()).or_insert_with(|| object::uid(&job.metadata).to_owned());
    }
    for key in JOB_NAME {
        labels.entry(key.to_owned()).or_insert_with(|| object::name(&job.metadata).to_owned());
    }
    let Some(index) = index else { return pod };
    let text = index.to_string();
    labels.insert(COMPLETION_INDEX.to_owned(), text.clone());
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(COMPLETION_INDEX.to_owned(), text.clone());
    let name = object::name(&job.metadata);
    pod.metadata.generate_name = Some(format!("{name}-{index}-"));
    if let Some(spec) = pod.spec.as_mut() {
        spec.hostname.get_or_insert_with(|| format!("{name}-{index}"));
        let init = spec.init_containers.iter_mut().flatten();
        for container in init.chain(spec.containers.iter_mut()) {
            let env = container.env.get_or_insert_default();
            if !env.iter().any(|known| known.name == "JOB_COMPLETION_INDEX") {
                let name = "JOB_COMPLETION_INDEX".to_owned();
                env.push(EnvVar { name, value: Some(text.clone()), value_from: None });
            }
        }
    }
    pod
}
