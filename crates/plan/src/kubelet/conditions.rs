//! The pod conditions that a kubelet owns: PodReadyToStartContainers, Initialized,
//! ContainersReady and Ready. Conditions of others are left as they are.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, PodCondition, PodStatus};

use super::decide::Cx;
use super::status::{Statuses, time};
use super::view::{ContainerKind, containers};

/// The condition types that this module writes.
pub(super) const OWNED: [&str; 4] = ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady"];

/// A verdict before it is dated.
struct Verdict {
    holds: bool,
    reason: Option<&'static str>,
    message: Option<String>,
}

impl Verdict {
    const YES: Self = Self { holds: true, reason: None, message: None };

    fn no(reason: &'static str, message: Option<String>) -> Self {
        Self { holds: false, reason: Some(reason), message }
    }
}

/// All conditions of the pod, given its new phase and container statuses.
pub(super) fn conditions(cx: &Cx<'_>, phase: &str, statuses: &Statuses) -> Vec<PodCondition> {
    let sandboxed = cx.sandbox.is_some_and(|s| !s.ips.is_empty());
    let containers_ready = containers_ready(cx, phase, statuses);
    let ready = ready(cx, &containers_ready);
    let sandbox_verdict = Verdict { holds: sandboxed, reason: None, message: None };
    let verdicts = [sandbox_verdict, initialized(cx, phase, statuses), ready, containers_ready];
    let stored = cx.view.status;
    let generation = cx.view.pod.metadata.generation;
    let mut out: Vec<PodCondition> = OWNED
        .iter()
        .zip(verdicts)
        .map(|(kind, verdict)| dated(kind, verdict, stored, generation, cx.view.now))
        .collect();
    let others = stored.conditions.iter().flatten();
    out.extend(others.filter(|c| !OWNED.contains(&c.type_.as_str())).cloned());
    out
}

/// Keeps the transition time of a condition whose status stays the same.
fn dated(
    kind: &str,
    verdict: Verdict,
    stored: &PodStatus,
    generation: Option<i64>,
    now: Timestamp,
) -> PodCondition {
    let status = if verdict.holds { "True" } else { "False" };
    let known = stored.conditions.iter().flatten().find(|c| c.type_ == kind && c.status == status);
    PodCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: verdict.reason.map(str::to_owned),
        message: verdict.message,
        last_transition_time: known.and_then(|c| c.last_transition_time.clone()).or_else(|| Some(time(now))),
        observed_generation: generation,
        ..PodCondition::default()
    }
}

fn initialized(cx: &Cx<'_>, phase: &str, statuses: &Statuses) -> Verdict {
    if phase == "Succeeded" {
        return Verdict { holds: true, reason: Some("PodCompleted"), message: None };
    }
    if cx.init_passed() {
        return Verdict::YES;
    }
    let kinds = containers(cx.spec).filter(|(kind, _)| *kind != ContainerKind::Regular);
    let incomplete: Vec<&str> = kinds
        .zip(&statuses.init)
        .filter(|((kind, _), status)| match kind {
            ContainerKind::Sidecar => status.started != Some(true),
            _ => !status.ready,
        })
        .map(|(_, status)| status.name.as_str())
        .collect();
    if incomplete.is_empty() {
        return Verdict::YES;
    }
    Verdict::no(
        "ContainersNotInitialized",
        Some(format!("containers with incomplete status: [{}]", incomplete.join(" "))),
    )
}

fn containers_ready(cx: &Cx<'_>, phase: &str, statuses: &Statuses) -> Verdict {
    match phase {
        "Succeeded" => return Verdict::no("PodCompleted", None),
        "Failed" => return Verdict::no("PodFailed", None),
        _ => {}
    }
    let kinds = containers(cx.spec).filter(|(kind, _)| *kind != ContainerKind::Regular);
    let sidecars = kinds
        .zip(&statuses.init)
        .filter(|((kind, _), _)| *kind == ContainerKind::Sidecar)
        .map(|(_, status)| status);
    let unready: Vec<&str> = sidecars
        .chain(&statuses.regular)
        .filter(|status: &&ContainerStatus| !status.ready)
        .map(|status| status.name.as_str())
        .collect();
    if unready.is_empty() {
        return Verdict::YES;
    }
    Verdict::no(
        "ContainersNotReady",
        Some(format!("containers with unready status: [{}]", unready.join(" "))),
    )
}

fn ready(cx: &Cx<'_>, containers_ready: &Verdict) -> Verdict {
    if let (false, Some(reason)) = (containers_ready.holds, containers_ready.reason) {
        return Verdict::no(reason, containers_ready.message.clone());
    }
    let conditions = cx.view.status.conditions.as_deref().unwrap_or_default();
    let unmet: Vec<String> = cx
        .spec
        .readiness_gates
        .iter()
        .flatten()
        .filter_map(|gate| {
            let name = &gate.condition_type;
            match conditions.iter().find(|c| &c.type_ == name) {
                None => {
                    Some(format!("corresponding condition of pod readiness gate \"{name}\" does not exist."))
                }
                Some(c) if c.status != "True" => Some(format!(
                    "the status of pod readiness gate \"{name}\" is not \"True\", but {}",
                    c.status
                )),
                Some(_) => None,
            }
        })
        .collect();
    if unmet.is_empty() {
        return Verdict::YES;
    }
    Verdict::no("ReadinessGatesNotReady", Some(unmet.join(", ")))
}
