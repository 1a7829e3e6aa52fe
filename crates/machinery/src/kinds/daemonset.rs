//! `apps/v1 DaemonSet`, with the template generation that it still counts in an annotation.

use coracle_api::{FieldError, FieldErrors, FieldPath, meta};
use serde_json::{Value, json};

use super::{Kind, check, deployment, selector, template};
use crate::view::{at, object_mut, set_default, text};

const GENERATION: &str = "deprecated.daemonset.template.generation";

/// `apps/v1 DaemonSet`.
pub(super) struct DaemonSet;

impl Kind for DaemonSet {
    fn default(&self, object: &mut Value) {
        let Some(spec) = object.get_mut("spec") else { return };
        if let Some(template) = spec.get_mut("template") {
            template::default(template);
        }
        let Some(strategy) = object_mut(spec, "updateStrategy") else { return };
        if strategy.get("type").and_then(Value::as_str) == Some("RollingUpdate") {
            let rolling = strategy.entry("rollingUpdate").or_insert_with(|| json!({}));
            if let Some(rolling) = rolling.as_object_mut() {
                set_default(rolling, "maxUnavailable", || 1.into());
                set_default(rolling, "maxSurge", || 0.into());
            }
        }
    }

    fn prepare_create(&self, object: &mut Value) {
        set_generation(object, 1);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        let stored = meta::annotation(old, GENERATION).and_then(|g| g.parse().ok()).unwrap_or(1_i64);
        let changed = at(new, "spec.template") != at(old, "spec.template");
        set_generation(new, if changed { stored.saturating_add(1) } else { stored });
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let (spec, path) = (at(object, "spec"), FieldPath::new("spec"));
        selector::workload(spec, &path, errors);
        template::validate_restarted(at(spec, "template"), &path.child("template"), errors);
        check::not_negative(spec, "minReadySeconds", &path, errors);
        check::not_negative(spec, "revisionHistoryLimit", &path, errors);
        let (strategy, at_strategy) = (at(spec, "updateStrategy"), path.child("updateStrategy"));
        match text(strategy, "type") {
            "OnDelete" => {}
            "RollingUpdate" => {
                let rolling = at(strategy, "rollingUpdate");
                let place = at_strategy.child("rollingUpdate");
                let (surge, unavailable) = (at(rolling, "maxSurge"), at(rolling, "maxUnavailable"));
                check::count_or_percent(unavailable, &place.child("maxUnavailable"), errors);
                check::count_or_percent(surge, &place.child("maxSurge"), errors);
                deployment::at_most_all(unavailable, &place.child("maxUnavailable"), errors);
                if check::is_zero(surge) == check::is_zero(unavailable) {
                    let why = if check::is_zero(surge) {
                        "cannot be 0 when maxSurge is 0"
                    } else {
                        "may not be set when maxSurge is non-zero"
                    };
                    errors.push(FieldError::invalid(place.child("maxUnavailable"), unavailable.clone(), why));
                }
            }
            other => errors.push(FieldError::not_supported(
                at_strategy.child("type"),
                other,
                &["RollingUpdate", "OnDelete"],
            )),
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
}

fn set_generation(object: &mut Value, generation: i64) {
    if let Some(annotations) = object_mut(object, "metadata.annotations") {
        annotations.insert(GENERATION.to_owned(), generation.to_string().into());
    }
}
