//! What may change in a pod once it is there.

use coracle_api::{FieldError, FieldErrors, FieldPath};
use serde_json::Value;

use crate::view::{at, int, list, list_mut};

const WHY: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// Finds changes that may not be made.
pub(super) fn validate(new: &Value, old: &Value, errors: &mut FieldErrors) {
    let path = FieldPath::new("spec");
    for kind in ["containers", "initContainers"] {
        if list(at(new, "spec"), kind).len() != list(at(old, "spec"), kind).len() {
            errors.push(FieldError::forbidden(
                path.child(kind),
                "pod updates may not add or remove containers",
            ));
            return;
        }
    }
    deadline(new, old, &path, errors);
    tolerations(new, old, &path, errors);
    gates(new, old, &path, errors);
    let (a, b) = (without_mutable(at(new, "spec"), old), without_mutable(at(old, "spec"), old));
    if a != b {
        errors.push(FieldError::forbidden(path, WHY));
    }
}

fn deadline(new: &Value, old: &Value, path: &FieldPath<'_>, errors: &mut FieldErrors) {
    let path = path.child("activeDeadlineSeconds");
    match (int(new, "spec.activeDeadlineSeconds"), int(old, "spec.activeDeadlineSeconds")) {
        (Some(new), Some(old)) if new > old => {
            errors.push(FieldError::invalid(
                path,
                new,
                format!("must be less than or equal to previous value {old}"),
            ));
        }
        (None, Some(_)) => {
            let why = "must not update from a positive integer to nil value";
            errors.push(FieldError::invalid(path, Value::Null, why));
        }
        _ => {}
    }
}

fn tolerations(new: &Value, old: &Value, path: &FieldPath<'_>, errors: &mut FieldErrors) {
    let without_seconds = |toleration: &Value| {
        let mut toleration = toleration.clone();
        if let Some(object) = toleration.as_object_mut() {
            object.remove("tolerationSeconds");
        }
        toleration
    };
    let kept: Vec<Value> = list(new, "spec.tolerations").iter().map(without_seconds).collect();
    for toleration in list(old, "spec.tolerations") {
        if !kept.contains(&without_seconds(toleration)) {
            let why = "existing toleration can not be modified except its tolerationSeconds";
            errors.push(FieldError::forbidden(path.child("tolerations"), why));
            return;
        }
    }
}

fn gates(new: &Value, old: &Value, path: &FieldPath<'_>, errors: &mut FieldErrors) {
    let stored = list(old, "spec.schedulingGates");
    let path = path.child("schedulingGates");
    for (i, gate) in list(new, "spec.schedulingGates").iter().enumerate() {
        if !stored.contains(gate) {
            let why = "only deletion is allowed, but found new scheduling gate";
            errors.push(FieldError::forbidden(
                path.index(i),
                format!("{why} '{}'", crate::view::text(gate, "name")),
            ));
        }
    }
}

/// The spec without what may change.
fn without_mutable(spec: &Value, old: &Value) -> Value {
    let mut spec = spec.clone();
    for kind in ["containers", "initContainers"] {
        for container in list_mut(&mut spec, kind).iter_mut().filter_map(Value::as_object_mut) {
            container.remove("image");
        }
    }
    let was_negative = int(old, "spec.terminationGracePeriodSeconds").is_some_and(|g| g < 0);
    // A gated pod has not met the scheduler: its node selector may still become stricter.
    let was_gated = !list(old, "spec.schedulingGates").is_empty();
    if let Some(object) = spec.as_object_mut() {
        for name in ["activeDeadlineSeconds", "tolerations", "schedulingGates"] {
            object.remove(name);
        }
        if was_negative {
            object.remove("terminationGracePeriodSeconds");
        }
        if was_gated {
            object.remove("nodeSelector");
            object.remove("affinity");
        }
    }
    spec
}
