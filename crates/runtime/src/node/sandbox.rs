//! One pod's sandbox: its configuration and its place in the network.

use std::sync::Arc;

use coracle_cri::runtime::v1 as cri;
use coracle_network::PodNet;
use parking_lot::Mutex;

use super::Container;
use crate::record::SandboxRecord;

/// A sandbox. Its configuration never changes.
#[derive(Debug)]
pub(crate) struct Sandbox {
    pub(crate) id: String,
    pub(crate) config: cri::PodSandboxConfig,
    pub(crate) runtime_handler: String,
    pub(crate) created_at: i64,
    /// As text; kept after the pod has left the network.
    pub(crate) ip: String,
    /// While the sandbox is ready.
    pub(super) net: Mutex<Option<PodNet>>,
    /// Its containers, oldest first.
    pub(super) members: Mutex<Vec<Arc<Container>>>,
}

impl Sandbox {
    pub(super) fn from_record(record: SandboxRecord, net: Option<PodNet>) -> Self {
        Self {
            id: record.id,
            config: record.config.unwrap_or_default(),
            runtime_handler: record.runtime_handler,
            created_at: record.created_at,
            ip: record.ip,
            net: Mutex::new(net),
            members: Mutex::default(),
        }
    }

    pub(super) fn to_record(&self) -> SandboxRecord {
        SandboxRecord {
            id: self.id.clone(),
            config: Some(self.config.clone()),
            runtime_handler: self.runtime_handler.clone(),
            created_at: self.created_at,
            ready: self.is_ready(),
            ip: self.ip.clone(),
        }
    }

    /// Its containers, oldest first.
    pub(crate) fn containers(&self) -> Vec<Arc<Container>> {
        self.members.lock().clone()
    }

    pub(crate) fn net(&self) -> Option<PodNet> {
        self.net.lock().clone()
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.net.lock().is_some()
    }

    pub(crate) fn state(&self) -> cri::PodSandboxState {
        match self.is_ready() {
            true => cri::PodSandboxState::SandboxReady,
            false => cri::PodSandboxState::SandboxNotready,
        }
    }

    /// As a list shows it.
    pub(crate) fn summary(&self) -> cri::PodSandbox {
        cri::PodSandbox {
            id: self.id.clone(),
            metadata: self.config.metadata.clone(),
            state: self.state().into(),
            created_at: self.created_at,
            labels: self.config.labels.clone(),
            annotations: self.config.annotations.clone(),
            runtime_handler: self.runtime_handler.clone(),
        }
    }

    pub(crate) fn status(&self) -> cri::PodSandboxStatus {
        let summary = self.summary();
        let ip = if self.is_ready() { self.ip.clone() } else { String::new() };
        let namespaces = self.config.linux.as_ref().and_then(|linux| {
            linux.security_context.as_ref().and_then(|security| security.namespace_options.clone())
        });
        cri::PodSandboxStatus {
            id: summary.id,
            metadata: summary.metadata,
            state: summary.state,
            created_at: summary.created_at,
            network: Some(cri::PodSandboxNetworkStatus { ip, additional_ips: Vec::new() }),
            linux: Some(cri::LinuxPodSandboxStatus {
                namespaces: Some(cri::Namespace { options: namespaces }),
            }),
            labels: summary.labels,
            annotations: summary.annotations,
            runtime_handler: summary.runtime_handler,
        }
    }
}
