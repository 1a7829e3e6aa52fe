//! `apps/v1 StatefulSet`.

use coracle_api::schema;
use coracle_api::{FieldError, FieldErrors, FieldPath};
use serde_json::{Value, json};

use super::{Kind, check, selector, template};
use crate::defaults;
use crate::view::{at, has, list_mut, object_mut, set_default, text};

const CLAIM: &str = "io.k8s.api.core.v1.PersistentVolumeClaim";
const WHY: &str = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";
const MUTABLE: [&str; 7] = [
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
];

/// `apps/v1 StatefulSet`.
pub(super) struct StatefulSet;

impl Kind for StatefulSet {
    fn default(&self, object: &mut Value) {
        let Some(spec) = object.get_mut("spec") else { return };
        if let Some(template) = spec.get_mut("template") {
            template::default(template);
        }
        for claim in list_mut(spec, "volumeClaimTemplates") {
            if let Some(claim) = claim.as_object_mut() {
                set_default(claim, "kind", || "PersistentVolumeClaim".into());
                set_default(claim, "apiVersion", || "v1".into());
            }
            if let Some(schema) = schema::builtin(CLAIM) {
                defaults::apply(claim, schema);
            }
        }
        let Some(strategy) = object_mut(spec, "updateStrategy") else { return };
        if strategy.get("type").and_then(Value::as_str) == Some("RollingUpdate") {
            let rolling = strategy.entry("rollingUpdate").or_insert_with(|| json!({}));
            if let Some(rolling) = rolling.as_object_mut() {
                set_default(rolling, "partition", || 0.into());
            }
        }
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let (spec, path) = (at(object, "spec"), FieldPath::new("spec"));
        check::one_of(spec, "podManagementPolicy", &["OrderedReady", "Parallel"], &path, errors);
        let (strategy, at_strategy) = (at(spec, "updateStrategy"), path.child("updateStrategy"));
        match text(strategy, "type") {
            "" => errors.push(FieldError::required(at_strategy, "")),
            "OnDelete" if has(strategy, "rollingUpdate") => {
                let why = "only allowed for updateStrategy 'RollingUpdate'";
                errors.push(FieldError::invalid(
                    at_strategy.child("rollingUpdate"),
                    at(strategy, "rollingUpdate").clone(),
                    why,
                ));
            }
            "OnDelete" => {}
            "RollingUpdate" => {
                let rolling = at_strategy.child("rollingUpdate");
                check::not_negative(at(strategy, "rollingUpdate"), "partition", &rolling, errors);
            }
            other => {
                let why = "must be 'RollingUpdate' or 'OnDelete'";
                errors.push(FieldError::invalid(at_strategy, other, why));
            }
        }
        for name in ["replicas", "minReadySeconds", "revisionHistoryLimit"] {
            check::not_negative(spec, name, &path, errors);
        }
        check::not_negative(at(spec, "ordinals"), "start", &path.child("ordinals"), errors);
        selector::workload(spec, &path, errors);
        template::validate_restarted(at(spec, "template"), &path.child("template"), errors);
        let retention = at(spec, "persistentVolumeClaimRetentionPolicy");
        for name in ["whenDeleted", "whenScaled"] {
            let place = path.child("persistentVolumeClaimRetentionPolicy");
            check::one_of(retention, name, &["Retain", "Delete"], &place, errors);
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut FieldErrors) {
        let fixed = |object: &Value| {
            let mut spec = at(object, "spec").clone();
            if let Some(spec) = spec.as_object_mut() {
                MUTABLE.iter().for_each(|name| drop(spec.remove(*name)));
            }
            spec
        };
        if fixed(new) != fixed(old) {
            errors.push(FieldError::forbidden("spec", WHY));
        }
    }

    fn has_status(&self) -> bool {
        true
    }

    fn has_generation(&self) -> bool {
        true
    }
}
