//! Pod templates: what they share with pods, and what only templates have.

use coracle_api::{FieldError, FieldErrors, FieldPath};
use serde_json::Value;

use super::{Kind, metadata, pod};
use crate::view::{at, text};

/// `core/v1 PodTemplate`.
pub(super) struct PodTemplate;

impl Kind for PodTemplate {
    fn default(&self, object: &mut Value) {
        if let Some(template) = object.get_mut("template") {
            default(template);
        }
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        validate(at(object, "template"), &FieldPath::new("template"), errors);
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn is_changed(&self, new: &Value, old: &Value) -> bool {
        new.get("template") != old.get("template")
    }
}

/// Fills in what a template's pod spec leaves out.
pub(super) fn default(template: &mut Value) {
    if let Some(spec) = template.get_mut("spec") {
        pod::default_spec(spec);
    }
}

/// Finds what is wrong with a template.
pub(super) fn validate(template: &Value, path: &FieldPath<'_>, errors: &mut FieldErrors) {
    let at_metadata = path.child("metadata");
    metadata::labels(at(template, "metadata"), &at_metadata, errors);
    metadata::annotations(at(template, "metadata"), &at_metadata, errors);
    pod::validate_spec(at(template, "spec"), &path.child("spec"), errors);
}

/// Finds what is wrong with the template of a workload whose pods are always restarted.
pub(super) fn validate_restarted(template: &Value, path: &FieldPath<'_>, errors: &mut FieldErrors) {
    if template.is_null() {
        errors.push(FieldError::required(path, ""));
        return;
    }
    validate(template, path, errors);
    let spec = path.child("spec");
    let policy = text(template, "spec.restartPolicy");
    if policy != "Always" {
        errors.push(FieldError::not_supported(spec.child("restartPolicy"), policy, &["Always"]));
    }
    if !at(template, "spec.activeDeadlineSeconds").is_null() {
        let why = "activeDeadlineSeconds in pod template is not supported";
        errors.push(FieldError::forbidden(spec.child("activeDeadlineSeconds"), why));
    }
}
