//! Tells users what became of their pods: events, and the `PodScheduled` condition. Never
//! makes the scheduler wait.

use coracle_client::chain;
use coracle_client::events::{Recorder, Type};
use coracle_plan::scheduler::condition::{
    GATED_MESSAGE, SCHEDULER_ERROR, SCHEDULING_GATED, UNSCHEDULABLE, not_scheduled,
};
use coracle_plan::scheduler::pod_info::PodInfo;
use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tracing::debug;

/// Conditions that wait to be written. Beyond it they are dropped: a pod that still has no
/// node is reported again after its next try.
const WAITING_MAX: usize = 4096;
/// Conditions that are written at once.
const WRITERS_MAX: usize = 16;

/// Reports for one scheduler.
pub(crate) struct Reporter {
    recorder: Recorder,
    conditions: mpsc::Sender<Update>,
}

struct Update {
    namespace: String,
    name: String,
    patch: Value,
}

impl Reporter {
    /// Its task ends when the reporter is dropped.
    pub(crate) fn new(client: kube::Client, recorder: Recorder) -> Self {
        let (conditions, waiting) = mpsc::channel(WAITING_MAX);
        tokio::spawn(write(client, waiting));
        Self { recorder, conditions }
    }

    pub(crate) fn scheduled(&self, pod: &PodInfo, node: &str) {
        let message = format!("Successfully assigned {}/{} to {node}", pod.namespace(), pod.name());
        self.recorder.event(&reference(&pod.pod), Type::Normal, "Scheduled", &message);
    }

    pub(crate) fn unschedulable(&self, pod: &PodInfo, why: &str) {
        self.recorder.event(&reference(&pod.pod), Type::Warning, "FailedScheduling", why);
        self.condition(pod, UNSCHEDULABLE, why);
    }

    pub(crate) fn failed(&self, pod: &PodInfo, why: &str) {
        self.recorder.event(&reference(&pod.pod), Type::Warning, "FailedScheduling", why);
        self.condition(pod, SCHEDULER_ERROR, why);
    }

    pub(crate) fn gated(&self, pod: &PodInfo) {
        self.condition(pod, SCHEDULING_GATED, GATED_MESSAGE);
    }

    fn condition(&self, pod: &PodInfo, reason: &str, message: &str) {
        let Some(mut patch) = not_scheduled(&pod.pod, reason, message, Timestamp::now()) else { return };
        if let Some(uid) = &pod.pod.metadata.uid {
            // A successor of the same name must not get it.
            patch["metadata"] = json!({ "uid": uid });
        }
        let update = Update { namespace: pod.namespace().to_owned(), name: pod.name().to_owned(), patch };
        if self.conditions.try_send(update).is_err() {
            debug!(pod = pod.name(), "too many conditions wait to be written");
        }
    }
}

async fn write(client: kube::Client, waiting: mpsc::Receiver<Update>) {
    let updates = futures::stream::unfold(waiting, |mut waiting| async move {
        let update = waiting.recv().await?;
        Some((update, waiting))
    });
    updates
        .for_each_concurrent(WRITERS_MAX, |update| {
            let pods: Api<Pod> = Api::namespaced(client.clone(), &update.namespace);
            async move {
                let patch = Patch::Strategic(&update.patch);
                if let Err(error) = pods.patch_status(&update.name, &PatchParams::default(), &patch).await {
                    debug!(pod = update.name, error = chain(&error), "condition not written");
                }
            }
        })
        .await;
}

fn reference(pod: &Pod) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        namespace: pod.metadata.namespace.clone(),
        name: pod.metadata.name.clone(),
        uid: pod.metadata.uid.clone(),
        resource_version: pod.metadata.resource_version.clone(),
        ..ObjectReference::default()
    }
}
