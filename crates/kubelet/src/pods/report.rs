//! Writing a pod's status: only what changed, never two writes of one pod at a time, and
//! never more than a bounded number in flight.

use std::borrow::Cow;
use std::time::Duration;

use coracle_plan::kubelet::backoff::{API, Failure};
use coracle_plan::kubelet::patch::status_patch;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::Api;
use kube::api::{Patch, PatchParams};

use super::PodEntry;
use crate::objects::api_message;
use crate::shared::Shared;

/// Limit of one write.
const WRITE_LIMIT: Duration = Duration::from_secs(10);

/// What was last written for a pod.
#[derive(Debug, Default)]
pub(super) struct Written {
    version: u64,
    status: PodStatus,
    failure: Option<Failure>,
}

impl Written {
    /// The newest status known to be stored: ours, or the one that `pod` came with.
    pub(super) fn newest<'a>(&'a self, pod: &'a Pod) -> Cow<'a, PodStatus> {
        if self.version > version(pod) {
            return Cow::Borrowed(&self.status);
        }
        match &pod.status {
            Some(status) => Cow::Borrowed(status),
            None => Cow::Owned(PodStatus::default()),
        }
    }

    /// When a failed write is to be tried again.
    pub(super) fn retry_at(&self) -> Option<Timestamp> {
        self.failure.as_ref().map(|f| f.retry_at)
    }

    /// Brings the stored status up to date; does nothing while a failed write waits.
    ///
    /// # Errors
    /// What went wrong, for the log.
    pub(super) async fn write(
        &mut self,
        shared: &Shared,
        entry: &PodEntry,
        pod: &Pod,
        wanted: &PodStatus,
    ) -> Result<(), String> {
        let now = Timestamp::now();
        let waiting = self.failure.as_ref().filter(|f| f.waits(now));
        if let Some(failure) = waiting {
            return Err(failure.message.clone());
        }
        let patch = status_patch(&entry.id.uid, &self.newest(pod), wanted);
        let Some(patch) = patch.map_err(|e| e.to_string())? else {
            self.failure = None;
            return Ok(());
        };
        let _turn = shared.status_writes.acquire().await;
        let api: Api<Pod> = Api::namespaced(shared.client.clone(), &entry.id.namespace);
        let params = PatchParams::default();
        let patch = Patch::Strategic(patch);
        let answer = api.patch_status(&entry.id.name, &params, &patch);
        let message = match tokio::time::timeout(WRITE_LIMIT, answer).await {
            Ok(Ok(stored)) => {
                self.version = version(&stored);
                self.status = stored.status.unwrap_or_default();
                self.failure = None;
                return Ok(());
            }
            // The watch will say that it is gone.
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => return Ok(()),
            Ok(Err(error)) => api_message(&error),
            Err(_) => format!("no answer within {} s", WRITE_LIMIT.as_secs()),
        };
        let failure = Failure::after(self.failure.as_ref(), API, "FailedStatus", message.clone(), now);
        self.failure = Some(failure);
        Err(message)
    }
}

/// A resourceVersion as a number; Kubernetes promises that they compare so.
fn version(pod: &Pod) -> u64 {
    pod.metadata.resource_version.as_deref().and_then(|v| v.parse().ok()).unwrap_or(0)
}
