//! Configuration, access and events.

use coracle_api::{meta, time};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::age::{age, since};
use crate::view::{entries, has, int, list, text};

/// Name, Age.
pub(super) fn name_and_age(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![json!(meta::name(object)), json!(age(object, now))]
}

/// Name, Created At (as written).
pub(super) fn name_and_created(object: &Value, _now: Timestamp) -> Vec<Value> {
    vec![json!(meta::name(object)), json!(meta::creation_timestamp(object).unwrap_or_default())]
}

/// Name, Data, Age.
pub(super) fn config_map(object: &Value, now: Timestamp) -> Vec<Value> {
    let keys = entries(object, "data").count() + entries(object, "binaryData").count();
    vec![json!(meta::name(object)), json!(keys), json!(age(object, now))]
}

/// Name, Type, Data, Age.
pub(super) fn secret(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        json!(meta::name(object)),
        json!(text(object, "type")),
        json!(entries(object, "data").count()),
        json!(age(object, now)),
    ]
}

/// Name, Request, Limit, Age.
pub(super) fn resource_quota(object: &Value, now: Timestamp) -> Vec<Value> {
    let (mut requests, mut limits) = (Vec::new(), Vec::new());
    for (name, hard) in entries(object, "status.hard") {
        let used = entries(object, "status.used").find(|(n, _)| *n == name).and_then(|(_, v)| v.as_str());
        let cell = format!("{name}: {}/{}", used.unwrap_or("0"), hard.as_str().unwrap_or_default());
        if name.starts_with("limits.") { limits.push(cell) } else { requests.push(cell) }
    }
    vec![
        json!(meta::name(object)),
        json!(requests.join(", ")),
        json!(limits.join(", ")),
        json!(age(object, now)),
    ]
}

/// Name, Holder, Age.
pub(super) fn lease(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![json!(meta::name(object)), json!(text(object, "spec.holderIdentity")), json!(age(object, now))]
}

/// Name, Role, Age, Users, Groups, ServiceAccounts.
pub(super) fn binding(object: &Value, now: Timestamp) -> Vec<Value> {
    let subjects = |kind: &str| {
        let names: Vec<String> = list(object, "subjects")
            .iter()
            .filter(|s| text(s, "kind") == kind)
            .map(|s| match kind {
                "ServiceAccount" => format!("{}/{}", text(s, "namespace"), text(s, "name")),
                _ => text(s, "name").to_owned(),
            })
            .collect();
        names.join(", ")
    };
    vec![
        json!(meta::name(object)),
        json!(format!("{}/{}", text(object, "roleRef.kind"), text(object, "roleRef.name"))),
        json!(age(object, now)),
        json!(subjects("User")),
        json!(subjects("Group")),
        json!(subjects("ServiceAccount")),
    ]
}

/// Last Seen, Type, Reason, Object, Subobject, Source, Message, First Seen, Count, Name.
pub(super) fn event(object: &Value, now: Timestamp) -> Vec<Value> {
    let pick = |core: &str, new: &str| {
        let found = text(object, core);
        if found.is_empty() { text(object, new).to_owned() } else { found.to_owned() }
    };
    let about = if has(object, "regarding") { "regarding" } else { "involvedObject" };
    let subject = format!(
        "{}/{}",
        text(object, &format!("{about}.kind")).to_lowercase(),
        text(object, &format!("{about}.name"))
    );
    let event_time = text(object, "eventTime");
    let first = match pick("firstTimestamp", "deprecatedFirstTimestamp") {
        first if first.is_empty() => event_time.to_owned(),
        first => first,
    };
    let series = text(object, "series.lastObservedTime");
    let last = match pick("lastTimestamp", "deprecatedLastTimestamp") {
        _ if !series.is_empty() => series.to_owned(),
        last if last.is_empty() => first.clone(),
        last => last,
    };
    let mut source = pick("source.component", "deprecatedSource.component");
    if source.is_empty() {
        source = pick("reportingComponent", "reportingController");
    }
    let host = pick("source.host", "deprecatedSource.host");
    if !host.is_empty() {
        source = format!("{source}, {host}");
    }
    let count = int(object, "series.count").or(int(object, "count")).or(int(object, "deprecatedCount"));
    let seen =
        |text: &str| if time::parse(text).is_some() { since(text, now) } else { "<unknown>".to_owned() };
    vec![
        json!(seen(&last)),
        json!(text(object, "type")),
        json!(text(object, "reason")),
        json!(subject),
        json!(text(object, &format!("{about}.fieldPath"))),
        json!(source),
        json!(pick("message", "note").trim()),
        json!(seen(&first)),
        json!(count.unwrap_or(1)),
        json!(meta::name(object)),
    ]
}
