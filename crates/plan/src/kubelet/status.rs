//! The pod's status: container states, phase, addresses, conditions.
//!
//! Times are cut to whole seconds, which is what the API stores, so that a status computed
//! twice from one state compares equal to the stored one.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
    ContainerStatus, HostIP, Pod, PodIP, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::backoff::{Failure, PULL_ERROR_SHOWN_S, add_seconds, go_duration};
use super::conditions::conditions;
use super::decide::{Cx, Decided, Decision, Ending};
use super::reason;
use super::view::{ContainerKind, ContainerPhase, ContainerRecord, PodView, containers, full_name};

/// Exit code of a container that the runtime has lost.
const LOST_EXIT_CODE: i32 = 137;

/// The container statuses of a pod.
pub(super) struct Statuses {
    /// Of init containers and sidecars, in the order of the specification.
    pub(super) init: Vec<ContainerStatus>,
    /// Of regular containers, in the order of the specification.
    pub(super) regular: Vec<ContainerStatus>,
}

/// The status of a pod that is being run.
pub(super) fn running(cx: &Cx<'_>, decisions: &[Decided<'_>]) -> PodStatus {
    let statuses = container_statuses(cx, decisions);
    let phase = shown_phase(cx, phase(cx, &statuses));
    PodStatus { reason: None, message: None, ..assemble(cx, phase, statuses) }
}

/// The status of a pod that is being ended.
pub(super) fn ending(cx: &Cx<'_>, ending: Ending) -> PodStatus {
    let mut statuses = container_statuses(cx, &[]);
    let stopped = !cx.any_running();
    if stopped && matches!(ending, Ending::Deleted | Ending::Deadline) {
        for status in statuses.init.iter_mut().chain(&mut statuses.regular) {
            close(status);
        }
    }
    let known = cx.view.status.phase.as_deref().filter(|p| matches!(*p, "Succeeded" | "Failed"));
    let phase = match (known, ending) {
        (Some(known), _) => known,
        (None, Ending::Deadline) if stopped => "Failed",
        (None, Ending::Deleted) if stopped => deleted_phase(&statuses),
        _ => shown_phase(cx, phase(cx, &statuses)),
    };
    let status = assemble(cx, phase, statuses);
    if ending == Ending::Deadline && known.is_none() {
        return PodStatus {
            reason: Some(reason::DEADLINE_EXCEEDED.to_owned()),
            message: Some("Pod was active on the node longer than the specified deadline".to_owned()),
            ..status
        };
    }
    status
}

/// The status of every container; `decisions` may be empty for a pod that is being ended.
pub(super) fn container_statuses(cx: &Cx<'_>, decisions: &[Decided<'_>]) -> Statuses {
    let mut statuses = Statuses { init: Vec::new(), regular: Vec::new() };
    for (index, (kind, container)) in containers(cx.spec).enumerate() {
        let decision = decisions.get(index).map(|(_, _, decision)| decision);
        let status = container_status(cx, kind, container, decision);
        match kind {
            ContainerKind::Regular => statuses.regular.push(status),
            _ => statuses.init.push(status),
        }
    }
    statuses
}

/// The phase that container statuses add up to.
pub(super) fn phase(cx: &Cx<'_>, statuses: &Statuses) -> &'static str {
    let policy = cx.spec.restart_policy.as_deref().unwrap_or("Always");
    let passed = cx.init_passed();
    let mut pending = false;
    for ((kind, _), status) in containers(cx.spec).zip(&statuses.init) {
        let exit_code = ended(status).map(|t| t.exit_code);
        match kind {
            ContainerKind::Sidecar => pending |= !passed && status.started != Some(true),
            _ if exit_code == Some(0) => {}
            _ if exit_code.is_some() && policy == "Never" => return "Failed",
            _ => pending |= !passed,
        }
    }
    let (mut waiting, mut running, mut stopped, mut succeeded) = (0, 0, 0, 0);
    for status in &statuses.regular {
        let was_ended = status.last_state.as_ref().is_some_and(|s| s.terminated.is_some());
        match &status.state {
            Some(ContainerState { running: Some(_), .. }) => running += 1,
            Some(ContainerState { terminated: Some(t), .. }) => {
                stopped += 1;
                succeeded += usize::from(t.exit_code == 0);
            }
            _ if was_ended => stopped += 1,
            _ => waiting += 1,
        }
    }
    match policy {
        _ if pending || waiting > 0 => "Pending",
        _ if running > 0 || policy == "Always" => "Running",
        _ if stopped == succeeded => "Succeeded",
        "Never" => "Failed",
        _ => "Running",
    }
}

/// The stored status of a container.
pub(super) fn stored<'a>(
    status: &'a PodStatus,
    kind: ContainerKind,
    name: &str,
) -> Option<&'a ContainerStatus> {
    let list = match kind {
        ContainerKind::Regular => &status.container_statuses,
        _ => &status.init_container_statuses,
    };
    list.iter().flatten().find(|s| s.name == name)
}

/// Whether a stored status tells of a container that has been started.
pub(super) fn has_run(stored: &ContainerStatus) -> bool {
    stored.container_id.as_deref().is_some_and(|id| !id.is_empty())
}

/// How a container that only its stored status tells of has ended, or must have.
pub(super) fn stored_exit_code(stored: &ContainerStatus) -> i32 {
    lost_end(stored).exit_code
}

/// When the kubelet took the pod on.
pub(super) fn start_time(view: &PodView<'_>) -> Option<Timestamp> {
    view.status.start_time.as_ref().map(|t| t.0).or(view.memory.first_seen)
}

/// A time as the API stores it.
pub(super) fn time(at: Timestamp) -> Time {
    Time(Timestamp::from_second(at.as_second()).unwrap_or(at))
}

/// A terminal phase is not shown while a container still runs.
fn shown_phase(cx: &Cx<'_>, phase: &'static str) -> &'static str {
    match phase {
        "Succeeded" | "Failed" if cx.any_running() => "Running",
        other => other,
    }
}

fn deleted_phase(statuses: &Statuses) -> &'static str {
    let succeeded = |s: &ContainerStatus| ended(s).is_some_and(|t| t.exit_code == 0);
    if statuses.regular.iter().all(succeeded) { "Succeeded" } else { "Failed" }
}

fn assemble(cx: &Cx<'_>, phase: &str, statuses: Statuses) -> PodStatus {
    let view = cx.view;
    let newest = view.sandboxes.iter().max_by_key(|s| (s.attempt, s.created_at));
    let ips = newest.map(|s| s.ips.as_slice()).unwrap_or_default();
    let stored = view.status;
    let (pod_ip, pod_ips) = if ips.is_empty() {
        (stored.pod_ip.clone(), stored.pod_ips.clone())
    } else {
        let list = ips.iter().map(|ip| PodIP { ip: ip.clone() }).collect();
        (ips.first().cloned(), Some(list))
    };
    let host_ips = &view.node.host_ips;
    let conditions = conditions(cx, phase, &statuses);
    let list = |statuses: Vec<ContainerStatus>| (!statuses.is_empty()).then_some(statuses);
    PodStatus {
        phase: Some(phase.to_owned()),
        conditions: Some(conditions),
        host_ip: host_ips.first().cloned(),
        host_ips: Some(host_ips.iter().map(|ip| HostIP { ip: ip.clone() }).collect()),
        pod_ip,
        pod_ips,
        start_time: start_time(view).map(time),
        init_container_statuses: list(statuses.init),
        container_statuses: list(statuses.regular),
        observed_generation: view.pod.metadata.generation,
        ..stored.clone()
    }
}

fn container_status(
    cx: &Cx<'_>,
    kind: ContainerKind,
    container: &Container,
    decision: Option<&Decision<'_>>,
) -> ContainerStatus {
    let known = stored(cx.view.status, kind, &container.name);
    let latest = cx.latest(&container.name);
    let lost = known.filter(|s| latest.is_none() && has_run(s));
    let (state, last_state) = states(cx, kind, container, decision, known);
    let running = latest.filter(|r| r.state == ContainerPhase::Running);
    let done_init =
        kind == ContainerKind::Init && state.terminated.as_ref().is_some_and(|t| t.exit_code == 0);
    let ready =
        done_init || kind != ContainerKind::Init && running.is_some_and(|r| cx.is_ready(container, r));
    let image = container.image.clone().unwrap_or_default();
    ContainerStatus {
        name: container.name.clone(),
        container_id: latest
            .map(|r| container_id(cx, r))
            .or_else(|| lost.and_then(|s| s.container_id.clone())),
        image: latest.map(|r| r.image.clone()).filter(|i| !i.is_empty()).unwrap_or(image),
        image_id: latest
            .map(|r| r.image_id.clone())
            .or_else(|| lost.map(|s| s.image_id.clone()))
            .unwrap_or_default(),
        restart_count: latest
            .map(|r| i32::try_from(r.attempt).unwrap_or(i32::MAX))
            .or_else(|| lost.map(|s| s.restart_count))
            .unwrap_or(0),
        ready,
        started: Some(running.is_some_and(|r| cx.is_started(container, r))),
        state: Some(state),
        last_state,
        ..ContainerStatus::default()
    }
}

/// The container's state and the state before it.
fn states(
    cx: &Cx<'_>,
    kind: ContainerKind,
    container: &Container,
    decision: Option<&Decision<'_>>,
    known: Option<&ContainerStatus>,
) -> (ContainerState, Option<ContainerState>) {
    let waiting = || waiting_state(cx, kind, container, decision);
    match cx.latest(&container.name) {
        Some(record) => {
            let previous = cx
                .previous(&container.name)
                .map(|r| ended_state(terminated(cx, r)))
                .or_else(|| carried_over(cx, record, known));
            let failed = cx.view.memory.failures.contains_key(&container.name);
            match (record.state, waiting_after_end(decision, failed)) {
                (ContainerPhase::Running, _) => (running_state(record), previous),
                (ContainerPhase::Exited, false) => (ended_state(terminated(cx, record)), previous),
                (ContainerPhase::Exited, true) => (waiting(), Some(ended_state(terminated(cx, record)))),
                _ => (waiting(), previous),
            }
        }
        None => match known.filter(|s| has_run(s)) {
            None => (waiting(), None),
            Some(lost) => {
                let end = ended_state(lost_end(lost));
                match decision {
                    None | Some(Decision::Done) => (end, lost.last_state.clone()),
                    Some(_) => (waiting(), Some(end)),
                }
            }
        },
    }
}

/// Whether a container that has ended is shown as waiting for its next start, whose last
/// attempt may have `failed`.
fn waiting_after_end(decision: Option<&Decision<'_>>, failed: bool) -> bool {
    match decision {
        Some(Decision::Crash { .. } | Decision::Failed(_)) => true,
        Some(Decision::Start { .. }) => failed,
        _ => false,
    }
}

/// What the stored status knows of the container before `record`, when the runtime has
/// forgotten it.
fn carried_over(
    cx: &Cx<'_>,
    record: &ContainerRecord,
    known: Option<&ContainerStatus>,
) -> Option<ContainerState> {
    let known = known.filter(|s| has_run(s))?;
    if known.container_id.as_deref() == Some(container_id(cx, record).as_str()) {
        return known.last_state.clone();
    }
    (record.attempt > 0).then(|| ended_state(lost_end(known)))
}

fn waiting_state(
    cx: &Cx<'_>,
    kind: ContainerKind,
    container: &Container,
    decision: Option<&Decision<'_>>,
) -> ContainerState {
    let failure = cx.view.memory.failures.get(&container.name);
    let (why, message) = match (decision, failure) {
        (Some(Decision::Crash { delay_s, .. }), _) => {
            let message = crash_message(cx.view.pod, &container.name, *delay_s);
            (reason::CRASH_LOOP_BACK_OFF, Some(message))
        }
        (Some(Decision::Failed(_) | Decision::Start { .. }), Some(failure)) => {
            failure_shown(failure, container, cx.view.now)
        }
        _ => (creating_reason(cx, kind), None),
    };
    ContainerState {
        waiting: Some(ContainerStateWaiting { reason: Some(why.to_owned()), message }),
        ..ContainerState::default()
    }
}

/// What a container is said to wait for when nothing is wrong.
fn creating_reason(cx: &Cx<'_>, kind: ContainerKind) -> &'static str {
    let has_init = cx.spec.init_containers.as_ref().is_some_and(|list| !list.is_empty());
    if kind == ContainerKind::Regular && !has_init || cx.init_passed() {
        reason::CONTAINER_CREATING
    } else {
        reason::POD_INITIALIZING
    }
}

fn failure_shown(failure: &Failure, container: &Container, now: Timestamp) -> (&'static str, Option<String>) {
    let shown_until = add_seconds(failure.failed_at, PULL_ERROR_SHOWN_S);
    if failure.reason != reason::ERR_IMAGE_PULL || now < shown_until {
        return (failure.reason, Some(failure.message.clone()));
    }
    let image = container.image.as_deref().unwrap_or_default();
    let message = format!("Back-off pulling image \"{image}\": {}: {}", failure.reason, failure.message);
    (reason::IMAGE_PULL_BACK_OFF, Some(message))
}

fn crash_message(pod: &Pod, container: &str, delay_s: i64) -> String {
    let pod = full_name(pod);
    format!("back-off {} restarting failed container={container} pod={pod}", go_duration(delay_s))
}

/// Turns a container that never ran, and now never will, into an ended one.
fn close(status: &mut ContainerStatus) {
    if ended(status).is_some() {
        return;
    }
    status.ready = false;
    status.started = Some(false);
    status.state = Some(ended_state(ContainerStateTerminated {
        exit_code: LOST_EXIT_CODE,
        reason: Some(reason::CONTAINER_STATUS_UNKNOWN.to_owned()),
        message: Some("The container could not be located when the pod was terminated".to_owned()),
        ..ContainerStateTerminated::default()
    }));
}

fn running_state(record: &ContainerRecord) -> ContainerState {
    let started_at = record.started_at.map(time);
    ContainerState { running: Some(ContainerStateRunning { started_at }), ..ContainerState::default() }
}

fn ended_state(end: ContainerStateTerminated) -> ContainerState {
    ContainerState { terminated: Some(end), ..ContainerState::default() }
}

fn terminated(cx: &Cx<'_>, record: &ContainerRecord) -> ContainerStateTerminated {
    let why = match (record.reason.as_str(), record.exit_code) {
        ("", 0) => reason::COMPLETED,
        ("", _) => reason::ERROR,
        (given, _) => given,
    };
    ContainerStateTerminated {
        container_id: Some(container_id(cx, record)),
        exit_code: record.exit_code,
        reason: Some(why.to_owned()),
        message: (!record.message.is_empty()).then(|| record.message.clone()),
        started_at: record.started_at.map(time),
        finished_at: record.finished_at.map(time),
        ..ContainerStateTerminated::default()
    }
}

/// The end of a container that only its stored status tells of.
fn lost_end(stored: &ContainerStatus) -> ContainerStateTerminated {
    if let Some(end) = ended(stored) {
        return end.clone();
    }
    let waiting = stored.state.as_ref().is_some_and(|s| s.waiting.is_some());
    let before = stored.last_state.as_ref().and_then(|s| s.terminated.as_ref());
    if let (true, Some(end)) = (waiting, before) {
        return end.clone();
    }
    let running = stored.state.as_ref().and_then(|s| s.running.as_ref());
    ContainerStateTerminated {
        container_id: stored.container_id.clone(),
        exit_code: LOST_EXIT_CODE,
        reason: Some(reason::CONTAINER_STATUS_UNKNOWN.to_owned()),
        message: Some("The container could not be located when the pod was synced".to_owned()),
        started_at: running.and_then(|r| r.started_at.clone()),
        ..ContainerStateTerminated::default()
    }
}

fn ended(status: &ContainerStatus) -> Option<&ContainerStateTerminated> {
    status.state.as_ref().and_then(|s| s.terminated.as_ref())
}

fn container_id(cx: &Cx<'_>, record: &ContainerRecord) -> String {
    format!("{}://{}", cx.view.node.runtime_name, record.id)
}
