//! Whether a Job has succeeded or failed, and why.

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{JobSpec, JobStatus, PodFailurePolicyRule};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

use super::indexes;
use super::tally::Tally;
use crate::controllers::action::Plan;
use crate::controllers::object;

/// Kubernetes' default of `spec.backoffLimit`.
const BACKOFF_LIMIT_DEFAULT: i32 = 6;

/// How a Job ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) success: bool,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

impl Verdict {
    fn new(success: bool, reason: &'static str, message: impl Into<String>) -> Option<Self> {
        Some(Verdict { success, reason, message: message.into() })
    }
}

/// The verdict, if there is one. A verdict once written in the status stands.
pub(super) fn decide(
    spec: &JobSpec,
    status: &JobStatus,
    pods: &[&Pod],
    tally: &Tally<'_>,
    now: Timestamp,
) -> Option<Verdict> {
    standing(status)
        .or_else(|| failed_by_policy(spec, pods))
        .or_else(|| failed_by_limits(spec, status, tally, now))
        .or_else(|| succeeded(spec, tally))
}

fn standing(status: &JobStatus) -> Option<Verdict> {
    let known = status.conditions.iter().flatten().find(|known| {
        matches!(known.type_.as_str(), "SuccessCriteriaMet" | "FailureTarget") && known.status == "True"
    })?;
    let reason = match known.reason.as_deref() {
        Some("CompletionsReached") => "CompletionsReached",
        Some("SuccessPolicy") => "SuccessPolicy",
        Some("PodFailurePolicy") => "PodFailurePolicy",
        Some("DeadlineExceeded") => "DeadlineExceeded",
        _ => "BackoffLimitExceeded",
    };
    let success = known.type_ == "SuccessCriteriaMet";
    Verdict::new(success, reason, known.message.clone().unwrap_or_default())
}

fn failed_by_limits(
    spec: &JobSpec,
    status: &JobStatus,
    tally: &Tally<'_>,
    now: Timestamp,
) -> Option<Verdict> {
    let limit = spec.backoff_limit.unwrap_or(BACKOFF_LIMIT_DEFAULT);
    if tally.failed > limit || restarted_too_often(spec, tally, limit) {
        let message = "Job has reached the specified backoff limit";
        return Verdict::new(false, "BackoffLimitExceeded", message);
    }
    if deadline(spec, status).is_some_and(|at| at <= now) {
        let message = "Job was active longer than specified deadline";
        return Verdict::new(false, "DeadlineExceeded", message);
    }
    None
}

/// With restartPolicy `OnFailure`, restarts within pods count as failures.
fn restarted_too_often(spec: &JobSpec, tally: &Tally<'_>, limit: i32) -> bool {
    let template = spec.template.spec.as_ref();
    let policy = template.and_then(|template| template.restart_policy.as_deref());
    if policy != Some("OnFailure") {
        return false;
    }
    let restarts: i32 = tally
        .active
        .iter()
        .flat_map(|pod| container_statuses(pod))
        .map(|container| container.restart_count)
        .fold(0, i32::saturating_add);
    if limit == 0 { restarts > 0 } else { restarts >= limit }
}

fn deadline(spec: &JobSpec, status: &JobStatus) -> Option<Timestamp> {
    let seconds = spec.active_deadline_seconds?;
    Some(object::after(status.start_time.as_ref()?.0, seconds))
}

/// Asks to be called again when the deadline passes.
pub(super) fn watch_deadline(spec: &JobSpec, status: &JobStatus, plan: &mut Plan) {
    if let Some(at) = deadline(spec, status) {
        plan.requeue(at);
    }
}

fn succeeded(spec: &JobSpec, tally: &Tally<'_>) -> Option<Verdict> {
    let rules = spec.success_policy.iter().flat_map(|policy| &policy.rules);
    for (at, rule) in rules.enumerate() {
        let wanted = rule.succeeded_indexes.as_deref().map(indexes::parse);
        let met = match &wanted {
            Some(wanted) => tally.indexes.intersection(wanted).count(),
            None => tally.indexes.len(),
        };
        let all = wanted.map_or(usize::MAX, |wanted| wanted.len());
        let needed = rule.succeeded_count.and_then(|count| usize::try_from(count).ok());
        if met >= needed.unwrap_or(all) {
            return Verdict::new(true, "SuccessPolicy", format!("Matched rules at index {at}"));
        }
    }
    let enough = match spec.completions {
        Some(completions) => tally.succeeded >= completions,
        // Without a number of completions the first success decides, once all have ended.
        None => tally.succeeded > 0 && tally.active.is_empty(),
    };
    let message = "Reached expected number of succeeded pods";
    if enough { Verdict::new(true, "CompletionsReached", message) } else { None }
}

fn failed_by_policy(spec: &JobSpec, pods: &[&Pod]) -> Option<Verdict> {
    let failed = pods.iter().filter(|pod| object::phase(pod) == "Failed");
    for pod in failed {
        let Some((at, rule)) = matching_rule(spec, pod) else { continue };
        if rule.action == "FailJob" {
            let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
            let name = object::name(&pod.metadata);
            let message = format!("Pod {namespace}/{name} matched FailJob rule at index {at}");
            return Verdict::new(false, "PodFailurePolicy", message);
        }
    }
    None
}

/// Whether the Job's failure policy says that this pod's failure does not count.
pub(super) fn is_ignored(spec: &JobSpec, pod: &Pod) -> bool {
    object::phase(pod) == "Failed"
        && matching_rule(spec, pod).is_some_and(|(_, rule)| rule.action == "Ignore")
}

fn matching_rule<'a>(spec: &'a JobSpec, pod: &Pod) -> Option<(usize, &'a PodFailurePolicyRule)> {
    let policy = spec.pod_failure_policy.as_ref()?;
    policy.rules.iter().enumerate().find(|(_, rule)| matches_rule(rule, pod))
}

fn matches_rule(rule: &PodFailurePolicyRule, pod: &Pod) -> bool {
    if let Some(codes) = &rule.on_exit_codes {
        return container_statuses(pod).any(|container| {
            let named = codes.container_name.as_ref().is_none_or(|name| *name == container.name);
            let state = container.state.as_ref().and_then(|state| state.terminated.as_ref());
            let code = state.map(|state| state.exit_code).filter(|code| *code != 0);
            named
                && code.is_some_and(|code| {
                    let listed = codes.values.contains(&code);
                    if codes.operator == "NotIn" { !listed } else { listed }
                })
        });
    }
    rule.on_pod_conditions.iter().flatten().any(|wanted| {
        let status = wanted.status.as_deref().unwrap_or("True");
        object::pod_condition(pod, &wanted.type_).is_some_and(|known| known.status == status)
    })
}

fn container_statuses(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    pod.status.iter().flat_map(|status| {
        let init = status.init_container_statuses.iter().flatten();
        init.chain(status.container_statuses.iter().flatten())
    })
}
