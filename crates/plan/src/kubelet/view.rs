//! What the state machine looks at: the pod as the API server has it, the sandboxes and
//! containers as the runtime reports them, and what the kubelet remembers between.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, PodStatus};

use super::backoff::{CrashLoop, Failure, rule_of};
use super::probe::ContainerProbes;

/// Everything a decision about one pod depends on.
#[derive(Debug, Clone, Copy)]
pub struct PodView<'a> {
    /// The pod as last seen.
    pub pod: &'a Pod,
    /// The API server has it no more.
    pub gone: bool,
    /// The newest status known to be stored: what was last read or written.
    pub status: &'a PodStatus,
    /// The node it runs on.
    pub node: &'a NodeFacts,
    /// Every sandbox of this pod that the runtime has.
    pub sandboxes: &'a [Sandbox],
    /// Every container of this pod that the runtime has, in any of its sandboxes.
    pub containers: &'a [ContainerRecord],
    /// What the kubelet remembers about it.
    pub memory: &'a Memory,
    /// The time.
    pub now: Timestamp,
}

/// What pods may learn about their node, and what statuses repeat of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NodeFacts {
    /// Its name.
    pub name: String,
    /// Its addresses, the main one first.
    pub host_ips: Vec<String>,
    /// The runtime's name, which container ids begin with.
    pub runtime_name: String,
    /// Allocatable processor time, in thousandths of a core.
    pub allocatable_cpu_milli: i128,
    /// Allocatable memory, in bytes.
    pub allocatable_memory: i128,
    /// Allocatable local disk, in bytes.
    pub allocatable_ephemeral: i128,
}

/// A pod sandbox in the runtime.
#[derive(Debug, Clone, PartialEq)]
pub struct Sandbox {
    /// The runtime's id.
    pub id: String,
    /// 0 for the pod's first sandbox.
    pub attempt: u32,
    /// Whether it can hold running containers.
    pub ready: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// Its addresses, the main one first.
    pub ips: Vec<String>,
}

/// The state of a container in the runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContainerPhase {
    /// Made, never started.
    Created,
    /// Running.
    Running,
    /// Ended.
    Exited,
    /// The runtime cannot tell.
    Unknown,
}

/// A container in the runtime.
#[derive(Debug, Clone, PartialEq)]
pub struct ContainerRecord {
    /// The runtime's id.
    pub id: String,
    /// The sandbox that it is in.
    pub sandbox_id: String,
    /// Its name in the pod.
    pub name: String,
    /// How many containers of this name came before it: the restart count.
    pub attempt: u32,
    /// Its state.
    pub state: ContainerPhase,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was started.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// Its exit code, once it ended.
    pub exit_code: i32,
    /// One word on why it ended.
    pub reason: String,
    /// More on why it ended.
    pub message: String,
    /// The image as the pod names it.
    pub image: String,
    /// The image's digest.
    pub image_id: String,
    /// [`spec_hash`] of the specification that it was made from.
    pub hash: String,
}

/// What the kubelet remembers about a pod; lost at a restart and then relearned.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Memory {
    /// When this kubelet first saw the pod.
    pub first_seen: Option<Timestamp>,
    /// Restarts by container name.
    pub crashes: BTreeMap<String, CrashLoop>,
    /// The last failed attempt to start each container.
    pub failures: BTreeMap<String, Failure>,
    /// The last failed attempt to make a sandbox.
    pub sandbox_failure: Option<Failure>,
    /// The pod's volumes.
    pub volumes: Volumes,
    /// Probe results by container id.
    pub probes: BTreeMap<String, ContainerProbes>,
    /// The pause that each container's BackOff event was sent for.
    pub announced: BTreeMap<String, Timestamp>,
    /// The deletion of the API object.
    pub delete: ApiDelete,
}

/// Whether the pod's volumes are there.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Volumes {
    /// Not set up, or not known to be.
    #[default]
    Unmounted,
    /// All are there.
    Mounted,
    /// At least one is not, and why.
    Failed(Failure),
}

/// The last step of a pod's life: its object is deleted.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum ApiDelete {
    /// Not asked for.
    #[default]
    Pending,
    /// The API server has accepted it; finalizers may still hold the object.
    Sent,
    /// It failed.
    Failed(Failure),
}

impl Memory {
    /// Notes that `container` could not be started.
    pub fn start_failed(&mut self, container: &str, why: &'static str, message: String, now: Timestamp) {
        let failure = Failure::after(self.failures.get(container), rule_of(why), why, message, now);
        self.failures.insert(container.to_owned(), failure);
    }

    /// Notes that `container` runs; `previous_end` is when the one before it ended.
    pub fn started(&mut self, container: &str, previous_end: Option<Timestamp>, now: Timestamp) {
        self.failures.remove(container);
        if let Some(finished) = previous_end {
            let state = CrashLoop::restarted(self.crashes.get(container), finished, now);
            self.crashes.insert(container.to_owned(), state);
        }
    }

    /// Forgets probe results of containers that are not in `live`.
    pub fn retain_probes(&mut self, live: &[ContainerRecord]) {
        self.probes.retain(|id, _| live.iter().any(|c| &c.id == id && c.state == ContainerPhase::Running));
    }
}

/// What part a container plays in its pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContainerKind {
    /// Runs to its end before what follows it in the pod.
    Init,
    /// An init container with restartPolicy Always: started in order, then runs beside.
    Sidecar,
    /// An ordinary container.
    Regular,
}

/// All containers of a pod in starting order.
pub fn containers(spec: &PodSpec) -> impl Iterator<Item = (ContainerKind, &Container)> {
    let init = spec.init_containers.iter().flatten().map(|c| {
        let sidecar = c.restart_policy.as_deref() == Some("Always");
        (if sidecar { ContainerKind::Sidecar } else { ContainerKind::Init }, c)
    });
    init.chain(spec.containers.iter().map(|c| (ContainerKind::Regular, c)))
}

/// Where events point: `spec.containers{web}`.
pub fn field_path(kind: ContainerKind, container: &str) -> String {
    match kind {
        ContainerKind::Regular => format!("spec.containers{{{container}}}"),
        _ => format!("spec.initContainers{{{container}}}"),
    }
}

/// `name_namespace(uid)`, as kubelets name pods in messages.
pub fn full_name(pod: &Pod) -> String {
    let text = |part: &Option<String>| part.clone().unwrap_or_default();
    let meta = &pod.metadata;
    format!("{}_{}({})", text(&meta.name), text(&meta.namespace), text(&meta.uid))
}

/// A hash of what makes a running container outdated when it changes: its name and image.
pub fn spec_hash(container: &Container) -> String {
    // FNV-1a, 32 bits: not against attackers, only against accidents.
    let mut hash: u32 = 0x811c_9dc5;
    let image = container.image.as_deref().unwrap_or_default();
    for byte in container.name.bytes().chain([0]).chain(image.bytes()) {
        hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    }
    format!("{hash:x}")
}
