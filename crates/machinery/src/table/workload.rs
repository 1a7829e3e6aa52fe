//! Workloads: wanted and present replicas, and what their pods are made of.

use coracle_api::selector::LabelSelector;
use coracle_api::{meta, time};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::age::{age, human, since};
use crate::view::{at, flag, has, int, list, map, text};

/// The text, or `<none>`.
pub(super) fn or_none(text: &str) -> &str {
    if text.is_empty() { "<none>" } else { text }
}

fn count(object: &Value, path: &str) -> i64 {
    int(object, path).unwrap_or_default()
}

/// The names and the images of the containers of a pod spec.
fn containers(spec: &Value) -> (String, String) {
    let all = |field: &str| {
        let texts: Vec<&str> = list(spec, "containers").iter().map(|c| text(c, field)).collect();
        texts.join(",")
    };
    (all("name"), all("image"))
}

/// A selector object as text; `<none>` if it chooses by nothing.
pub(super) fn selector(selector: &Value) -> String {
    let parsed = LabelSelector::from_json(selector).unwrap_or_default();
    or_none(&parsed.to_string()).to_owned()
}

/// Labels as `a=b,c=d`, or `<none>`.
pub(super) fn labels(object: &Value, path: &str) -> String {
    let selector = map(object, path).map(LabelSelector::from_labels).unwrap_or_default();
    or_none(&selector.to_string()).to_owned()
}

/// Name, Containers, Images, Pod Labels.
pub(super) fn pod_template(object: &Value, _now: Timestamp) -> Vec<Value> {
    let (names, images) = containers(at(object, "template.spec"));
    vec![
        json!(meta::name(object)),
        json!(names),
        json!(images),
        json!(labels(object, "template.metadata.labels")),
    ]
}

/// Name, Desired, Current, Ready, Age, Containers, Images, Selector.
pub(super) fn replica_set(object: &Value, now: Timestamp) -> Vec<Value> {
    let (names, images) = containers(at(object, "spec.template.spec"));
    let chosen = match meta::kind(object) {
        "ReplicationController" => labels(object, "spec.selector"),
        _ => selector(at(object, "spec.selector")),
    };
    vec![
        json!(meta::name(object)),
        json!(count(object, "spec.replicas")),
        json!(count(object, "status.replicas")),
        json!(count(object, "status.readyReplicas")),
        json!(age(object, now)),
        json!(names),
        json!(images),
        json!(chosen),
    ]
}

/// Name, Ready, Up-to-date, Available, Age, Containers, Images, Selector.
pub(super) fn deployment(object: &Value, now: Timestamp) -> Vec<Value> {
    let (names, images) = containers(at(object, "spec.template.spec"));
    vec![
        json!(meta::name(object)),
        json!(format!("{}/{}", count(object, "status.readyReplicas"), count(object, "spec.replicas"))),
        json!(count(object, "status.updatedReplicas")),
        json!(count(object, "status.availableReplicas")),
        json!(age(object, now)),
        json!(names),
        json!(images),
        json!(selector(at(object, "spec.selector"))),
    ]
}

/// Name, Ready, Age, Containers, Images.
pub(super) fn stateful_set(object: &Value, now: Timestamp) -> Vec<Value> {
    let (names, images) = containers(at(object, "spec.template.spec"));
    vec![
        json!(meta::name(object)),
        json!(format!("{}/{}", count(object, "status.readyReplicas"), count(object, "spec.replicas"))),
        json!(age(object, now)),
        json!(names),
        json!(images),
    ]
}

/// Name, Desired, Current, Ready, Up-to-date, Available, Node Selector, Age, Containers, Images,
/// Selector.
pub(super) fn daemon_set(object: &Value, now: Timestamp) -> Vec<Value> {
    let (names, images) = containers(at(object, "spec.template.spec"));
    vec![
        json!(meta::name(object)),
        json!(count(object, "status.desiredNumberScheduled")),
        json!(count(object, "status.currentNumberScheduled")),
        json!(count(object, "status.numberReady")),
        json!(count(object, "status.updatedNumberScheduled")),
        json!(count(object, "status.numberAvailable")),
        json!(labels(object, "spec.template.spec.nodeSelector")),
        json!(age(object, now)),
        json!(names),
        json!(images),
        json!(selector(at(object, "spec.selector"))),
    ]
}

/// Name, Controller, Revision, Age.
pub(super) fn controller_revision(object: &Value, now: Timestamp) -> Vec<Value> {
    let owner = meta::controller_of(object).map(|o| {
        let (group, _) = coracle_api::resource::split_api_version(o.api_version).unwrap_or_default();
        let kind = o.kind.to_lowercase();
        if group.is_empty() { format!("{kind}/{}", o.name) } else { format!("{kind}.{group}/{}", o.name) }
    });
    vec![
        json!(meta::name(object)),
        json!(owner.as_deref().unwrap_or("<none>")),
        json!(count(object, "revision")),
        json!(age(object, now)),
    ]
}

fn condition(object: &Value, ty: &str) -> bool {
    list(object, "status.conditions").iter().any(|c| text(c, "type") == ty && text(c, "status") == "True")
}

/// Name, Status, Completions, Duration, Age, Containers, Images, Selector.
pub(super) fn job(object: &Value, now: Timestamp) -> Vec<Value> {
    let done = count(object, "status.succeeded");
    let completions = match (int(object, "spec.completions"), count(object, "spec.parallelism")) {
        (Some(wanted), _) => format!("{done}/{wanted}"),
        (None, parallel) if parallel > 1 => format!("{done}/1 of {parallel}"),
        (None, _) => format!("{done}/1"),
    };
    let status = if condition(object, "Complete") {
        "Complete"
    } else if condition(object, "Failed") {
        "Failed"
    } else if meta::is_deleting(object) {
        "Terminating"
    } else if condition(object, "Suspended") {
        "Suspended"
    } else if condition(object, "FailureTarget") {
        "FailureTarget"
    } else if condition(object, "SuccessCriteriaMet") {
        "SuccessCriteriaMet"
    } else {
        "Running"
    };
    let duration = time::parse(text(object, "status.startTime")).map(|start| {
        let end = time::parse(text(object, "status.completionTime")).unwrap_or(now);
        human(end.as_second() - start.as_second())
    });
    let (names, images) = containers(at(object, "spec.template.spec"));
    vec![
        json!(meta::name(object)),
        json!(status),
        json!(completions),
        json!(duration.unwrap_or_default()),
        json!(age(object, now)),
        json!(names),
        json!(images),
        json!(selector(at(object, "spec.selector"))),
    ]
}

/// Name, Schedule, Timezone, Suspend, Active, Last Schedule, Age, Containers, Images, Selector.
pub(super) fn cron_job(object: &Value, now: Timestamp) -> Vec<Value> {
    let last = text(object, "status.lastScheduleTime");
    let last = if last.is_empty() { "<none>".to_owned() } else { since(last, now) };
    let (names, images) = containers(at(object, "spec.jobTemplate.spec.template.spec"));
    vec![
        json!(meta::name(object)),
        json!(text(object, "spec.schedule")),
        json!(or_none(text(object, "spec.timeZone"))),
        json!(flag(object, "spec.suspend")),
        json!(list(object, "status.active").len()),
        json!(last),
        json!(age(object, now)),
        json!(names),
        json!(images),
        json!(selector(at(object, "spec.jobTemplate.spec.selector"))),
    ]
}

/// Name, Reference, Targets, MinPods, MaxPods, Replicas, Age.
pub(super) fn autoscaler(object: &Value, now: Timestamp) -> Vec<Value> {
    let reference =
        format!("{}/{}", text(object, "spec.scaleTargetRef.kind"), text(object, "spec.scaleTargetRef.name"));
    let minimum = match int(object, "spec.minReplicas") {
        Some(minimum) => minimum.to_string(),
        None => "<unset>".to_owned(),
    };
    vec![
        json!(meta::name(object)),
        json!(reference),
        json!(targets(object)),
        json!(minimum),
        json!(count(object, "spec.maxReplicas")),
        json!(count(object, "status.currentReplicas")),
        json!(age(object, now)),
    ]
}

/// The present and wanted value of each metric, `cpu: 10%/80%`.
fn targets(object: &Value) -> String {
    let current = list(object, "status.currentMetrics");
    let mut out = Vec::new();
    for (i, metric) in list(object, "spec.metrics").iter().enumerate() {
        let resource = at(metric, "resource");
        if resource.is_null() {
            out.push(format!("<unknown>/{}", text(metric, "type")));
            continue;
        }
        let now = current.get(i).map(|c| at(c, "resource.current"));
        let (present, wanted) = match int(resource, "target.averageUtilization") {
            Some(wanted) => {
                let present = now.and_then(|n| int(n, "averageUtilization")).map(|p| format!("{p}%"));
                (present, format!("{wanted}%"))
            }
            None => {
                let present = now.map(|n| text(n, "averageValue").to_owned()).filter(|p| !p.is_empty());
                (present, text(resource, "target.averageValue").to_owned())
            }
        };
        out.push(format!(
            "{}: {}/{wanted}",
            text(resource, "name"),
            present.as_deref().unwrap_or("<unknown>")
        ));
    }
    if let Some(wanted) = int(object, "spec.targetCPUUtilizationPercentage") {
        let present = int(object, "status.currentCPUUtilizationPercentage").map(|p| format!("{p}%"));
        out.push(format!("cpu: {}/{wanted}%", present.as_deref().unwrap_or("<unknown>")));
    }
    if out.is_empty() { "<none>".to_owned() } else { out.join(", ") }
}

/// Name, Min Available, Max Unavailable, Allowed Disruptions, Age.
pub(super) fn disruption_budget(object: &Value, now: Timestamp) -> Vec<Value> {
    let bound = |path: &str| match at(object, path) {
        Value::String(share) => share.clone(),
        other if has(object, path) => other.to_string(),
        _ => "N/A".to_owned(),
    };
    vec![
        json!(meta::name(object)),
        json!(bound("spec.minAvailable")),
        json!(bound("spec.maxUnavailable")),
        json!(count(object, "status.disruptionsAllowed")),
        json!(age(object, now)),
    ]
}
