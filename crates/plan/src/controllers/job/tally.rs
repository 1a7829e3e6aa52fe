//! Counting a Job's pods exactly once.

use std::collections::{BTreeSet, HashSet};

use k8s_openapi::api::batch::v1::{JobSpec, JobStatus, UncountedTerminatedPods};
use k8s_openapi::api::core::v1::Pod;

use super::{COMPLETION_INDEX, TRACKING_FINALIZER, indexes, outcome};
use crate::controllers::object;

/// Pods that one status lists as uncounted at most; the rest wait for the next plan.
const UNCOUNTED_MAX: usize = 500;

/// A Job's pods, sorted and counted.
pub(super) struct Tally<'a> {
    /// Neither ended nor being deleted.
    pub(super) active: Vec<&'a Pod>,
    /// Being deleted and not ended yet.
    pub(super) terminating: usize,
    /// Succeeded so far, counted or not; of an Indexed Job, indexes.
    pub(super) succeeded: i32,
    /// Failed so far, counted or not, without those that the failure policy ignores.
    pub(super) failed: i32,
    /// The indexes that have succeeded.
    pub(super) indexes: BTreeSet<u32>,
    /// Pods that are on record in the status and can let their finalizer go.
    pub(super) to_release: Vec<&'a Pod>,
    waiting: bool,
}

impl<'a> Tally<'a> {
    /// Counts `pods` and brings `status` up to date with the result.
    pub(super) fn of(spec: &JobSpec, pods: &[&'a Pod], status: &mut JobStatus) -> Self {
        let indexed = spec.completion_mode.as_deref() == Some("Indexed");
        let by_failure_only = spec.pod_replacement_policy.as_deref() == Some("Failed");
        let tracked: HashSet<&str> =
            pods.iter().filter(|pod| is_tracked(pod)).map(|pod| object::uid(&pod.metadata)).collect();
        let mut uncounted = status.uncounted_terminated_pods.take().unwrap_or_default();
        let count = |uids: &mut Option<Vec<String>>| {
            let before = uids.as_ref().map_or(0, Vec::len);
            let left = uids.take().unwrap_or_default();
            let left: Vec<String> = left.into_iter().filter(|uid| tracked.contains(uid.as_str())).collect();
            let gone = before - left.len();
            *uids = Some(left);
            i32::try_from(gone).unwrap_or(i32::MAX)
        };
        let newly_succeeded = count(&mut uncounted.succeeded);
        let newly_failed = count(&mut uncounted.failed);
        let mut counted_succeeded = status.succeeded.unwrap_or(0) + newly_succeeded;
        let counted_failed = status.failed.unwrap_or(0) + newly_failed;

        let mut done = indexes::parse(status.completed_indexes.as_deref().unwrap_or_default());
        let mut tally = Tally {
            active: Vec::new(),
            terminating: 0,
            succeeded: 0,
            failed: 0,
            indexes: BTreeSet::new(),
            to_release: Vec::new(),
            waiting: false,
        };
        let succeeded = uncounted.succeeded.get_or_insert_default();
        let failed = uncounted.failed.get_or_insert_default();
        let mut ready = 0;
        for pod in pods.iter().copied() {
            if object::is_active(pod) {
                ready += i32::from(object::is_ready(pod));
                tally.active.push(pod);
                continue;
            }
            let phase = object::phase(pod);
            if !object::is_finished(pod) {
                tally.terminating += 1;
                if by_failure_only {
                    continue;
                }
            }
            if !is_tracked(pod) {
                continue;
            }
            tally.to_release.push(pod);
            if phase == "Succeeded" && indexed {
                // The index itself is the record.
                done.extend(index_of(pod).filter(|index| is_in_range(*index, spec)));
            } else if phase == "Succeeded" {
                tally.record(succeeded, pod);
            } else if !outcome::is_ignored(spec, pod) {
                tally.record(failed, pod);
            }
        }
        let length = |uids: &[String]| i32::try_from(uids.len()).unwrap_or(i32::MAX);
        tally.failed = counted_failed + length(failed);
        tally.waiting = !tally.to_release.is_empty() || !succeeded.is_empty() || !failed.is_empty();
        if indexed {
            counted_succeeded = i32::try_from(done.len()).unwrap_or(i32::MAX);
            tally.succeeded = counted_succeeded;
            status.completed_indexes = Some(indexes::format(&done)).filter(|text| !text.is_empty());
        } else {
            tally.succeeded = counted_succeeded + length(succeeded);
        }
        tally.indexes = done;
        let some = |count: i32| (count > 0).then_some(count);
        status.active = some(i32::try_from(tally.active.len()).unwrap_or(i32::MAX));
        status.ready = Some(ready);
        status.terminating = Some(i32::try_from(tally.terminating).unwrap_or(i32::MAX));
        status.succeeded = some(counted_succeeded);
        status.failed = some(counted_failed);
        status.uncounted_terminated_pods = Some(UncountedTerminatedPods {
            succeeded: Some(std::mem::take(succeeded)).filter(|uids| !uids.is_empty()),
            failed: Some(std::mem::take(failed)).filter(|uids| !uids.is_empty()),
        });
        tally
    }

    /// Puts a pod on record; one that does not fit keeps its finalizer until the next plan.
    fn record(&mut self, uids: &mut Vec<String>, pod: &'a Pod) {
        let uid = object::uid(&pod.metadata);
        if uids.iter().any(|known| known == uid) {
            return;
        }
        if uids.len() < UNCOUNTED_MAX {
            uids.push(uid.to_owned());
        } else {
            self.to_release.pop();
            self.waiting = true;
        }
    }

    /// Whether every pod that has ended is in the counters.
    pub(super) fn is_counted(&self) -> bool {
        !self.waiting
    }
}

/// Whether the pod still has to be counted.
pub(super) fn is_tracked(pod: &Pod) -> bool {
    pod.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == TRACKING_FINALIZER)
}

/// The completion index of a pod.
pub(super) fn index_of(pod: &Pod) -> Option<u32> {
    object::annotation(&pod.metadata, COMPLETION_INDEX)?.parse().ok()
}

/// Whether an index is one of the Job's.
pub(super) fn is_in_range(index: u32, spec: &JobSpec) -> bool {
    i64::from(index) < i64::from(spec.completions.unwrap_or(0))
}
