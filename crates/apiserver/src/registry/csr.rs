//! CertificateSigningRequests: who asked is written by the server, and approval is a part of
//! its own that only adds conditions.

use coracle_api::field::{FieldError, FieldErrors};
use coracle_api::meta::text;
use coracle_api::time;
use coracle_api::user::UserInfo;
use jiff::Timestamp;
use serde_json::{Value, json};

/// The conditions that approval speaks of.
const DECISIONS: &[&str] = &["Approved", "Denied"];

/// Writes the requester into a new request, whatever it claims.
pub(super) fn record_requester(request: &mut Value, user: &UserInfo) {
    let Some(spec) = request.get_mut("spec").and_then(Value::as_object_mut) else { return };
    for key in ["username", "uid", "groups", "extra"] {
        spec.remove(key);
    }
    spec.insert("username".to_owned(), json!(user.name));
    if !user.uid.is_empty() {
        spec.insert("uid".to_owned(), json!(user.uid));
    }
    if !user.groups.is_empty() {
        spec.insert("groups".to_owned(), json!(user.groups));
    }
    if !user.extra.is_empty() {
        spec.insert("extra".to_owned(), json!(user.extra));
    }
}

/// Leaves of a write of the approval its conditions and its metadata; new conditions get
/// their times.
pub(super) fn prepare_approval(new: &mut Value, old: &Value) {
    let wanted = conditions(new).to_vec();
    let metadata = new.get("metadata").cloned();
    let mut kept = old.clone();
    if let Some(metadata) = metadata {
        kept["metadata"] = metadata;
    }
    let now = time::seconds(Timestamp::now());
    let stamped: Vec<Value> = wanted.into_iter().map(|condition| stamp(condition, old, &now)).collect();
    if !kept.get("status").is_some_and(Value::is_object) {
        kept["status"] = json!({});
    }
    if let Some(status) = kept["status"].as_object_mut() {
        if stamped.is_empty() {
            status.remove("conditions");
        } else {
            status.insert("conditions".to_owned(), Value::Array(stamped));
        }
    }
    *new = kept;
}

fn stamp(mut condition: Value, old: &Value, now: &str) -> Value {
    let before = conditions(old).iter().find(|other| text(other, "type") == text(&condition, "type"));
    if !condition.is_object() {
        return condition;
    }
    if condition.get("lastUpdateTime").is_none_or(Value::is_null) {
        let kept = before.and_then(|before| before.get("lastUpdateTime")).cloned();
        condition["lastUpdateTime"] = kept.unwrap_or_else(|| json!(now));
    }
    if condition.get("lastTransitionTime").is_none_or(Value::is_null) {
        let same = before.filter(|before| text(before, "status") == text(&condition, "status"));
        let kept = same.and_then(|before| before.get("lastTransitionTime")).cloned();
        condition["lastTransitionTime"] = kept.unwrap_or_else(|| json!(now));
    }
    condition
}

/// What is wrong with a new approval: decisions stay, exclude each other and are True.
pub(super) fn validate_approval(new: &Value, old: &Value) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let has = |object: &Value, kind: &str| {
        conditions(object).iter().any(|condition| text(condition, "type") == kind)
    };
    for decision in DECISIONS {
        if has(old, decision) && !has(new, decision) {
            let why = format!("updates may not remove a condition of type {decision:?}");
            errors.push(FieldError::forbidden("status.conditions", why));
        }
    }
    if DECISIONS.iter().all(|decision| has(new, decision)) {
        errors.push(FieldError::invalid(
            "status.conditions",
            "Denied",
            "Approved and Denied conditions are mutually exclusive",
        ));
    }
    for (at, condition) in conditions(new).iter().enumerate() {
        let (kind, status) = (text(condition, "type"), text(condition, "status"));
        let path = format!("status.conditions[{at}]");
        if kind.is_empty() {
            errors.push(FieldError::required(format!("{path}.type"), ""));
        } else if DECISIONS.contains(&kind) && status != "True" {
            errors.push(FieldError::not_supported(format!("{path}.status"), status, &["True"]));
        }
    }
    errors
}

fn conditions(request: &Value) -> &[Value] {
    request.pointer("/status/conditions").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decisions_are_final() {
        let old = json!({"metadata": {"name": "r"}, "spec": {"a": 1}, "status": {}});
        let mut new = json!({"metadata": {"name": "r", "labels": {"k": "v"}}, "spec": {"a": 2},
            "status": {"certificate": "x", "conditions": [{"type": "Approved", "status": "True"}]}});
        prepare_approval(&mut new, &old);
        assert!(validate_approval(&new, &old).is_empty());
        assert_eq!((&new["spec"]["a"], new["status"].get("certificate")), (&json!(1), None));
        assert!(new["status"]["conditions"][0]["lastUpdateTime"].is_string());
        let mut both = new.clone();
        both["status"]["conditions"]
            .as_array_mut()
            .unwrap()
            .push(json!({"type": "Denied", "status": "True"}));
        assert_eq!(validate_approval(&both, &new).len(), 1);
        let mut none = new.clone();
        none["status"]["conditions"] = json!([]);
        assert_eq!(validate_approval(&none, &new)[0].path, "status.conditions");
    }
}
