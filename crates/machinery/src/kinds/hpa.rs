//! `autoscaling HorizontalPodAutoscaler`, both versions.

use coracle_api::{FieldError, FieldErrors, FieldPath};
use serde_json::{Value, json};

use super::{Kind, check};
use crate::view::{at, has, int, list, object_mut, set_default};

/// `autoscaling HorizontalPodAutoscaler`.
pub(super) struct HorizontalPodAutoscaler;

impl Kind for HorizontalPodAutoscaler {
    fn default(&self, object: &mut Value) {
        let v2 = coracle_api::meta::api_version(object) != "autoscaling/v1";
        if let (true, Some(status)) = (v2, object_mut(object, "status")) {
            set_default(status, "desiredReplicas", || 0.into());
            status.entry("currentMetrics").or_insert(Value::Null);
        }
        let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) else { return };
        set_default(spec, "minReplicas", || 1.into());
        if !v2 {
            return;
        }
        let cpu = json!([{"type": "Resource", "resource": {"name": "cpu",
            "target": {"type": "Utilization", "averageUtilization": 80}}}]);
        set_default(spec, "metrics", || cpu);
        if let Some(behavior) = spec.get_mut("behavior").filter(|b| b.is_object()) {
            let up = [
                json!({"type": "Pods", "value": 4, "periodSeconds": 15}),
                json!({"type": "Percent", "value": 100, "periodSeconds": 15}),
            ];
            let down = [json!({"type": "Percent", "value": 100, "periodSeconds": 15})];
            if let Some(rules) = object_mut(behavior, "scaleUp") {
                set_default(rules, "stabilizationWindowSeconds", || 0.into());
                set_default(rules, "selectPolicy", || "Max".into());
                set_default(rules, "policies", || json!(up));
            }
            if let Some(rules) = object_mut(behavior, "scaleDown") {
                set_default(rules, "selectPolicy", || "Max".into());
                set_default(rules, "policies", || json!(down));
            }
        }
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let (spec, path) = (at(object, "spec"), FieldPath::new("spec"));
        let target = path.child("scaleTargetRef");
        check::required(at(spec, "scaleTargetRef"), "kind", &target, errors);
        check::required(at(spec, "scaleTargetRef"), "name", &target, errors);
        let (min, max) =
            (int(spec, "minReplicas").unwrap_or(1), int(spec, "maxReplicas").unwrap_or_default());
        if min < 1 {
            errors.push(FieldError::invalid(
                path.child("minReplicas"),
                min,
                "must be greater than or equal to 1",
            ));
        }
        if max < 1 {
            errors.push(FieldError::invalid(path.child("maxReplicas"), max, "must be greater than 0"));
        }
        if max < min {
            let why = "must be greater than or equal to `minReplicas`";
            errors.push(FieldError::invalid(path.child("maxReplicas"), max, why));
        }
        let at_metrics = path.child("metrics");
        for (i, metric) in list(spec, "metrics").iter().enumerate() {
            let item = at_metrics.index(i);
            let known = ["ContainerResource", "External", "Object", "Pods", "Resource"];
            match check::required(metric, "type", &item, errors) {
                "" => {}
                kind => {
                    check::one_of(metric, "type", &known, &item, errors);
                    let mut field = kind.to_owned();
                    if let Some(first) = field.get_mut(..1) {
                        first.make_ascii_lowercase();
                    }
                    if known.contains(&kind) && !has(metric, &field) {
                        let why = "must populate information for the given metric source";
                        errors.push(FieldError::required(item.child(&field), why));
                    }
                }
            }
        }
    }

    fn has_status(&self) -> bool {
        true
    }
}
