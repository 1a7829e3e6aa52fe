//! One container: its configuration, and its state machine, which only goes forward:
//! created, running, exited.

use std::path::PathBuf;
use std::sync::Arc;

use coracle_cri::runtime::v1 as cri;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::account::Account;
use crate::exit::Exit;
use crate::log::ContainerLog;
use crate::record::ContainerRecord;
use crate::workload::Signals;

/// A container. Of its configuration only the resource limits ever change.
#[derive(Debug)]
pub(crate) struct Container {
    pub(crate) id: String,
    pub(crate) sandbox_id: String,
    pub(crate) config: cri::ContainerConfig,
    pub(crate) image_id: String,
    pub(crate) image_ref: String,
    pub(crate) created_at: i64,
    /// On the host; none when the sandbox has no log directory.
    pub(crate) log_path: Option<PathBuf>,
    pub(crate) account: Arc<Account>,
    pub(crate) resources: Mutex<cri::LinuxContainerResources>,
    pub(super) signals: Signals,
    pub(super) log: Mutex<Option<Arc<ContainerLog>>>,
    pub(super) phase: watch::Sender<Phase>,
}

/// Where a container is in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Phase {
    Created,
    /// Between the request to start it and the guest's first step.
    Starting,
    Running {
        started_at: i64,
    },
    Exited {
        started_at: i64,
        finished_at: i64,
        exit: Exit,
    },
}

impl Container {
    pub(super) fn from_record(record: ContainerRecord, log_path: Option<PathBuf>) -> Self {
        let config = record.config.unwrap_or_default();
        let linux = config.linux.as_ref().and_then(|linux| linux.resources.clone());
        let resources = linux.unwrap_or_default();
        let exit = Exit { code: record.exit_code, reason: record.reason, message: record.message };
        let phase = match (record.started_at, record.finished_at) {
            (0, 0) => Phase::Created,
            (started_at, 0) => Phase::Running { started_at },
            (started_at, finished_at) => Phase::Exited { started_at, finished_at, exit },
        };
        let limit = u64::try_from(resources.memory_limit_in_bytes).unwrap_or(0);
        Self {
            id: record.id,
            sandbox_id: record.sandbox_id,
            image_id: record.image_id,
            image_ref: record.image_ref,
            created_at: record.created_at,
            log_path,
            account: Arc::new(Account::new(limit)),
            resources: Mutex::new(resources),
            signals: Signals::default(),
            log: Mutex::new(None),
            phase: watch::Sender::new(phase),
            config,
        }
    }

    pub(super) fn to_record(&self) -> ContainerRecord {
        let (started_at, finished_at, exit) = self.times();
        let exit = exit.unwrap_or(Exit { code: 0, reason: String::new(), message: String::new() });
        let mut config = self.config.clone();
        config.linux.get_or_insert_default().resources = Some(self.resources.lock().clone());
        ContainerRecord {
            id: self.id.clone(),
            sandbox_id: self.sandbox_id.clone(),
            config: Some(config),
            image_id: self.image_id.clone(),
            image_ref: self.image_ref.clone(),
            created_at: self.created_at,
            started_at,
            finished_at,
            exit_code: exit.code,
            reason: exit.reason,
            message: exit.message,
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase.borrow().clone()
    }

    pub(crate) fn is_running(&self) -> bool {
        matches!(*self.phase.borrow(), Phase::Running { .. })
    }

    fn times(&self) -> (i64, i64, Option<Exit>) {
        match self.phase() {
            Phase::Created | Phase::Starting => (0, 0, None),
            Phase::Running { started_at } => (started_at, 0, None),
            Phase::Exited { started_at, finished_at, exit } => (started_at, finished_at, Some(exit)),
        }
    }

    pub(crate) fn state(&self) -> cri::ContainerState {
        match *self.phase.borrow() {
            Phase::Created | Phase::Starting => cri::ContainerState::ContainerCreated,
            Phase::Running { .. } => cri::ContainerState::ContainerRunning,
            Phase::Exited { .. } => cri::ContainerState::ContainerExited,
        }
    }

    /// The image as the user named it, where the kubelet says.
    fn image(&self) -> cri::ImageSpec {
        let given = self.config.image.clone().unwrap_or_default();
        cri::ImageSpec {
            image: if given.user_specified_image.is_empty() {
                self.image_ref.clone()
            } else {
                given.user_specified_image.clone()
            },
            ..given
        }
    }

    /// As a list shows it.
    pub(crate) fn summary(&self) -> cri::Container {
        cri::Container {
            id: self.id.clone(),
            pod_sandbox_id: self.sandbox_id.clone(),
            metadata: self.config.metadata.clone(),
            image: Some(self.image()),
            image_ref: self.image_id.clone(),
            state: self.state().into(),
            created_at: self.created_at,
            labels: self.config.labels.clone(),
            annotations: self.config.annotations.clone(),
            image_id: self.image_id.clone(),
        }
    }

    pub(crate) fn status(&self) -> cri::ContainerStatus {
        let (started_at, finished_at, exit) = self.times();
        let (exit_code, reason, message) =
            exit.map_or_else(Default::default, |exit| (exit.code, exit.reason, exit.message));
        let log_path = self.log_path.as_ref().map(|path| path.display().to_string());
        cri::ContainerStatus {
            id: self.id.clone(),
            metadata: self.config.metadata.clone(),
            state: self.state().into(),
            created_at: self.created_at,
            started_at,
            finished_at,
            exit_code,
            image: Some(self.image()),
            image_ref: self.image_id.clone(),
            reason,
            message,
            labels: self.config.labels.clone(),
            annotations: self.config.annotations.clone(),
            mounts: self.config.mounts.clone(),
            log_path: log_path.unwrap_or_default(),
            resources: Some(cri::ContainerResources {
                linux: Some(self.resources.lock().clone()),
                windows: None,
            }),
            image_id: self.image_id.clone(),
            user: None,
            stop_signal: cri::Signal::RuntimeDefault.into(),
        }
    }
}
