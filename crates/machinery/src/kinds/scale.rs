//! The scale of a workload: `autoscaling/v1 Scale` as a view of Deployment, ReplicaSet,
//! StatefulSet and ReplicationController.

use coracle_api::selector::LabelSelector;
use coracle_api::{FieldErrors, FieldPath};
use serde_json::{Map, Value, json};

use super::check;
use crate::view::{at, int, map};

/// What of a workload's metadata its Scale shows.
const METADATA: [&str; 5] = ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"];

/// The Scale of a workload. Zero replicas are left out of the spec, as kube-apiserver does.
#[must_use]
pub fn scale_of(object: &Value) -> Value {
    let known = map(object, "metadata");
    let metadata: Map<String, Value> =
        METADATA.iter().filter_map(|name| Some(((*name).to_owned(), known?.get(*name)?.clone()))).collect();
    let spec = match int(object, "spec.replicas") {
        None | Some(0) => json!({}),
        Some(replicas) => json!({"replicas": replicas}),
    };
    let mut status = json!({"replicas": int(object, "status.replicas").unwrap_or(0)});
    if let Some(selector) = selector_text(at(object, "spec.selector")) {
        status["selector"] = json!(selector);
    }
    json!({"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata, "spec": spec, "status": status})
}

/// Sets a workload's replicas to those of `scale`; absent ones are none.
pub fn set_scale(object: &mut Value, scale: &Value) {
    if !at(object, "spec").is_object() {
        object["spec"] = json!({});
    }
    object["spec"]["replicas"] = json!(int(scale, "spec.replicas").unwrap_or(0));
}

/// Finds what is wrong with a Scale.
#[must_use]
pub fn validate_scale(scale: &Value) -> FieldErrors {
    let mut errors = FieldErrors::new();
    check::not_negative(at(scale, "spec"), "replicas", &FieldPath::new("spec"), &mut errors);
    errors
}

/// A selector as query text: that of a workload, or the plain labels of a
/// ReplicationController.
fn selector_text(selector: &Value) -> Option<String> {
    let fields = selector.as_object().filter(|s| !s.is_empty())?;
    let plain = fields.values().all(Value::is_string);
    let parsed =
        if plain { LabelSelector::from_labels(fields) } else { LabelSelector::from_json(selector).ok()? };
    Some(parsed.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_shows_replicas_and_selector() {
        let deployment = json!({
            "metadata": {"name": "a", "namespace": "n", "uid": "u", "labels": {"x": "y"}},
            "spec": {"replicas": 3, "selector": {"matchLabels": {"crew": "pump"},
                "matchExpressions": [{"key": "crew", "operator": "Exists"}, {"key": "old", "operator": "DoesNotExist"}]}},
            "status": {"replicas": 2},
        });
        let wanted = json!({
            "kind": "Scale", "apiVersion": "autoscaling/v1",
            "metadata": {"name": "a", "namespace": "n", "uid": "u"},
            "spec": {"replicas": 3},
            "status": {"replicas": 2, "selector": "crew=pump,crew,!old"},
        });
        assert_eq!(scale_of(&deployment), wanted);
    }

    #[test]
    fn a_plain_selector_is_text_too() {
        let rc = json!({"spec": {"replicas": 0, "selector": {"a": "b"}}});
        let scale = scale_of(&rc);
        assert_eq!((&scale["spec"], &scale["status"]["selector"]), (&json!({}), &json!("a=b")));
    }

    #[test]
    fn setting_and_validating() {
        let mut object = json!({"spec": {"replicas": 3}});
        set_scale(&mut object, &json!({"spec": {"replicas": 5}}));
        assert_eq!(object["spec"]["replicas"], 5);
        set_scale(&mut object, &json!({"spec": {}}));
        assert_eq!(object["spec"]["replicas"], 0);
        assert_eq!(validate_scale(&json!({"spec": {"replicas": -3}})).len(), 1);
    }
}
