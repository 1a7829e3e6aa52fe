//! `policy/v1 PodDisruptionBudget`.

use coracle_api::{FieldError, FieldErrors, FieldPath};
use serde_json::Value;

use super::{Kind, check, deployment, selector};
use crate::view::{at, has};

/// `policy/v1 PodDisruptionBudget`.
pub(super) struct PodDisruptionBudget;

impl Kind for PodDisruptionBudget {
    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let (spec, path) = (at(object, "spec"), FieldPath::new("spec"));
        if has(spec, "minAvailable") && has(spec, "maxUnavailable") {
            let why = "minAvailable and maxUnavailable cannot be both set";
            errors.push(FieldError::invalid(path, spec.clone(), why));
        }
        for name in ["minAvailable", "maxUnavailable"] {
            check::count_or_percent(at(spec, name), &path.child(name), errors);
            deployment::at_most_all(at(spec, name), &path.child(name), errors);
        }
        selector::validate(at(spec, "selector"), &path.child("selector"), errors);
        let known = ["AlwaysAllow", "IfHealthyBudget"];
        check::one_of(spec, "unhealthyPodEvictionPolicy", &known, &path, errors);
    }

    fn has_status(&self) -> bool {
        true
    }

    fn has_generation(&self) -> bool {
        true
    }
}
