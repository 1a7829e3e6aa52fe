//! What CRI does to containers.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use coracle_cri::runtime::v1::{
    ContainerConfig, ContainerEventType, LinuxContainerResources, PodSandboxConfig,
};
use coracle_network::Listener;

use super::{Container, Node, NodeError, OBJECTS_MAX, Phase, Sandbox, new_id, now_ns};
use crate::exit::Exit;
use crate::log::ContainerLog;
use crate::program::Program;
use crate::record::ContainerRecord;
use crate::spec::{GuestSpec, SpecError};
use crate::workload::Workload;

/// How long a killed guest may take to be gone: a tick, and one bulk-memory instruction.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);

impl Node {
    /// Makes a container whose image runs here and whose configuration can be satisfied:
    /// whatever is wrong with either is said now.
    pub(crate) async fn create_container(
        self: &Arc<Self>,
        sandbox_id: &str,
        config: ContainerConfig,
    ) -> Result<Arc<Container>, NodeError> {
        let sandbox = self.sandbox(sandbox_id)?;
        if !sandbox.is_ready() {
            return Err(NodeError::WrongState(format!("pod sandbox {} is not ready", sandbox.id)));
        }
        self.check_name(&sandbox, &config)?;
        let wanted = config.image.clone().unwrap_or_default().image;
        let image = self.images.resolve(&wanted).ok_or_else(|| NodeError::NoImage(wanted.clone()))?;
        self.program(&image.id.to_string(), &wanted).await?;
        let id = new_id();
        GuestSpec::new(&config, &sandbox.config, &self.records.files_dir(&id))
            .inspect_err(|_| self.records.remove_container(&id))?;
        let record = ContainerRecord {
            id: id.clone(),
            sandbox_id: sandbox.id.clone(),
            image_id: image.id.to_string(),
            image_ref: image.repo_tags.first().cloned().unwrap_or(wanted),
            created_at: now_ns(),
            config: Some(config),
            ..Default::default()
        };
        self.records.put_container(&record)?;
        let log_path = log_path(&sandbox.config, record.config.as_ref());
        let container = Arc::new(Container::from_record(record, log_path));
        self.containers.write().insert(id, Arc::clone(&container));
        sandbox.members.lock().push(Arc::clone(&container));
        self.container_event(&container, ContainerEventType::ContainerCreatedEvent);
        Ok(container)
    }

    fn check_name(&self, sandbox: &Sandbox, config: &ContainerConfig) -> Result<(), NodeError> {
        let metadata = config.metadata.as_ref().ok_or(SpecError::Missing("the container's metadata"))?;
        if self.containers.read().len() >= OBJECTS_MAX {
            return Err(NodeError::TooMany);
        }
        let mut siblings = sandbox.containers().into_iter();
        match siblings.find(|c| c.config.metadata.as_ref() == Some(metadata)) {
            Some(existing) => Err(NodeError::Exists {
                kind: "container",
                name: format!("{} (attempt {})", metadata.name, metadata.attempt),
                id: existing.id.clone(),
            }),
            None => Ok(()),
        }
    }

    async fn program(&self, image_id: &str, image: &str) -> Result<Arc<Program>, NodeError> {
        let digest = image_id.parse().map_err(|_| NodeError::NoImage(image.to_owned()))?;
        let program = self.host.program(&self.images, digest).await;
        program.map_err(|source| NodeError::Program { image: image.to_owned(), source })
    }

    /// Starts a created container. When it returns, the guest is scheduled, and an HTTP
    /// component accepts connections.
    pub(crate) async fn start_container(self: &Arc<Self>, id: &str) -> Result<(), NodeError> {
        let container = self.container(id)?;
        let claimed = container.phase.send_if_modified(|phase| {
            let created = *phase == Phase::Created;
            if created {
                *phase = Phase::Starting;
            }
            created
        });
        if !claimed {
            let state = container.state().as_str_name();
            return Err(NodeError::WrongState(format!("container {} is {state}", container.id)));
        }
        match self.prepare(&container).await {
            Ok((workload, listener)) => self.launch(&container, workload, listener),
            Err(error) => {
                container.phase.send_replace(Phase::Created);
                Err(error)
            }
        }
    }

    async fn prepare(&self, container: &Container) -> Result<(Arc<Workload>, Option<Listener>), NodeError> {
        let sandbox = self.sandbox(&container.sandbox_id)?;
        let net = sandbox
            .net()
            .ok_or_else(|| NodeError::WrongState(format!("pod sandbox {} is not ready", sandbox.id)))?;
        let program = self.program(&container.image_id, &container.image_ref).await?;
        let files_dir = self.records.files_dir(&container.id);
        let spec = GuestSpec::new(&container.config, &sandbox.config, &files_dir)?;
        let log = ContainerLog::open(container.log_path.as_deref()).map_err(NodeError::Log)?;
        let log = Arc::new(log);
        *container.log.lock() = Some(Arc::clone(&log));
        let workload = Arc::new(Workload {
            host: Arc::clone(&self.host),
            program,
            spec,
            net,
            log,
            account: Arc::clone(&container.account),
            signals: container.signals.clone(),
        });
        let listener = workload.listener()?;
        Ok((workload, listener))
    }

    fn launch(
        self: &Arc<Self>,
        container: &Arc<Container>,
        workload: Arc<Workload>,
        listener: Option<Listener>,
    ) -> Result<(), NodeError> {
        let started_at = now_ns();
        container.phase.send_replace(Phase::Running { started_at });
        if let Err(error) = self.records.put_container(&container.to_record()) {
            container.phase.send_replace(Phase::Created);
            return Err(error.into());
        }
        self.container_event(container, ContainerEventType::ContainerStartedEvent);
        // Tells even when the task panics or is dropped.
        let ending =
            Ending { node: Arc::clone(self), container: Arc::clone(container), started_at, exit: None };
        self.host.guests().spawn(async move {
            let mut ending = ending;
            ending.exit = Some(workload.run(listener).await);
        });
        Ok(())
    }

    /// Ends a container: asks it to, and kills it after `grace`. That it has ended or is
    /// gone already is success.
    pub(crate) async fn stop_container(&self, id: &str, grace: Duration) -> Result<(), NodeError> {
        match self.container(id) {
            Ok(container) => self.stop(&container, grace).await,
            Err(NodeError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn stop(&self, container: &Container, grace: Duration) -> Result<(), NodeError> {
        if !container.is_running() {
            return Ok(());
        }
        let mut phase = container.phase.subscribe();
        let mut ended = async |within| {
            let exited = phase.wait_for(|phase| matches!(phase, Phase::Exited { .. }));
            tokio::time::timeout(within, exited).await.is_ok()
        };
        if !grace.is_zero() {
            container.signals.terminate.cancel();
            if ended(grace).await {
                return Ok(());
            }
        }
        container.signals.kill.cancel();
        if ended(KILL_TIMEOUT).await {
            return Ok(());
        }
        Err(NodeError::WrongState(format!("container {} does not end", container.id)))
    }

    /// Ends a container and forgets it.
    pub(crate) async fn remove_container(&self, id: &str) -> Result<(), NodeError> {
        let container = match self.container(id) {
            Ok(container) => container,
            Err(NodeError::NotFound { .. }) => return Ok(()),
            Err(error) => return Err(error),
        };
        self.stop(&container, Duration::ZERO).await?;
        self.records.remove_container(&container.id);
        let removed = self.containers.write().remove(&container.id);
        if let Ok(sandbox) = self.sandbox(&container.sandbox_id) {
            sandbox.members.lock().retain(|member| member.id != container.id);
        }
        if removed.is_some() {
            self.container_event(&container, ContainerEventType::ContainerDeletedEvent);
        }
        Ok(())
    }

    /// Changes limits of a container that has not ended.
    pub(crate) fn update_resources(
        &self,
        id: &str,
        given: &LinuxContainerResources,
    ) -> Result<(), NodeError> {
        let container = self.container(id)?;
        if matches!(container.phase(), Phase::Exited { .. }) {
            return Err(NodeError::WrongState(format!("container {} has exited", container.id)));
        }
        {
            let mut resources = container.resources.lock();
            merge_resources(&mut resources, given);
            let limit = u64::try_from(resources.memory_limit_in_bytes).unwrap_or(0);
            container.account.set_memory_limit(limit);
        }
        Ok(self.records.put_container(&container.to_record())?)
    }

    /// Goes on in a new log file.
    pub(crate) fn reopen_log(&self, id: &str) -> Result<(), NodeError> {
        let container = self.container(id)?;
        if !container.is_running() {
            return Err(NodeError::WrongState(format!("container {} is not running", container.id)));
        }
        let log = container.log.lock().clone();
        log.map_or(Ok(()), |log| log.reopen()).map_err(NodeError::Log)
    }

    /// Ends every guest and waits for that, without recording it: after a restart they are
    /// reported as lost, which is what a kubelet restarts by its rules.
    pub(crate) async fn shut_down(&self, within: Duration) {
        let running: Vec<_> = self.containers().into_iter().filter(|c| c.is_running()).collect();
        self.containers.write().clear();
        for container in &running {
            container.signals.kill.cancel();
        }
        let all = async {
            for container in &running {
                let mut phase = container.phase.subscribe();
                let _ = phase.wait_for(|phase| matches!(phase, Phase::Exited { .. })).await;
            }
        };
        if tokio::time::timeout(within, all).await.is_err() {
            tracing::warn!("guests are still running; leaving them to the process's end");
        }
        self.records.release();
    }
}

/// Makes a running container an exited one when dropped.
struct Ending {
    node: Arc<Node>,
    container: Arc<Container>,
    started_at: i64,
    exit: Option<Exit>,
}

impl Drop for Ending {
    fn drop(&mut self) {
        let exit = self.exit.take().unwrap_or_else(Exit::lost);
        tracing::debug!(container = %self.container.id, code = exit.code, reason = %exit.reason, "exited");
        self.container.log.lock().take();
        let exited = Phase::Exited { started_at: self.started_at, finished_at: now_ns(), exit };
        // On disk before anybody is told, unless the container is no longer ours to record.
        let known = self.node.containers.read().contains_key(&self.container.id);
        if known {
            let mut record = self.container.to_record();
            if let Phase::Exited { finished_at, exit, .. } = &exited {
                record.finished_at = *finished_at;
                record.exit_code = exit.code;
                record.reason.clone_from(&exit.reason);
                record.message.clone_from(&exit.message);
            }
            if let Err(error) = self.node.records.put_container(&record) {
                tracing::error!(container = %self.container.id, %error, "exit not recorded");
            }
        }
        self.container.phase.send_replace(exited);
        if known {
            self.node.container_event(&self.container, ContainerEventType::ContainerStoppedEvent);
        }
    }
}

/// What is zero or empty in a request means "as it is".
fn merge_resources(current: &mut LinuxContainerResources, given: &LinuxContainerResources) {
    let set = |current: &mut i64, given: i64| {
        if given != 0 {
            *current = given;
        }
    };
    set(&mut current.cpu_period, given.cpu_period);
    set(&mut current.cpu_quota, given.cpu_quota);
    set(&mut current.cpu_shares, given.cpu_shares);
    set(&mut current.memory_limit_in_bytes, given.memory_limit_in_bytes);
    set(&mut current.memory_swap_limit_in_bytes, given.memory_swap_limit_in_bytes);
    set(&mut current.oom_score_adj, given.oom_score_adj);
    let unified = given.unified.iter().map(|(key, value)| (key.clone(), value.clone()));
    current.unified.extend(unified);
}

pub(super) fn log_path(sandbox: &PodSandboxConfig, config: Option<&ContainerConfig>) -> Option<PathBuf> {
    let log_path = &config?.log_path;
    if sandbox.log_directory.is_empty() || log_path.is_empty() {
        return None;
    }
    Some(Path::new(&sandbox.log_directory).join(log_path))
}
