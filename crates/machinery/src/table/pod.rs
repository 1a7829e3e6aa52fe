//! Pods: how many containers are ready, in one word what they are doing, and how often they
//! were restarted.

use coracle_api::{meta, time};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::age::{age, human};
use super::workload::or_none;
use crate::view::{at, flag, has, int, list, text};

/// What the containers' statuses add up to.
struct Summary {
    reason: String,
    ready: usize,
    restarts: i64,
    last_restart: Option<Timestamp>,
}

/// Name, Ready, Status, Restarts, Age, IP, Node, Nominated Node, Readiness Gates.
pub(super) fn cells(object: &Value, now: Timestamp) -> Vec<Value> {
    let summary = summarize(object);
    let sidecars = list(object, "spec.initContainers").iter().filter(|c| is_sidecar(c)).count();
    let total = list(object, "spec.containers").len() + sidecars;
    let restarts = match summary.last_restart {
        Some(last) if summary.restarts > 0 => {
            format!("{} ({} ago)", summary.restarts, human(now.as_second() - last.as_second()))
        }
        _ => summary.restarts.to_string(),
    };
    vec![
        json!(meta::name(object)),
        json!(format!("{}/{total}", summary.ready)),
        json!(summary.reason),
        json!(restarts),
        json!(age(object, now)),
        json!(or_none(list(object, "status.podIPs").first().map_or("", |ip| text(ip, "ip")))),
        json!(or_none(text(object, "spec.nodeName"))),
        json!(or_none(text(object, "status.nominatedNodeName"))),
        json!(gates(object)),
    ]
}

fn is_sidecar(container: &Value) -> bool {
    text(container, "restartPolicy") == "Always"
}

fn condition<'a>(object: &'a Value, ty: &str) -> &'a Value {
    static NONE: Value = Value::Null;
    list(object, "status.conditions").iter().find(|c| text(c, "type") == ty).unwrap_or(&NONE)
}

fn gates(object: &Value) -> String {
    let gates = list(object, "spec.readinessGates");
    if gates.is_empty() {
        return "<none>".to_owned();
    }
    let is_true = |gate: &&Value| text(condition(object, text(gate, "conditionType")), "status") == "True";
    format!("{}/{}", gates.iter().filter(is_true).count(), gates.len())
}

fn summarize(object: &Value) -> Summary {
    let phase = text(object, "status.phase");
    let told = text(object, "status.reason");
    let mut summary = Summary {
        reason: if told.is_empty() { phase.to_owned() } else { told.to_owned() },
        ready: 0,
        restarts: 0,
        last_restart: None,
    };
    if text(condition(object, "PodScheduled"), "reason") == "SchedulingGated" {
        summary.reason = "SchedulingGated".to_owned();
    }
    let initializing = init_containers(object, &mut summary);
    if !initializing || text(condition(object, "Initialized"), "status") == "True" {
        main_containers(object, &mut summary);
    }
    if meta::is_deleting(object) {
        if told == "NodeLost" {
            summary.reason = "Unknown".to_owned();
        } else if !matches!(phase, "Succeeded" | "Failed") {
            summary.reason = "Terminating".to_owned();
        }
    }
    summary
}

/// Looks at the init containers. Answers whether they still keep the pod.
fn init_containers(object: &Value, summary: &mut Summary) -> bool {
    let specs = list(object, "spec.initContainers");
    let mut sidecar_restarts = 0;
    let mut sidecar_last = None;
    for (i, status) in list(object, "status.initContainerStatuses").iter().enumerate() {
        let sidecar = specs.iter().any(|s| is_sidecar(s) && text(s, "name") == text(status, "name"));
        let restarts = int(status, "restartCount").unwrap_or_default();
        summary.restarts += restarts;
        summary.last_restart = summary.last_restart.max(last_restart(status));
        if sidecar {
            sidecar_restarts += restarts;
            sidecar_last = sidecar_last.max(last_restart(status));
        }
        let terminated = at(status, "state.terminated");
        if !terminated.is_null() && int(terminated, "exitCode") == Some(0) {
            continue;
        }
        if sidecar && flag(status, "started") {
            summary.ready += usize::from(flag(status, "ready"));
            continue;
        }
        let waiting = text(status, "state.waiting.reason");
        summary.reason = if !terminated.is_null() {
            format!("Init:{}", ending(terminated))
        } else if !waiting.is_empty() && waiting != "PodInitializing" {
            format!("Init:{waiting}")
        } else {
            format!("Init:{i}/{}", specs.len())
        };
        return true;
    }
    // Once the pod runs, only the restarts of its sidecars count beside its containers'.
    summary.restarts = sidecar_restarts;
    summary.last_restart = sidecar_last;
    false
}

fn main_containers(object: &Value, summary: &mut Summary) {
    let mut running = false;
    for status in list(object, "status.containerStatuses").iter().rev() {
        summary.restarts += int(status, "restartCount").unwrap_or_default();
        summary.last_restart = summary.last_restart.max(last_restart(status));
        let (waiting, terminated) = (text(status, "state.waiting.reason"), at(status, "state.terminated"));
        if !waiting.is_empty() {
            summary.reason = waiting.to_owned();
        } else if !terminated.is_null() {
            summary.reason = ending(terminated);
        } else if flag(status, "ready") && has(status, "state.running") {
            running = true;
            summary.ready += 1;
        }
    }
    if summary.reason == "Completed" && running {
        let ready = text(condition(object, "Ready"), "status") == "True";
        summary.reason = if ready { "Running" } else { "NotReady" }.to_owned();
    }
}

fn ending(terminated: &Value) -> String {
    let reason = text(terminated, "reason");
    match int(terminated, "signal").unwrap_or_default() {
        _ if !reason.is_empty() => reason.to_owned(),
        0 => format!("ExitCode:{}", int(terminated, "exitCode").unwrap_or_default()),
        signal => format!("Signal:{signal}"),
    }
}

fn last_restart(status: &Value) -> Option<Timestamp> {
    time::parse(text(status, "lastState.terminated.finishedAt"))
}
