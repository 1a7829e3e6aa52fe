//! `scheduling.k8s.io/v1 PriorityClass`.

use coracle_api::{FieldError, FieldErrors, FieldPath, meta};
use serde_json::Value;

use super::{Kind, check};
use crate::view::int;

/// The highest value that users may give.
const USER_VALUE_MAX: i64 = 1_000_000_000;
const SYSTEM: [(&str, i64); 2] =
    [("system-cluster-critical", 2_000_000_000), ("system-node-critical", 2_000_001_000)];

/// `scheduling.k8s.io/v1 PriorityClass`.
pub(super) struct PriorityClass;

impl Kind for PriorityClass {
    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let (name, value) = (meta::name(object), int(object, "value").unwrap_or_default());
        if name.starts_with("system-") {
            if !SYSTEM.contains(&(name, value)) {
                let why = format!(
                    "priority class names with 'system-' prefix are reserved for system use only. error: {name} is not a known system priority class"
                );
                errors.push(FieldError::forbidden("metadata.name", why));
            }
        } else if value > USER_VALUE_MAX {
            let why = format!("maximum allowed value of a user defined priority is {USER_VALUE_MAX}");
            errors.push(FieldError::forbidden("value", why));
        }
        check::one_of(
            object,
            "preemptionPolicy",
            &["Never", "PreemptLowerPriority"],
            &FieldPath::ROOT,
            errors,
        );
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut FieldErrors) {
        if int(new, "value") != int(old, "value") {
            errors.push(FieldError::forbidden("value", "may not be changed in an update."));
        }
        check::immutable(new, old, "preemptionPolicy", errors);
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn is_changed(&self, _new: &Value, _old: &Value) -> bool {
        false
    }
}
