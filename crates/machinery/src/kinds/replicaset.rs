//! `apps/v1 ReplicaSet` and `core/v1 ReplicationController`.

use coracle_api::{FieldError, FieldErrors, FieldPath};
use serde_json::{Map, Value};

use super::{Kind, check, selector, template};
use crate::view::{at, map, object_mut};

/// `apps/v1 ReplicaSet`.
pub(super) struct ReplicaSet;

impl Kind for ReplicaSet {
    fn default(&self, object: &mut Value) {
        if let Some(template) = object.get_mut("spec").and_then(|s| s.get_mut("template")) {
            template::default(template);
        }
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let (spec, path) = (at(object, "spec"), FieldPath::new("spec"));
        check::not_negative(spec, "replicas", &path, errors);
        check::not_negative(spec, "minReadySeconds", &path, errors);
        selector::workload(spec, &path, errors);
        template::validate_restarted(at(spec, "template"), &path.child("template"), errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut FieldErrors) {
        check::immutable(new, old, "spec.selector", errors);
    }

    fn has_status(&self) -> bool {
        true
    }

    fn has_generation(&self) -> bool {
        true
    }
}

/// `core/v1 ReplicationController`: its selector and labels come from its template.
pub(super) struct ReplicationController;

impl Kind for ReplicationController {
    fn default(&self, object: &mut Value) {
        if let Some(template) = object.get_mut("spec").and_then(|s| s.get_mut("template")) {
            template::default(template);
        }
        let labels: Map<String, Value> =
            map(object, "spec.template.metadata.labels").cloned().unwrap_or_default();
        if labels.is_empty() {
            return;
        }
        for place in ["spec.selector", "metadata.labels"] {
            if let Some(target) = object_mut(object, place).filter(|t| t.is_empty()) {
                target.clone_from(&labels);
            }
        }
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let (spec, path) = (at(object, "spec"), FieldPath::new("spec"));
        check::not_negative(spec, "replicas", &path, errors);
        check::not_negative(spec, "minReadySeconds", &path, errors);
        let Some(wanted) = map(spec, "selector").filter(|s| !s.is_empty()) else {
            errors.push(FieldError::required(path.child("selector"), ""));
            template::validate_restarted(at(spec, "template"), &path.child("template"), errors);
            return;
        };
        let labels = at(spec, "template.metadata.labels");
        if !at(spec, "template").is_null() && wanted.iter().any(|(key, value)| labels.get(key) != Some(value))
        {
            let why = "`selector` does not match template `labels`";
            errors.push(FieldError::invalid("spec.template.metadata.labels", labels.clone(), why));
        }
        template::validate_restarted(at(spec, "template"), &path.child("template"), errors);
    }

    fn has_status(&self) -> bool {
        true
    }

    fn has_generation(&self) -> bool {
        true
    }
}
