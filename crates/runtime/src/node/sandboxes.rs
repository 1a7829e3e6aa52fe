//! What CRI does to sandboxes.

use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use coracle_cri::runtime::v1::{ContainerEventType, NamespaceMode, PodSandboxConfig};
use coracle_network::{AttachSpec, PodNet};

use super::{Node, NodeError, OBJECTS_MAX, Sandbox, new_id, now_ns, sandbox_name};
use crate::record::SandboxRecord;
use crate::spec::SpecError;

impl Node {
    /// Gives a pod its place in the network.
    pub(crate) fn run_sandbox(
        &self,
        config: PodSandboxConfig,
        handler: String,
    ) -> Result<Arc<Sandbox>, NodeError> {
        let metadata = config.metadata.as_ref().ok_or(SpecError::Missing("the sandbox's metadata"))?;
        refuse_host_namespaces(&config)?;
        if self.sandboxes.read().len() >= OBJECTS_MAX {
            return Err(NodeError::TooMany);
        }
        let id = new_id();
        let name = sandbox_name(metadata);
        self.reserve(&name, &id)?;
        self.join(id, config, handler).inspect_err(|_| {
            self.names.lock().remove(&name);
        })
    }

    fn reserve(&self, name: &str, id: &str) -> Result<(), NodeError> {
        match self.names.lock().entry(name.to_owned()) {
            Entry::Vacant(free) => {
                free.insert(id.to_owned());
                Ok(())
            }
            Entry::Occupied(taken) => {
                Err(NodeError::Exists { kind: "pod sandbox", name: name.to_owned(), id: taken.get().clone() })
            }
        }
    }

    fn join(&self, id: String, config: PodSandboxConfig, handler: String) -> Result<Arc<Sandbox>, NodeError> {
        let net = self.attach(&id, &config, None)?;
        let record = SandboxRecord {
            id: id.clone(),
            config: Some(config),
            runtime_handler: handler,
            created_at: now_ns(),
            ready: true,
            ip: net.ip().to_string(),
        };
        if let Err(error) = self.records.put_sandbox(&record) {
            net.detach();
            return Err(error.into());
        }
        let sandbox = Arc::new(Sandbox::from_record(record, Some(net)));
        self.sandboxes.write().insert(id, Arc::clone(&sandbox));
        self.event(&sandbox.id, ContainerEventType::ContainerCreatedEvent, Some(&sandbox));
        self.event(&sandbox.id, ContainerEventType::ContainerStartedEvent, Some(&sandbox));
        Ok(sandbox)
    }

    pub(super) fn attach(
        &self,
        id: &str,
        config: &PodSandboxConfig,
        address: Option<IpAddr>,
    ) -> Result<PodNet, coracle_network::Error> {
        let metadata = config.metadata.clone().unwrap_or_default();
        self.fabric.attach(AttachSpec {
            sandbox_id: id.to_owned(),
            namespace: metadata.namespace,
            pod_name: metadata.name,
            hostname: config.hostname.clone(),
            address,
        })
    }

    /// Ends what runs in a sandbox and takes it off the network. That it is stopped or
    /// gone already is success.
    pub(crate) async fn stop_sandbox(&self, id: &str) -> Result<(), NodeError> {
        let sandbox = match self.sandbox(id) {
            Ok(sandbox) => sandbox,
            Err(NodeError::NotFound { .. }) => return Ok(()),
            Err(error) => return Err(error),
        };
        for container in sandbox.containers() {
            self.stop(&container, Duration::ZERO).await?;
        }
        let Some(net) = sandbox.net.lock().take() else {
            return Ok(());
        };
        net.detach();
        self.records.put_sandbox(&sandbox.to_record())?;
        self.event(&sandbox.id, ContainerEventType::ContainerStoppedEvent, Some(&sandbox));
        Ok(())
    }

    /// Stops a sandbox and forgets it with its containers.
    pub(crate) async fn remove_sandbox(&self, id: &str) -> Result<(), NodeError> {
        self.stop_sandbox(id).await?;
        let sandbox = match self.sandbox(id) {
            Ok(sandbox) => sandbox,
            Err(NodeError::NotFound { .. }) => return Ok(()),
            Err(error) => return Err(error),
        };
        for container in sandbox.containers() {
            self.remove_container(&container.id).await?;
        }
        self.records.remove_sandbox(&sandbox.id);
        self.sandboxes.write().remove(&sandbox.id);
        let metadata = sandbox.config.metadata.clone().unwrap_or_default();
        self.names.lock().remove(&sandbox_name(&metadata));
        self.event(&sandbox.id, ContainerEventType::ContainerDeletedEvent, Some(&sandbox));
        Ok(())
    }
}

/// A guest has no kernel to share with the host.
fn refuse_host_namespaces(config: &PodSandboxConfig) -> Result<(), SpecError> {
    let security = config.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
    let options = security.and_then(|security| security.namespace_options.as_ref());
    let host = |mode| mode == i32::from(NamespaceMode::Node);
    match options {
        Some(options) if host(options.network) => Err(SpecError::Unsupported("the host's network")),
        Some(options) if host(options.pid) => Err(SpecError::Unsupported("the host's process table")),
        Some(options) if host(options.ipc) => Err(SpecError::Unsupported("the host's IPC")),
        _ => Ok(()),
    }
}
