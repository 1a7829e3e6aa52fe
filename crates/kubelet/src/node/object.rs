//! What the Node says: labels, capacity, conditions, addresses, images.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use coracle_cri::runtime::v1 as cri;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerImage, DaemonEndpoint, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeSpec,
    NodeStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde_json::{Value, json};

use super::capacity::{Capacity, arch, system_info};
use crate::config::Config;

/// Where the node's network accepts tunnels from other nodes.
const TUNNEL_ADDRESS: &str = "network.coracle.dev/tunnel-address";
/// Images listed in the Node, the largest first; scheduling profits from no more.
const IMAGES_MAX: usize = 50;

/// Whether the node can run pods, and why not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Health {
    problem: Option<String>,
    runtime_version: Option<String>,
}

impl Health {
    /// Nothing has been asked yet.
    pub(super) fn starting() -> Self {
        let problem = Some("the kubelet is starting".to_owned());
        Self { problem, runtime_version: None }
    }

    /// The runtime cannot be reached or refuses.
    pub(super) fn down(message: &str) -> Self {
        let problem = Some(format!("container runtime is down: {message}"));
        Self { problem, runtime_version: None }
    }

    /// The runtime does not answer.
    pub(super) fn hung(limit: Duration) -> Self {
        Self::down(&format!("no answer within {} s", limit.as_secs()))
    }

    /// What the runtime says of itself.
    pub(super) fn of(answer: &cri::StatusResponse, runtime_version: Option<String>) -> Self {
        let conditions = answer.status.as_ref().map(|s| s.conditions.as_slice());
        let conditions = conditions.unwrap_or_default();
        let problems: Vec<String> = ["RuntimeReady", "NetworkReady"]
            .into_iter()
            .filter_map(|wanted| match conditions.iter().find(|c| c.r#type == wanted) {
                Some(c) if c.status => None,
                Some(c) => Some(format!(
                    "container runtime not ready: {wanted}=false reason:{} message:{}",
                    c.reason, c.message
                )),
                None => Some(format!("container runtime does not report {wanted}")),
            })
            .collect();
        let problem = (!problems.is_empty()).then(|| problems.join(", "));
        Self { problem, runtime_version }
    }

    pub(super) fn ready(&self) -> bool {
        self.problem.is_none()
    }
}

/// The images that a node has.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Images(Vec<ContainerImage>);

impl Images {
    pub(super) fn of(images: &[cri::Image]) -> Self {
        let mut list: Vec<ContainerImage> = images
            .iter()
            .map(|image| ContainerImage {
                names: Some(image.repo_digests.iter().chain(&image.repo_tags).cloned().collect()),
                size_bytes: Some(i64::try_from(image.size).unwrap_or(i64::MAX)),
            })
            .collect();
        list.sort_by(|a, b| b.size_bytes.cmp(&a.size_bytes).then_with(|| a.names.cmp(&b.names)));
        list.truncate(IMAGES_MAX);
        Self(list)
    }
}

/// The Node without its status.
pub(super) fn node(config: &Config) -> Node {
    let mut labels = config.labels.clone();
    for (key, value) in [
        ("kubernetes.io/os", std::env::consts::OS),
        ("kubernetes.io/arch", arch()),
        ("kubernetes.io/hostname", config.node_name.as_str()),
        ("beta.kubernetes.io/os", std::env::consts::OS),
        ("beta.kubernetes.io/arch", arch()),
    ] {
        labels.insert(key.to_owned(), value.to_owned());
    }
    let tunnel = config.tunnel_address.clone();
    let annotations: BTreeMap<String, String> =
        tunnel.map(|address| (TUNNEL_ADDRESS.to_owned(), address)).into_iter().collect();
    Node {
        metadata: ObjectMeta {
            name: Some(config.node_name.clone()),
            labels: Some(labels),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        },
        spec: Some(NodeSpec::default()),
        ..Node::default()
    }
}

/// The patch that brings the labels and annotations of an existing Node up to date.
pub(super) fn metadata_patch(node: &Node) -> Value {
    json!({ "metadata": {
        "labels": node.metadata.labels,
        "annotations": node.metadata.annotations,
    }})
}

/// The Node's status; `known` is the one before, whose transition times are kept.
pub(super) fn status(
    config: &Config,
    api_address: SocketAddr,
    capacity: Capacity,
    health: &Health,
    known: Option<&NodeStatus>,
    images: &Images,
) -> NodeStatus {
    let now = now();
    let version = health.runtime_version.clone();
    let known_version = known.and_then(|s| s.node_info.as_ref());
    let version =
        version.or_else(|| known_version.map(|i| i.container_runtime_version.clone())).unwrap_or_default();
    NodeStatus {
        addresses: Some(vec![
            address("InternalIP", config.node_ip.to_string()),
            address("Hostname", config.node_name.clone()),
        ]),
        capacity: Some(capacity.resources()),
        allocatable: Some(capacity.resources()),
        conditions: Some(conditions(health, known, &now)),
        daemon_endpoints: Some(NodeDaemonEndpoints {
            kubelet_endpoint: Some(DaemonEndpoint { port: i32::from(api_address.port()) }),
        }),
        images: (!images.0.is_empty()).then(|| images.0.clone()),
        node_info: Some(system_info(version)),
        ..NodeStatus::default()
    }
}

/// Whether a status says something new, heartbeat times aside.
pub(super) fn differs(written: Option<&NodeStatus>, status: &NodeStatus) -> bool {
    let timeless = |status: &NodeStatus| {
        let mut status = status.clone();
        for condition in status.conditions.iter_mut().flatten() {
            condition.last_heartbeat_time = None;
        }
        status
    };
    written.is_none_or(|written| timeless(written) != timeless(status))
}

/// The status of the Ready condition.
pub(super) fn readiness(status: &NodeStatus) -> Option<&str> {
    let ready = status.conditions.iter().flatten().find(|c| c.type_ == "Ready");
    ready.map(|c| c.status.as_str())
}

/// The patch that stores `status`.
pub(super) fn status_patch(status: &NodeStatus) -> Value {
    let mut status = json!(status);
    // Merging addresses by type keeps an address that the node had before only if its type
    // is still in use, which is what is wanted; nothing else here is merged but conditions.
    if let Some(fields) = status.as_object_mut() {
        fields.entry("images").or_insert(Value::Null);
    }
    json!({ "status": status })
}

fn conditions(health: &Health, known: Option<&NodeStatus>, now: &Time) -> Vec<NodeCondition> {
    let (ready, reason, message) = match &health.problem {
        None => ("True", "KubeletReady", "kubelet is posting ready status".to_owned()),
        Some(problem) => ("False", "KubeletNotReady", problem.clone()),
    };
    let fixed = [
        ("MemoryPressure", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        ("DiskPressure", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        ("PIDPressure", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
    ];
    let pressures = fixed.map(|(kind, reason, message)| (kind, "False", reason, message.to_owned()));
    pressures
        .into_iter()
        .chain([("Ready", ready, reason, message)])
        .map(|(kind, status, reason, message)| {
            let before = known
                .and_then(|s| s.conditions.as_ref())
                .and_then(|list| list.iter().find(|c| c.type_ == kind && c.status == status));
            NodeCondition {
                type_: kind.to_owned(),
                status: status.to_owned(),
                reason: Some(reason.to_owned()),
                message: Some(message),
                last_heartbeat_time: Some(now.clone()),
                last_transition_time: before
                    .and_then(|c| c.last_transition_time.clone())
                    .or_else(|| Some(now.clone())),
            }
        })
        .collect()
}

fn address(kind: &str, address: String) -> NodeAddress {
    NodeAddress { type_: kind.to_owned(), address }
}

fn now() -> Time {
    let now = Timestamp::now();
    Time(Timestamp::from_second(now.as_second()).unwrap_or(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(network: bool) -> cri::StatusResponse {
        let condition = |kind: &str, status| cri::RuntimeCondition {
            r#type: kind.into(),
            status,
            reason: "NoPodCidr".into(),
            message: "no addresses yet".into(),
        };
        cri::StatusResponse {
            status: Some(cri::RuntimeStatus {
                conditions: vec![condition("RuntimeReady", true), condition("NetworkReady", network)],
            }),
            ..Default::default()
        }
    }

    fn status_with(health: &Health, known: Option<&NodeStatus>) -> NodeStatus {
        let capacity = Capacity { cpus: 1, memory_bytes: 0, disk_bytes: 0, pods: 1 };
        let address = "127.0.0.1:10250".parse().unwrap();
        status(&Config::default(), address, capacity, health, known, &Images::default())
    }

    #[test]
    fn both_conditions_make_a_node_ready() {
        assert!(Health::of(&answer(true), None).ready());
        let waiting = Health::of(&answer(false), None);
        assert!(!waiting.ready());
        let status = status_with(&waiting, None);
        let ready = status.conditions.unwrap().pop().unwrap();
        assert_eq!((ready.type_.as_str(), ready.status.as_str()), ("Ready", "False"));
        assert!(ready.message.unwrap().contains("NetworkReady=false reason:NoPodCidr"));
    }

    #[test]
    fn only_news_are_written() {
        let ready = Health::of(&answer(true), Some("coracle://1".into()));
        let first = status_with(&ready, None);
        assert!(differs(None, &first));
        assert!(!differs(Some(&first), &status_with(&ready, Some(&first))));
        assert!(differs(Some(&first), &status_with(&Health::down("x"), Some(&first))));
    }
}
