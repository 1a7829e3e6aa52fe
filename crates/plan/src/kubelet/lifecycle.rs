//! The pod state machine: from a [`PodView`] to the next [`Action`]s and the status.
//!
//! A pod is either being run or being ended. Running: volumes and a sandbox, init containers
//! in order, then the regular ones, each kept as the restart policy says. Ending, for
//! whatever reason ([`Ending`]): containers stop (sidecars last), the sandbox stops, the
//! final status is stored, and a deleted pod's object and remains go away.
//!
//! The driver executes the actions in order, notes what failed in [`super::Memory`], looks
//! again and plans again; when a plan has no actions, the pod rests until something changes
//! or `requeue_at`.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, PodStatus};

use super::action::{Action, Plan, PlannedEvent, Stop};
use super::backoff::{Failure, PULL_ERROR_SHOWN_S, add_millis, add_seconds};
use super::decide::{Cx, Decided, Decision, Ending};
use super::probe::{ProbeKind, Timing};
use super::view::{
    ApiDelete, ContainerKind, ContainerPhase, ContainerRecord, PodView, Volumes, containers, full_name,
};
use super::{reason, status};

/// Grace for containers whose pod does not say, in seconds.
const GRACE_DEFAULT_S: i64 = 30;
/// How many ended containers of each name are kept for logs and `lastState`, the newest
/// included.
const KEPT_PER_NAME: usize = 2;
/// How long a status waits for a first probe result before it is written without one, in
/// milliseconds: a pod that becomes Ready at once costs one write.
const HOLD_MS: i64 = 150;

/// Plans for one pod.
pub fn plan(view: &PodView<'_>) -> Plan {
    let Some(spec) = view.pod.spec.as_ref() else {
        return Plan { finished: view.gone, ..Plan::default() };
    };
    let cx = Cx::new(view, spec);
    let decisions = cx.decisions();
    match cx.ending(&decisions) {
        Some(ending) => cx.plan_end(ending),
        None => cx.plan_run(&decisions),
    }
}

impl<'a> Cx<'a> {
    fn plan_run(&self, decisions: &[Decided<'a>]) -> Plan {
        let mut plan = Plan {
            status: Some(status::running(self, decisions)),
            requeue_at: self.deadline(),
            ..Plan::default()
        };
        let stops: Vec<Stop> = decisions.iter().filter_map(|d| self.stop_of(d)).collect();
        if !stops.is_empty() {
            plan.actions.push(Action::StopContainers(stops));
            return plan;
        }
        let prepared = self.prepare(decisions, &mut plan);
        for (_, container, decision) in decisions {
            match decision {
                Decision::Start { attempt, remove } if prepared => {
                    start_actions(container, *attempt, *remove, &mut plan.actions);
                }
                Decision::Crash { until, .. } => {
                    sooner(&mut plan.requeue_at, *until);
                    self.announce_crash(container, *until, &mut plan);
                }
                Decision::Failed(failure) => self.wait_for_failure(container, failure, &mut plan),
                _ => {}
            }
        }
        self.collect_garbage(&mut plan.actions);
        plan.hold_until = self.hold_until(decisions);
        plan
    }

    fn stop_of(&self, (_, container, decision): &Decided<'a>) -> Option<Stop> {
        let Decision::Stop { id, grace_s, why } = decision else { return None };
        Some(Stop {
            id: (*id).to_owned(),
            container: container.name.clone(),
            grace_s: grace_s.unwrap_or_else(|| self.grace_s()),
            why: why.clone(),
        })
    }

    /// Asks for volumes and a sandbox; whether containers may be started after that.
    fn prepare(&self, decisions: &[Decided<'a>], plan: &mut Plan) -> bool {
        let wanted = decisions.iter().any(|(_, _, d)| !matches!(d, Decision::Done));
        let mut ready = true;
        match &self.view.memory.volumes {
            Volumes::Mounted => {}
            Volumes::Failed(failure) if failure.waits(self.view.now) => {
                sooner(&mut plan.requeue_at, failure.retry_at);
                ready = false;
            }
            Volumes::Unmounted | Volumes::Failed(_) => plan.actions.push(Action::MountVolumes),
        }
        if self.sandbox.is_some() || !wanted {
            return ready && self.sandbox.is_some();
        }
        match &self.view.memory.sandbox_failure {
            Some(failure) if failure.waits(self.view.now) => {
                sooner(&mut plan.requeue_at, failure.retry_at);
                return false;
            }
            _ => {}
        }
        let attempts = self.view.sandboxes.iter().map(|s| s.attempt.saturating_add(1));
        plan.actions.push(Action::CreateSandbox { attempt: attempts.max().unwrap_or(0) });
        ready
    }

    fn announce_crash(&self, container: &Container, until: Timestamp, plan: &mut Plan) {
        let message = format!(
            "Back-off restarting failed container {} in pod {}",
            container.name,
            full_name(self.view.pod)
        );
        self.announce(container, until, message, plan);
    }

    fn wait_for_failure(&self, container: &Container, failure: &Failure, plan: &mut Plan) {
        sooner(&mut plan.requeue_at, failure.retry_at);
        if failure.reason != reason::ERR_IMAGE_PULL {
            return;
        }
        let shown_until = add_seconds(failure.failed_at, PULL_ERROR_SHOWN_S);
        if self.view.now < shown_until {
            sooner(&mut plan.requeue_at, shown_until);
            return;
        }
        let message =
            format!("Back-off pulling image \"{}\"", container.image.as_deref().unwrap_or_default());
        self.announce(container, failure.retry_at, message, plan);
    }

    fn announce(&self, container: &Container, until: Timestamp, message: String, plan: &mut Plan) {
        if self.view.memory.announced.get(&container.name) != Some(&until) {
            plan.events.push(PlannedEvent {
                container: container.name.clone(),
                reason: reason::BACK_OFF,
                message,
                until,
            });
        }
    }

    /// Removes ended containers beyond those kept for `lastState`, and sandboxes that hold
    /// nothing any more.
    fn collect_garbage(&self, actions: &mut Vec<Action>) {
        let mut kept: Vec<&ContainerRecord> = Vec::new();
        for (_, container) in containers(self.spec) {
            let mut records: Vec<_> = self.records(&container.name).collect();
            records.sort_by_key(|r| std::cmp::Reverse((r.attempt, r.created_at)));
            for (index, record) in records.into_iter().enumerate() {
                if index < KEPT_PER_NAME || record.state != ContainerPhase::Exited {
                    kept.push(record);
                } else {
                    actions.push(Action::RemoveContainer { id: record.id.clone() });
                }
            }
        }
        let Some(current) = self.sandbox else { return };
        for old in self.view.sandboxes.iter().filter(|s| s.id != current.id) {
            if !kept.iter().any(|r| r.sandbox_id == old.id) {
                if old.ready {
                    actions.push(Action::StopSandbox { id: old.id.clone() });
                }
                actions.push(Action::RemoveSandbox { id: old.id.clone() });
            }
        }
    }

    /// Until when a first probe result is worth waiting for before the status is written.
    fn hold_until(&self, decisions: &[Decided<'a>]) -> Option<Timestamp> {
        let quick = |container: &Container, kind: ProbeKind| {
            kind.of(container).is_some_and(|p| Timing::of(p).initial_delay_s == 0)
        };
        let waiting = decisions.iter().filter_map(|(_, container, decision)| {
            let record = self.latest(&container.name)?;
            let probes = self.view.memory.probes.get(&record.id)?;
            let unanswered = (probes.startup.is_some_and(|s| s.verdict.is_none())
                && quick(container, ProbeKind::Startup))
                || (probes.started()
                    && probes.readiness.is_some_and(|s| s.verdict.is_none())
                    && quick(container, ProbeKind::Readiness));
            (unanswered && *decision == Decision::Keep)
                .then(|| add_millis(record.started_at.unwrap_or(record.created_at), HOLD_MS))
        });
        waiting.max().filter(|at| self.view.now < *at)
    }

    fn plan_end(&self, ending: Ending) -> Plan {
        let mut plan = Plan { status: self.final_status(ending), ..Plan::default() };
        let stops = self.ending_stops(ending);
        if !stops.is_empty() {
            plan.actions.push(Action::StopContainers(stops));
            return plan;
        }
        for sandbox in self.view.sandboxes.iter().filter(|s| s.ready) {
            plan.actions.push(Action::StopSandbox { id: sandbox.id.clone() });
        }
        match ending {
            Ending::Deadline | Ending::Finished | Ending::Gone => {}
            Ending::Deleted => match &self.view.memory.delete {
                ApiDelete::Sent => {}
                ApiDelete::Failed(failure) if failure.waits(self.view.now) => {
                    sooner(&mut plan.requeue_at, failure.retry_at);
                    return plan;
                }
                _ => plan.actions.push(Action::DeletePod),
            },
        }
        if self.view.memory.volumes != Volumes::Unmounted {
            plan.actions.push(Action::UnmountVolumes);
        }
        if matches!(ending, Ending::Gone | Ending::Deleted) {
            for sandbox in self.view.sandboxes {
                plan.actions.push(Action::RemoveSandbox { id: sandbox.id.clone() });
            }
        }
        plan.finished = ending == Ending::Gone && plan.actions.is_empty();
        plan
    }

    /// Running containers to stop now: sidecars only when nothing else runs.
    fn ending_stops(&self, ending: Ending) -> Vec<Stop> {
        let is_sidecar =
            |name: &str| containers(self.spec).any(|(k, c)| k == ContainerKind::Sidecar && c.name == name);
        let running: Vec<_> =
            self.view.containers.iter().filter(|c| c.state == ContainerPhase::Running).collect();
        let main: Vec<_> = running.iter().copied().filter(|c| !is_sidecar(&c.name)).collect();
        let stage = if main.is_empty() { running } else { main };
        let grace_s = match ending {
            Ending::Gone | Ending::Deleted => {
                self.view.pod.metadata.deletion_grace_period_seconds.unwrap_or(self.grace_s())
            }
            Ending::Deadline | Ending::Finished => self.grace_s(),
        };
        stage
            .into_iter()
            .map(|c| Stop {
                id: c.id.clone(),
                container: c.name.clone(),
                grace_s: grace_s.max(0),
                why: format!("Stopping container {}", c.name),
            })
            .collect()
    }

    fn final_status(&self, ending: Ending) -> Option<PodStatus> {
        let remains = !self.view.sandboxes.is_empty() || !self.view.containers.is_empty();
        match ending {
            Ending::Gone => None,
            // What was stored when it ended is the truth; the runtime may know less by now.
            Ending::Deleted if self.view.memory.delete == ApiDelete::Sent => None,
            Ending::Finished if !remains && is_terminal(self.view.status) => None,
            Ending::Deleted if !remains && is_terminal(self.view.status) => None,
            _ => Some(status::ending(self, ending)),
        }
    }

    fn grace_s(&self) -> i64 {
        self.spec.termination_grace_period_seconds.unwrap_or(GRACE_DEFAULT_S)
    }
}

fn is_terminal(status: &PodStatus) -> bool {
    matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"))
}

fn start_actions(container: &Container, attempt: u32, remove: Option<&str>, out: &mut Vec<Action>) {
    if let Some(id) = remove {
        out.push(Action::RemoveContainer { id: id.to_owned() });
    }
    let container = container.name.clone();
    out.push(Action::EnsureImage { container: container.clone() });
    out.push(Action::CreateContainer { container: container.clone(), attempt });
    out.push(Action::StartContainer { container });
}

fn sooner(slot: &mut Option<Timestamp>, at: Timestamp) {
    *slot = Some(slot.map_or(at, |known| known.min(at)));
}
