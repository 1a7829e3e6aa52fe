//! A pod with what the scheduler needs of it, worked out once.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, Toleration};

use super::resources::{Resources, pod_requests, pod_usage};

/// Identifies a pod: its uid, so that a successor of the same name is another.
pub type Uid = Arc<str>;

/// A pod as the scheduler sees it.
#[derive(Debug, Clone)]
pub struct PodInfo {
    /// The object.
    pub pod: Arc<Pod>,
    /// Its uid; where it has none, its namespace and name.
    pub uid: Uid,
    /// Higher goes first.
    pub priority: i32,
    /// What it asks for.
    pub requests: Resources,
    /// What it is taken to use when nodes are compared.
    pub usage: Resources,
    /// Ports of the host that it needs.
    pub host_ports: Vec<HostPort>,
}

/// A port of the host.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// The host's address; empty for all of them.
    pub ip: String,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// The port.
    pub port: i32,
}

impl PodInfo {
    /// Works a pod out.
    pub fn new(pod: Arc<Pod>) -> Self {
        let none = PodSpec::default();
        let spec = pod.spec.as_ref().unwrap_or(&none);
        Self {
            uid: uid(&pod),
            priority: spec.priority.unwrap_or(0),
            requests: pod_requests(spec),
            usage: pod_usage(spec),
            host_ports: host_ports(spec),
            pod,
        }
    }

    /// Namespace of the pod.
    pub fn namespace(&self) -> &str {
        self.pod.metadata.namespace.as_deref().unwrap_or_default()
    }

    /// Name of the pod.
    pub fn name(&self) -> &str {
        self.pod.metadata.name.as_deref().unwrap_or_default()
    }

    /// The spec, if the object has one.
    pub fn spec(&self) -> Option<&PodSpec> {
        self.pod.spec.as_ref()
    }

    /// The node that it was given, if any.
    pub fn node_name(&self) -> Option<&str> {
        node_name(&self.pod)
    }

    /// Its tolerations.
    pub fn tolerations(&self) -> &[Toleration] {
        self.spec().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default()
    }
}

/// The uid of a pod; where it has none, its namespace and name.
pub fn uid(pod: &Pod) -> Uid {
    match pod.metadata.uid.as_deref() {
        Some(uid) if !uid.is_empty() => uid.into(),
        _ => {
            let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            format!("{namespace}/{name}").into()
        }
    }
}

/// The node that a pod was given, if any.
pub fn node_name(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref().filter(|name| !name.is_empty())
}

/// Whether a pod has finished for good, and so takes nothing any more.
pub fn is_terminal(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

fn host_ports(spec: &PodSpec) -> Vec<HostPort> {
    let is_sidecar = |container: &&Container| container.restart_policy.as_deref() == Some("Always");
    let sidecars = spec.init_containers.iter().flatten().filter(is_sidecar);
    let host_network = spec.host_network.unwrap_or(false);
    spec.containers
        .iter()
        .chain(sidecars)
        .flat_map(|container| container.ports.iter().flatten())
        .filter_map(|port| {
            let default = host_network.then_some(port.container_port);
            let number = port.host_port.filter(|number| *number > 0).or(default)?;
            let ip = port.host_ip.as_deref().filter(|ip| *ip != "0.0.0.0").unwrap_or_default();
            Some(HostPort {
                ip: ip.to_owned(),
                protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
                port: number,
            })
        })
        .collect()
}
