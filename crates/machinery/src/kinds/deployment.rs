//! `apps/v1 Deployment`.

use coracle_api::{FieldError, FieldErrors, FieldPath, meta};
use serde_json::{Value, json};

use super::{Kind, check, selector, template};
use crate::view::{at, has, int, object_mut, set_default, text};

/// `apps/v1 Deployment`.
pub(super) struct Deployment;

impl Kind for Deployment {
    fn default(&self, object: &mut Value) {
        let Some(spec) = object.get_mut("spec") else { return };
        if let Some(template) = spec.get_mut("template") {
            template::default(template);
        }
        let Some(strategy) = object_mut(spec, "strategy") else { return };
        if strategy.get("type").and_then(Value::as_str) == Some("RollingUpdate") {
            let rolling = strategy.entry("rollingUpdate").or_insert_with(|| json!({}));
            if let Some(rolling) = rolling.as_object_mut() {
                for name in ["maxUnavailable", "maxSurge"] {
                    set_default(rolling, name, || "25%".into());
                }
            }
        }
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let (spec, path) = (at(object, "spec"), FieldPath::new("spec"));
        for name in ["replicas", "minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"] {
            check::not_negative(spec, name, &path, errors);
        }
        selector::workload(spec, &path, errors);
        template::validate_restarted(at(spec, "template"), &path.child("template"), errors);
        strategy(at(spec, "strategy"), &path.child("strategy"), errors);
        let (deadline, ready) =
            (int(spec, "progressDeadlineSeconds"), int(spec, "minReadySeconds").unwrap_or_default());
        if let Some(deadline) = deadline.filter(|d| *d >= 0 && *d <= ready) {
            let why = "must be greater than minReadySeconds";
            errors.push(FieldError::invalid(path.child("progressDeadlineSeconds"), deadline, why));
        }
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

    fn is_changed(&self, new: &Value, old: &Value) -> bool {
        // Annotations count too: the controller copies them to its ReplicaSets.
        new.get("spec") != old.get("spec") || meta::annotations(new) != meta::annotations(old)
    }
}

fn strategy(strategy: &Value, path: &FieldPath<'_>, errors: &mut FieldErrors) {
    match text(strategy, "type") {
        "Recreate" => {
            if has(strategy, "rollingUpdate") {
                let why = "may not be specified when strategy `type` is 'Recreate'";
                errors.push(FieldError::forbidden(path.child("rollingUpdate"), why));
            }
        }
        "RollingUpdate" => {
            let (rolling, path) = (at(strategy, "rollingUpdate"), path.child("rollingUpdate"));
            let (surge, unavailable) = (at(rolling, "maxSurge"), at(rolling, "maxUnavailable"));
            check::count_or_percent(unavailable, &path.child("maxUnavailable"), errors);
            check::count_or_percent(surge, &path.child("maxSurge"), errors);
            if check::is_zero(surge) && check::is_zero(unavailable) {
                let why = "may not be 0 when `maxSurge` is 0";
                errors.push(FieldError::invalid(path.child("maxUnavailable"), unavailable.clone(), why));
            }
            at_most_all(unavailable, &path.child("maxUnavailable"), errors);
        }
        other => {
            errors.push(FieldError::not_supported(path.child("type"), other, &["Recreate", "RollingUpdate"]))
        }
    }
}

/// A percentage may not be more than 100%.
pub(super) fn at_most_all(value: &Value, path: &FieldPath<'_>, errors: &mut FieldErrors) {
    let share = value.as_str().and_then(|s| s.strip_suffix('%')).and_then(|s| s.parse::<u64>().ok());
    if share.is_some_and(|s| s > 100) {
        errors.push(FieldError::invalid(path, value.clone(), "must not be greater than 100%"));
    }
}
