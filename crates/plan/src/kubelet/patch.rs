//! The strategic merge patch that brings a stored pod status up to date.
//!
//! Only what differs is sent, and of the conditions only those that differ, so that a
//! kubelet never overwrites conditions of others. The pod's uid is a precondition: a new
//! pod of the same name is never given an old one's status.

use k8s_openapi::api::core::v1::PodStatus;
use serde_json::{Map, Value, json};

/// The status fields that a kubelet owns.
const OWNED: [&str; 11] = [
    "phase",
    "reason",
    "message",
    "hostIP",
    "hostIPs",
    "podIP",
    "podIPs",
    "startTime",
    "containerStatuses",
    "initContainerStatuses",
    "observedGeneration",
];
/// Those among them whose strategic merge would keep old elements.
const MERGED_LISTS: [&str; 2] = ["hostIPs", "podIPs"];

/// The patch from `stored` to `wanted`; `None` when there is nothing to say.
///
/// # Errors
/// Only if a status cannot be made into JSON.
pub fn status_patch(
    uid: &str,
    stored: &PodStatus,
    wanted: &PodStatus,
) -> Result<Option<Value>, serde_json::Error> {
    if stored == wanted {
        return Ok(None);
    }
    let old = serde_json::to_value(stored)?;
    let new = serde_json::to_value(wanted)?;
    let mut status = Map::new();
    for field in OWNED {
        let (before, after) = (old.get(field), new.get(field));
        if before == after {
            continue;
        }
        let value = match after {
            Some(after) if MERGED_LISTS.contains(&field) && before.is_some() => replaced(after),
            Some(after) => after.clone(),
            None => Value::Null,
        };
        status.insert(field.to_owned(), value);
    }
    let conditions = changed_conditions(old.get("conditions"), new.get("conditions"));
    if !conditions.is_empty() {
        status.insert("conditions".to_owned(), Value::Array(conditions));
    }
    if status.is_empty() {
        return Ok(None);
    }
    Ok(Some(json!({ "metadata": { "uid": uid }, "status": status })))
}

fn replaced(list: &Value) -> Value {
    let mut out = vec![json!({ "$patch": "replace" })];
    out.extend(list.as_array().into_iter().flatten().cloned());
    Value::Array(out)
}

/// The new or changed conditions; fields that went away are set to null.
fn changed_conditions(old: Option<&Value>, new: Option<&Value>) -> Vec<Value> {
    let list = |value: Option<&Value>| value.and_then(Value::as_array).cloned().unwrap_or_default();
    let old = list(old);
    let mut out = Vec::new();
    for condition in list(new) {
        let before = old.iter().find(|c| c.get("type") == condition.get("type"));
        if before == Some(&condition) {
            continue;
        }
        let mut condition = condition;
        if let (Some(fields), Some(before)) = (condition.as_object_mut(), before.and_then(Value::as_object)) {
            for field in before.keys() {
                fields.entry(field.clone()).or_insert(Value::Null);
            }
        }
        out.push(condition);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(value: Value) -> PodStatus {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn only_differences_are_sent() {
        let stored = status(json!({
            "phase": "Pending", "qosClass": "BestEffort", "podIP": "10.0.0.1",
            "podIPs": [{"ip": "10.0.0.1"}],
            "conditions": [
                {"type": "PodScheduled", "status": "True"},
                {"type": "Ready", "status": "False", "reason": "ContainersNotReady"},
            ],
        }));
        let wanted = status(json!({
            "phase": "Running", "qosClass": "BestEffort", "podIP": "10.0.0.2",
            "podIPs": [{"ip": "10.0.0.2"}],
            "conditions": [
                {"type": "Ready", "status": "True"},
                {"type": "PodScheduled", "status": "True"},
            ],
        }));
        let patch = status_patch("u", &stored, &wanted).unwrap().unwrap();
        assert_eq!(
            patch,
            json!({"metadata": {"uid": "u"}, "status": {
                "phase": "Running",
                "podIP": "10.0.0.2",
                "podIPs": [{"$patch": "replace"}, {"ip": "10.0.0.2"}],
                "conditions": [{"type": "Ready", "status": "True", "reason": null}],
            }})
        );
        assert_eq!(status_patch("u", &wanted, &wanted).unwrap(), None);
    }

    #[test]
    fn fields_that_went_away_become_null_and_foreign_ones_stay() {
        let stored = status(json!({"message": "m", "qosClass": "Burstable"}));
        let patch = status_patch("u", &stored, &PodStatus::default()).unwrap().unwrap();
        assert_eq!(patch["status"], json!({"message": null}));
    }
}
