//! The stream of what happens to containers, from which kubelets learn at once what they
//! would otherwise find by listing.

use coracle_cri::runtime::v1::{ContainerEventResponse, ContainerEventType};
use tokio::sync::broadcast;

use super::{Container, Node, Sandbox, now_ns};

/// Events that a slow reader may be behind; then its stream ends with an error, and it
/// must list again.
const BACKLOG_MAX: usize = 4096;

#[derive(Debug)]
pub(crate) struct Events {
    sender: broadcast::Sender<ContainerEventResponse>,
}

impl Events {
    pub(super) fn new() -> Self {
        Self { sender: broadcast::Sender::new(BACKLOG_MAX) }
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<ContainerEventResponse> {
        self.sender.subscribe()
    }
}

impl Node {
    pub(super) fn container_event(&self, container: &Container, event: ContainerEventType) {
        let sandbox = self.sandbox(&container.sandbox_id).ok();
        self.event(&container.id, event, sandbox.as_deref());
    }

    /// Sandboxes have events too, under their own ids.
    pub(super) fn event(&self, id: &str, event: ContainerEventType, sandbox: Option<&Sandbox>) {
        // Nobody listening is the usual case for a node without an evented kubelet.
        if self.events.sender.receiver_count() == 0 {
            return;
        }
        let statuses = sandbox.map(Sandbox::containers);
        let _ = self.events.sender.send(ContainerEventResponse {
            container_id: id.to_owned(),
            container_event_type: event.into(),
            created_at: now_ns(),
            pod_sandbox_status: sandbox.map(Sandbox::status),
            containers_statuses: statuses.iter().flatten().map(|c| c.status()).collect(),
        });
    }
}
