//! The rules of `LabelSelector` objects in specs.

use coracle_api::selector::LabelSelector;
use coracle_api::{FieldError, FieldErrors, FieldPath, names};
use serde_json::Value;

use super::{check, metadata};
use crate::view::{at, list, text};

/// Finds what is wrong with a selector.
pub(super) fn validate(selector: &Value, path: &FieldPath<'_>, errors: &mut FieldErrors) {
    metadata::label_map(at(selector, "matchLabels"), &path.child("matchLabels"), errors);
    let expressions = path.child("matchExpressions");
    for (i, item) in list(selector, "matchExpressions").iter().enumerate() {
        let path = expressions.index(i);
        let values = list(item, "values");
        match text(item, "operator") {
            "In" | "NotIn" if values.is_empty() => {
                let why = "must be specified when `operator` is 'In' or 'NotIn'";
                errors.push(FieldError::required(path.child("values"), why));
            }
            "In" | "NotIn" => {}
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                errors.push(FieldError::forbidden(path.child("values"), why));
            }
            "Exists" | "DoesNotExist" => {}
            other => errors.push(FieldError::invalid(
                path.child("operator"),
                other,
                "not a valid selector operator",
            )),
        }
        let key = text(item, "key");
        check::all(key, names::qualified_name(key), &path.child("key"), errors);
    }
}

/// The rules of a workload's selector and its template's labels: the selector must be there,
/// choose something, and choose the template's own pods.
pub(super) fn workload(spec: &Value, path: &FieldPath<'_>, errors: &mut FieldErrors) {
    let at_selector = path.child("selector");
    let selector = at(spec, "selector");
    if selector.is_null() {
        errors.push(FieldError::required(at_selector, ""));
        return;
    }
    let before = errors.len();
    validate(selector, &at_selector, errors);
    if errors.len() > before {
        return;
    }
    let Ok(parsed) = LabelSelector::from_json(selector) else { return };
    if parsed.is_everything() {
        let why = "empty selector is invalid for deployment";
        errors.push(FieldError::invalid(at_selector, selector.clone(), why));
        return;
    }
    let labels = at(spec, "template.metadata.labels");
    if !parsed.matches_with(|key| labels.get(key).and_then(Value::as_str)) {
        let template = path.child("template");
        let metadata = template.child("metadata");
        let why = "`selector` does not match template `labels`";
        errors.push(FieldError::invalid(metadata.child("labels"), labels.clone(), why));
    }
}
