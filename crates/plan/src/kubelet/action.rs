//! What a plan consists of: the complete list of effects that the kubelet has on a pod.

use std::fmt;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::PodStatus;

/// One step towards what the pod should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Set up every volume.
    MountVolumes,
    /// Make a sandbox.
    CreateSandbox {
        /// How many came before it.
        attempt: u32,
    },
    /// Make sure that the node has the container's image, by its pull policy.
    EnsureImage {
        /// The container's name.
        container: String,
    },
    /// Make the container in the newest sandbox.
    CreateContainer {
        /// Its name.
        container: String,
        /// Its restart count.
        attempt: u32,
    },
    /// Start the container just made.
    StartContainer {
        /// Its name.
        container: String,
    },
    /// Stop containers, all at the same time.
    StopContainers(Vec<Stop>),
    /// Remove an ended container.
    RemoveContainer {
        /// Its id.
        id: String,
    },
    /// Stop a sandbox and whatever still runs in it.
    StopSandbox {
        /// Its id.
        id: String,
    },
    /// Remove a sandbox with its containers.
    RemoveSandbox {
        /// Its id.
        id: String,
    },
    /// Tear the volumes down.
    UnmountVolumes,
    /// Store the final status and delete the pod's object.
    DeletePod,
}

/// A container to stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stop {
    /// Its id.
    pub id: String,
    /// Its name.
    pub container: String,
    /// Seconds from being asked to being killed.
    pub grace_s: i64,
    /// The message of the event.
    pub why: String,
}

/// An event that a decision (rather than an action) gives rise to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedEvent {
    /// The container it is about.
    pub container: String,
    /// Its reason, as in [`super::reason`].
    pub reason: &'static str,
    /// Its message.
    pub message: String,
    /// The pause that it announces; to be noted in `Memory::announced`.
    pub until: Timestamp,
}

/// What to do next and what to say.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// In order. A failed action ends what depends on it; the driver plans again.
    pub actions: Vec<Action>,
    /// The status as it should be stored; `None` to leave what is there.
    pub status: Option<PodStatus>,
    /// Warnings to send.
    pub events: Vec<PlannedEvent>,
    /// Plan again at this time even if nothing happens.
    pub requeue_at: Option<Timestamp>,
    /// The status is about to change again: unless that takes longer than this, one write
    /// will do.
    pub hold_until: Option<Timestamp>,
    /// Nothing is left of the pod: forget it.
    pub finished: bool,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MountVolumes => f.write_str("mount volumes"),
            Self::CreateSandbox { attempt } => write!(f, "create sandbox #{attempt}"),
            Self::EnsureImage { container } => write!(f, "ensure image of {container}"),
            Self::CreateContainer { container, attempt } => {
                write!(f, "create {container} #{attempt}")
            }
            Self::StartContainer { container } => write!(f, "start {container}"),
            Self::StopContainers(stops) => {
                let list: Vec<_> = stops.iter().map(|s| format!("{} in {}s", s.id, s.grace_s)).collect();
                write!(f, "stop {}", list.join(", "))
            }
            Self::RemoveContainer { id } | Self::RemoveSandbox { id } => write!(f, "remove {id}"),
            Self::StopSandbox { id } => write!(f, "stop {id}"),
            Self::UnmountVolumes => f.write_str("unmount volumes"),
            Self::DeletePod => f.write_str("delete pod"),
        }
    }
}
