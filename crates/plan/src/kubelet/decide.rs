//! What is to become of each container, and whether the pod as a whole is to be ended.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, PodSpec};

use super::backoff::{Failure, add_seconds};
use super::status;
use super::view::{ContainerKind, ContainerPhase, ContainerRecord, PodView, Sandbox, containers, spec_hash};

/// Why a pod is being ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// Its object is gone already.
    Gone,
    /// Its object is marked for deletion.
    Deleted,
    /// It has run longer than it may.
    Deadline,
    /// Its containers have all ended for good.
    Finished,
}

/// What is to become of one container.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Decision<'a> {
    /// It runs as it should.
    Keep,
    /// It has ended for good.
    Done,
    /// It waits for containers before it.
    Blocked,
    /// Start it, after removing a made but never started one.
    Start { attempt: u32, remove: Option<&'a str> },
    /// It keeps ending: wait.
    Crash { until: Timestamp, delay_s: i64 },
    /// The last attempt to start it failed: wait.
    Failed(&'a Failure),
    /// It must not run on as it is.
    Stop { id: &'a str, grace_s: Option<i64>, why: String },
}

/// A container, its part in the pod, and its decision.
pub(super) type Decided<'a> = (ContainerKind, &'a Container, Decision<'a>);

/// A view with what is looked up in it again and again.
#[derive(Clone, Copy)]
pub(super) struct Cx<'a> {
    pub(super) view: &'a PodView<'a>,
    pub(super) spec: &'a PodSpec,
    /// The sandbox that containers may run in.
    pub(super) sandbox: Option<&'a Sandbox>,
}

impl<'a> Cx<'a> {
    pub(super) fn new(view: &'a PodView<'a>, spec: &'a PodSpec) -> Self {
        let newest = view.sandboxes.iter().max_by_key(|s| (s.attempt, s.created_at));
        Self { view, spec, sandbox: newest.filter(|s| s.ready) }
    }

    /// The newest container of this name.
    pub(super) fn latest(&self, name: &str) -> Option<&'a ContainerRecord> {
        self.records(name).max_by_key(|r| (r.attempt, r.created_at))
    }

    /// The container before the newest one.
    pub(super) fn previous(&self, name: &str) -> Option<&'a ContainerRecord> {
        let latest = self.latest(name)?;
        self.records(name).filter(|r| r.id != latest.id).max_by_key(|r| (r.attempt, r.created_at))
    }

    pub(super) fn records(&self, name: &str) -> impl Iterator<Item = &'a ContainerRecord> + use<'a> {
        let name = name.to_owned();
        self.view.containers.iter().filter(move |r| r.name == name)
    }

    pub(super) fn is_current(&self, record: &ContainerRecord) -> bool {
        self.sandbox.is_some_and(|s| s.id == record.sandbox_id)
    }

    pub(super) fn any_running(&self) -> bool {
        self.view.containers.iter().any(|c| c.state == ContainerPhase::Running)
    }

    /// Whether a container that ended with `exit_code` starts again.
    pub(super) fn restarts(&self, kind: ContainerKind, exit_code: i32) -> bool {
        match (kind, self.spec.restart_policy.as_deref().unwrap_or("Always")) {
            (ContainerKind::Sidecar, _) => true,
            (ContainerKind::Init, policy) => policy != "Never" && exit_code != 0,
            (ContainerKind::Regular, "Always") => true,
            (ContainerKind::Regular, "OnFailure") => exit_code != 0,
            (ContainerKind::Regular, _) => false,
        }
    }

    /// Whether regular containers have begun in the newest sandbox: init is then behind us,
    /// even if nothing is left of it in the runtime.
    pub(super) fn init_passed(&self) -> bool {
        let newest = self.view.sandboxes.iter().max_by_key(|s| (s.attempt, s.created_at));
        newest.is_some_and(|s| {
            let regular = |name: &str| self.spec.containers.iter().any(|c| c.name == name);
            self.view.containers.iter().any(|r| r.sandbox_id == s.id && regular(&r.name))
        })
    }

    /// Decides about every container, in starting order.
    pub(super) fn decisions(&self) -> Vec<Decided<'a>> {
        let init_passed = self.sandbox.is_some() && self.init_passed();
        let mut blocked = false;
        containers(self.spec)
            .map(|(kind, container)| {
                let decision = match self.stray(container) {
                    Some(stop) => stop,
                    None if kind == ContainerKind::Init && init_passed => Decision::Done,
                    None if blocked => Decision::Blocked,
                    None => self.decide(kind, container),
                };
                blocked |= match kind {
                    ContainerKind::Regular => false,
                    _ => !init_passed && !self.init_complete(kind, container),
                };
                (kind, container, decision)
            })
            .collect()
    }

    /// Whether an init container lets the next one go.
    fn init_complete(&self, kind: ContainerKind, container: &Container) -> bool {
        let Some(record) = self.latest(&container.name) else { return false };
        if !self.is_current(record) {
            return false;
        }
        match kind {
            ContainerKind::Sidecar => {
                record.state == ContainerPhase::Running && self.is_started(container, record)
            }
            _ => record.state == ContainerPhase::Exited && record.exit_code == 0,
        }
    }

    /// Whether a running container has passed its startup probe.
    pub(super) fn is_started(&self, container: &Container, record: &ContainerRecord) -> bool {
        match self.view.memory.probes.get(&record.id) {
            Some(probes) => probes.started(),
            None => container.startup_probe.is_none(),
        }
    }

    /// Whether a running container may get traffic.
    pub(super) fn is_ready(&self, container: &Container, record: &ContainerRecord) -> bool {
        match self.view.memory.probes.get(&record.id) {
            Some(probes) => probes.ready(),
            None => container.startup_probe.is_none() && container.readiness_probe.is_none(),
        }
    }

    /// A container that runs where it must not: outside the pod's sandbox, or in a state
    /// that the runtime cannot tell.
    fn stray(&self, container: &Container) -> Option<Decision<'a>> {
        let record = self.latest(&container.name)?;
        let outside = record.state == ContainerPhase::Running && !self.is_current(record);
        (outside || record.state == ContainerPhase::Unknown).then(|| Decision::Stop {
            id: &record.id,
            grace_s: Some(0),
            why: format!(
                "Container {} is in an unknown state or outside the pod's sandbox, will be restarted",
                container.name
            ),
        })
    }

    fn decide(&self, kind: ContainerKind, container: &'a Container) -> Decision<'a> {
        match self.latest(&container.name) {
            None => self.decide_absent(kind, container),
            Some(record) => match record.state {
                ContainerPhase::Running | ContainerPhase::Unknown => self.decide_running(container, record),
                ContainerPhase::Created => self.start(container, record.attempt, Some(&record.id)),
                ContainerPhase::Exited => self.decide_exited(kind, container, record),
            },
        }
    }

    /// The runtime has no such container: it never ran, or the runtime has lost it.
    fn decide_absent(&self, kind: ContainerKind, container: &'a Container) -> Decision<'a> {
        match status::stored(self.view.status, kind, &container.name) {
            Some(stored) if status::has_run(stored) => {
                let exit_code = status::stored_exit_code(stored);
                if self.restarts(kind, exit_code) || kind == ContainerKind::Init {
                    let attempt = u32::try_from(stored.restart_count).unwrap_or(0);
                    self.start(container, attempt.saturating_add(1), None)
                } else {
                    Decision::Done
                }
            }
            _ => self.start(container, 0, None),
        }
    }

    fn decide_running(&self, container: &Container, record: &'a ContainerRecord) -> Decision<'a> {
        let stop = |grace_s, why| Decision::Stop { id: &record.id, grace_s, why };
        let name = &container.name;
        if !record.hash.is_empty() && record.hash != spec_hash(container) {
            return stop(None, format!("Container {name} definition changed, will be restarted"));
        }
        let restart = self.view.memory.probes.get(&record.id).and_then(|p| p.restart.as_ref());
        match restart {
            Some(restart) => {
                let probe = restart.kind.title().to_lowercase();
                stop(restart.grace_s, format!("Container {name} failed {probe} probe, will be restarted"))
            }
            None => Decision::Keep,
        }
    }

    fn decide_exited(
        &self,
        kind: ContainerKind,
        container: &'a Container,
        record: &'a ContainerRecord,
    ) -> Decision<'a> {
        let next = record.attempt.saturating_add(1);
        // A new sandbox runs the init containers again, whatever they said before.
        if kind == ContainerKind::Init && !self.is_current(record) {
            return self.start(container, next, None);
        }
        if !self.restarts(kind, record.exit_code) {
            return Decision::Done;
        }
        let finished = record.finished_at.unwrap_or(record.created_at);
        let crash = self.view.memory.crashes.get(&container.name);
        let due = crash.and_then(|c| c.restart_at(finished).map(|until| (until, c.delay_s)));
        match due {
            Some((until, delay_s)) if self.view.now < until => Decision::Crash { until, delay_s },
            _ => self.start(container, next, None),
        }
    }

    /// A start, unless the last attempt failed too short a time ago.
    fn start(&self, container: &Container, attempt: u32, remove: Option<&'a str>) -> Decision<'a> {
        match self.view.memory.failures.get(&container.name) {
            Some(failure) if failure.waits(self.view.now) => Decision::Failed(failure),
            _ => Decision::Start { attempt, remove },
        }
    }

    /// Whether, and why, the pod is to be ended.
    pub(super) fn ending(&self, decisions: &[Decided<'a>]) -> Option<Ending> {
        let view = self.view;
        if view.gone {
            return Some(Ending::Gone);
        }
        if view.pod.metadata.deletion_timestamp.is_some() {
            return Some(Ending::Deleted);
        }
        if matches!(view.status.phase.as_deref(), Some("Succeeded" | "Failed")) {
            return Some(Ending::Finished);
        }
        if self.deadline().is_some_and(|at| at <= view.now) {
            return Some(Ending::Deadline);
        }
        let terminal = matches!(self.phase(decisions), "Succeeded" | "Failed");
        terminal.then_some(Ending::Finished)
    }

    /// When activeDeadlineSeconds is over.
    pub(super) fn deadline(&self) -> Option<Timestamp> {
        let seconds = self.spec.active_deadline_seconds?;
        let start = status::start_time(self.view)?;
        Some(add_seconds(start, seconds))
    }

    fn phase(&self, decisions: &[Decided<'a>]) -> &'static str {
        status::phase(self, &status::container_statuses(self, decisions))
    }
}
