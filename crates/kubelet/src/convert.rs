//! Between pods and CRI: the configurations that sandboxes and containers are made from,
//! and what the runtime's answers say about a pod.
//!
//! Labels and annotations are those that kubelets use, so that what one kubelet made
//! another one, or `crictl`, can read.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use coracle_cri::runtime::v1 as cri;
use coracle_plan::kubelet::{ContainerPhase, ContainerRecord, Sandbox, quantity, spec_hash};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

use crate::config::Config;

const POD_NAME: &str = "io.kubernetes.pod.name";
const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
const POD_UID: &str = "io.kubernetes.pod.uid";
const CONTAINER_NAME: &str = "io.kubernetes.container.name";
const CONTAINER_HASH: &str = "io.kubernetes.container.hash";
const RESTART_COUNT: &str = "io.kubernetes.container.restartCount";
const CONTAINER_PORTS: &str = "io.kubernetes.container.ports";
const GRACE: &str = "io.kubernetes.pod.terminationGracePeriod";

/// Microseconds over which processor time is counted.
const CPU_PERIOD_US: i64 = 100_000;
/// Host names of pods are cut to this many bytes, as Linux's are.
const HOSTNAME_BYTES_MAX: usize = 63;

/// Identity of a pod as it travels in labels and paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PodId {
    pub(crate) uid: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl PodId {
    /// The identity of `pod`; `None` when it lacks a part, as no stored pod does.
    pub(crate) fn of(pod: &Pod) -> Option<Self> {
        let meta = &pod.metadata;
        Some(Self { uid: meta.uid.clone()?, namespace: meta.namespace.clone()?, name: meta.name.clone()? })
    }

    /// Where the pod's logs are.
    pub(crate) fn log_dir(&self, root: &Path) -> PathBuf {
        root.join(format!("{}_{}_{}", self.namespace, self.name, self.uid))
    }
}

/// A label selector for one pod's sandboxes or containers.
pub(crate) fn uid_selector(uid: &str) -> HashMap<String, String> {
    HashMap::from([(POD_UID.to_owned(), uid.to_owned())])
}

/// The uid of the pod that labels belong to.
pub(crate) fn uid_of(labels: &HashMap<String, String>) -> Option<&str> {
    labels.get(POD_UID).map(String::as_str)
}

/// The host name of a pod.
pub(crate) fn hostname(pod: &Pod) -> String {
    let spec = pod.spec.as_ref();
    let name = spec
        .and_then(|s| s.hostname_override.as_deref().or(s.hostname.as_deref()))
        .filter(|name| !name.is_empty())
        .or(pod.metadata.name.as_deref())
        .unwrap_or_default();
    let end = name.len().min(HOSTNAME_BYTES_MAX);
    name.get(..end).unwrap_or(name).trim_end_matches(['-', '.']).to_owned()
}

/// What the pod's sandbox is made from.
pub(crate) fn sandbox_config(
    config: &Config,
    id: &PodId,
    pod: &Pod,
    spec: &PodSpec,
    attempt: u32,
) -> cri::PodSandboxConfig {
    let mut labels: HashMap<String, String> =
        pod.metadata.labels.iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect();
    labels.extend(pod_labels(id));
    let annotations =
        pod.metadata.annotations.iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect();
    cri::PodSandboxConfig {
        metadata: Some(cri::PodSandboxMetadata {
            name: id.name.clone(),
            uid: id.uid.clone(),
            namespace: id.namespace.clone(),
            attempt,
        }),
        hostname: hostname(pod),
        log_directory: id.log_dir(&config.log_dir).to_string_lossy().into_owned(),
        dns_config: Some(dns_config(config, id, spec)),
        port_mappings: port_mappings(spec),
        labels,
        annotations,
        linux: Some(cri::LinuxPodSandboxConfig::default()),
        ..Default::default()
    }
}

/// What is known of a container before it is made, besides its specification.
pub(crate) struct ContainerInput {
    pub(crate) attempt: u32,
    /// The runtime's reference of the image.
    pub(crate) image_ref: String,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) command: Vec<String>,
    pub(crate) args: Vec<String>,
    pub(crate) mounts: Vec<cri::Mount>,
}

/// What a container is made from.
pub(crate) fn container_config(
    id: &PodId,
    spec: &PodSpec,
    container: &Container,
    input: ContainerInput,
) -> cri::ContainerConfig {
    let mut labels: HashMap<String, String> = pod_labels(id).into_iter().collect();
    labels.insert(CONTAINER_NAME.to_owned(), container.name.clone());
    let mut annotations = HashMap::from([
        (CONTAINER_HASH.to_owned(), spec_hash(container)),
        (RESTART_COUNT.to_owned(), input.attempt.to_string()),
    ]);
    if let Some(seconds) = spec.termination_grace_period_seconds {
        annotations.insert(GRACE.to_owned(), seconds.to_string());
    }
    if let Some(ports) = container.ports.as_ref().filter(|ports| !ports.is_empty())
        && let Ok(json) = serde_json::to_string(ports)
    {
        annotations.insert(CONTAINER_PORTS.to_owned(), json);
    }
    let envs = input.environment.into_iter().map(|(key, value)| cri::KeyValue { key, value });
    let image = container.image.clone().unwrap_or_default();
    cri::ContainerConfig {
        metadata: Some(cri::ContainerMetadata { name: container.name.clone(), attempt: input.attempt }),
        image: Some(cri::ImageSpec {
            image: if input.image_ref.is_empty() { image.clone() } else { input.image_ref },
            user_specified_image: image,
            ..Default::default()
        }),
        command: input.command,
        args: input.args,
        working_dir: container.working_dir.clone().unwrap_or_default(),
        envs: envs.collect(),
        mounts: input.mounts,
        labels,
        annotations,
        log_path: log_path(&container.name, input.attempt),
        stdin: container.stdin.unwrap_or(false),
        stdin_once: container.stdin_once.unwrap_or(false),
        tty: container.tty.unwrap_or(false),
        linux: Some(cri::LinuxContainerConfig {
            resources: Some(resources(container)),
            security_context: Some(security_context(container)),
        }),
        ..Default::default()
    }
}

/// A container's log file, relative to its pod's log directory.
pub(crate) fn log_path(container: &str, attempt: u32) -> String {
    format!("{container}/{attempt}.log")
}

/// What the runtime's status of a sandbox says.
pub(crate) fn sandbox(status: &cri::PodSandboxStatus) -> Sandbox {
    let network = status.network.as_ref();
    let main = network.map(|n| n.ip.clone()).filter(|ip| !ip.is_empty());
    let more = network.map(|n| n.additional_ips.as_slice()).unwrap_or_default();
    Sandbox {
        id: status.id.clone(),
        attempt: status.metadata.as_ref().map_or(0, |m| m.attempt),
        ready: status.state() == cri::PodSandboxState::SandboxReady,
        created_at: nanos(status.created_at).unwrap_or(Timestamp::UNIX_EPOCH),
        ips: main.into_iter().chain(more.iter().map(|ip| ip.ip.clone())).collect(),
    }
}

/// What the runtime's status of a container in `sandbox_id` says.
pub(crate) fn record(status: &cri::ContainerStatus, sandbox_id: &str) -> ContainerRecord {
    let annotation = |key: &str| status.annotations.get(key).cloned();
    let image = status.image.as_ref();
    let user_image = image.map(|i| i.user_specified_image.clone()).filter(|i| !i.is_empty());
    let metadata = status.metadata.as_ref();
    ContainerRecord {
        id: status.id.clone(),
        sandbox_id: sandbox_id.to_owned(),
        name: status
            .labels
            .get(CONTAINER_NAME)
            .cloned()
            .or_else(|| metadata.map(|m| m.name.clone()))
            .unwrap_or_default(),
        attempt: annotation(RESTART_COUNT)
            .and_then(|text| text.parse().ok())
            .or_else(|| metadata.map(|m| m.attempt))
            .unwrap_or(0),
        state: phase(status.state()),
        created_at: nanos(status.created_at).unwrap_or(Timestamp::UNIX_EPOCH),
        started_at: nanos(status.started_at),
        finished_at: nanos(status.finished_at),
        exit_code: status.exit_code,
        reason: status.reason.clone(),
        message: status.message.clone(),
        image: user_image.or_else(|| image.map(|i| i.image.clone())).unwrap_or_default(),
        image_id: if status.image_ref.is_empty() {
            status.image_id.clone()
        } else {
            status.image_ref.clone()
        },
        hash: annotation(CONTAINER_HASH).unwrap_or_default(),
    }
}

/// The runtime's container states as the plan names them.
pub(crate) fn phase(state: cri::ContainerState) -> ContainerPhase {
    match state {
        cri::ContainerState::ContainerCreated => ContainerPhase::Created,
        cri::ContainerState::ContainerRunning => ContainerPhase::Running,
        cri::ContainerState::ContainerExited => ContainerPhase::Exited,
        cri::ContainerState::ContainerUnknown => ContainerPhase::Unknown,
    }
}

fn pod_labels(id: &PodId) -> [(String, String); 3] {
    [
        (POD_NAME.to_owned(), id.name.clone()),
        (POD_NAMESPACE.to_owned(), id.namespace.clone()),
        (POD_UID.to_owned(), id.uid.clone()),
    ]
}

/// A time in nanoseconds since 1970; 0 means that it has not come.
fn nanos(value: i64) -> Option<Timestamp> {
    (value > 0).then(|| Timestamp::from_nanosecond(i128::from(value)).ok()).flatten()
}

fn dns_config(config: &Config, id: &PodId, spec: &PodSpec) -> cri::DnsConfig {
    let domain = &config.cluster_domain;
    let cluster = matches!(
        spec.dns_policy.as_deref().unwrap_or("ClusterFirst"),
        "ClusterFirst" | "ClusterFirstWithHostNet"
    );
    let mut dns = cri::DnsConfig::default();
    if cluster {
        dns.servers = config.cluster_dns.iter().map(ToString::to_string).collect();
        dns.searches =
            vec![format!("{}.svc.{domain}", id.namespace), format!("svc.{domain}"), domain.clone()];
        dns.options = vec!["ndots:5".to_owned()];
    }
    if let Some(own) = &spec.dns_config {
        dns.servers.extend(own.nameservers.iter().flatten().cloned());
        dns.searches.extend(own.searches.iter().flatten().cloned());
        dns.options.extend(own.options.iter().flatten().filter_map(|option| {
            let name = option.name.as_deref()?;
            Some(match option.value.as_deref() {
                Some(value) => format!("{name}:{value}"),
                None => name.to_owned(),
            })
        }));
    }
    dns
}

fn port_mappings(spec: &PodSpec) -> Vec<cri::PortMapping> {
    let ports = spec.containers.iter().flat_map(|c| c.ports.iter().flatten());
    ports
        .map(|port| cri::PortMapping {
            protocol: match port.protocol.as_deref() {
                Some("UDP") => cri::Protocol::Udp,
                Some("SCTP") => cri::Protocol::Sctp,
                _ => cri::Protocol::Tcp,
            }
            .into(),
            container_port: port.container_port,
            host_port: port.host_port.unwrap_or(0),
            host_ip: port.host_ip.clone().unwrap_or_default(),
        })
        .collect()
}

fn resources(container: &Container) -> cri::LinuxContainerResources {
    let resources = container.resources.as_ref();
    let limit = |name: &str| resources.and_then(|r| r.limits.as_ref()?.get(name));
    let request = |name: &str| resources.and_then(|r| r.requests.as_ref()?.get(name));
    let whole = |value: i128| i64::try_from(value).unwrap_or(i64::MAX);
    let cpu_limit = limit("cpu").and_then(quantity::milli).map(whole);
    let cpu_request = request("cpu").or(limit("cpu")).and_then(quantity::milli).map(whole);
    cri::LinuxContainerResources {
        cpu_period: if cpu_limit.is_some() { CPU_PERIOD_US } else { 0 },
        cpu_quota: cpu_limit.map_or(0, |milli| milli.saturating_mul(CPU_PERIOD_US / 1000)),
        // 1024 shares are one core; 2 is the least there is.
        cpu_shares: cpu_request.map_or(2, |milli| (milli.saturating_mul(1024) / 1000).max(2)),
        memory_limit_in_bytes: limit("memory").and_then(quantity::units).map_or(0, whole),
        ..Default::default()
    }
}

fn security_context(container: &Container) -> cri::LinuxContainerSecurityContext {
    let Some(own) = container.security_context.as_ref() else {
        return cri::LinuxContainerSecurityContext::default();
    };
    cri::LinuxContainerSecurityContext {
        privileged: own.privileged.unwrap_or(false),
        readonly_rootfs: own.read_only_root_filesystem.unwrap_or(false),
        no_new_privs: own.allow_privilege_escalation == Some(false),
        run_as_user: own.run_as_user.map(|value| cri::Int64Value { value }),
        run_as_group: own.run_as_group.map(|value| cri::Int64Value { value }),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn limits_become_quota_shares_and_bytes() {
        let container: Container = serde_json::from_value(json!({"name": "c", "resources": {
            "limits": {"cpu": "1500m", "memory": "64Mi"}, "requests": {"cpu": "500m"}}}))
        .unwrap();
        let out = resources(&container);
        assert_eq!((out.cpu_period, out.cpu_quota, out.cpu_shares), (100_000, 150_000, 512));
        assert_eq!(out.memory_limit_in_bytes, 64 << 20);
    }

    #[test]
    fn what_is_made_is_recognised_again() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "ns", "uid": "u"},
            "spec": {"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80}]}]}
        }))
        .unwrap();
        let spec = pod.spec.as_ref().unwrap();
        let id = PodId::of(&pod).unwrap();
        let input = ContainerInput {
            attempt: 3,
            image_ref: "sha256:1".into(),
            environment: Vec::new(),
            command: Vec::new(),
            args: Vec::new(),
            mounts: Vec::new(),
        };
        let config = container_config(&id, spec, &spec.containers[0], input);
        assert_eq!(config.annotations[CONTAINER_PORTS], r#"[{"containerPort":80}]"#);
        assert_eq!(config.log_path, "c/3.log");
        let status = cri::ContainerStatus {
            id: "x".into(),
            labels: config.labels.clone(),
            annotations: config.annotations.clone(),
            image: config.image.clone(),
            ..Default::default()
        };
        let record = record(&status, "s");
        assert_eq!((record.name.as_str(), record.attempt), ("c", 3));
        assert_eq!(record.hash, spec_hash(&spec.containers[0]));
        assert_eq!(record.image, "i");
        assert_eq!(uid_of(&config.labels), Some("u"));
    }
}
