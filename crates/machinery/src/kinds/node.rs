//! `core/v1 Node`.

use coracle_api::{FieldError, FieldErrors, FieldPath, names};
use serde_json::Value;

use super::{Kind, check, metadata};
use crate::view::{at, flag, list, text};

/// `core/v1 Node`.
pub(super) struct Node;

impl Kind for Node {
    fn prepare_create(&self, object: &mut Value) {
        // Kubelets register with their status, so it is taken; a pod CIDR implies the list form.
        cidrs(object);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        crate::view::keep(new, old, "status");
        cidrs(new);
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let spec = FieldPath::new("spec");
        let path = spec.child("taints");
        let mut seen: Vec<(&str, &str)> = Vec::new();
        for (i, taint) in list(object, "spec.taints").iter().enumerate() {
            let item = path.index(i);
            let (key, effect) = (text(taint, "key"), text(taint, "effect"));
            check::all(key, names::qualified_name(key), &item.child("key"), errors);
            let value = text(taint, "value");
            check::all(value, names::label_value(value), &item.child("value"), errors);
            let known = ["NoExecute", "NoSchedule", "PreferNoSchedule"];
            match effect {
                "" => errors.push(FieldError::required(item.child("effect"), "")),
                _ => check::one_of(taint, "effect", &known, &item, errors),
            }
            if seen.contains(&(key, effect)) {
                errors.push(FieldError::duplicate(item, taint.clone()));
            }
            seen.push((key, effect));
        }
        let at_cidrs = spec.child("podCIDRs");
        for (i, cidr) in list(object, "spec.podCIDRs").iter().enumerate() {
            let cidr = cidr.as_str().unwrap_or_default();
            check::all(cidr, names::cidr(cidr), &at_cidrs.index(i), errors);
        }
        for name in ["capacity", "allocatable"] {
            let status = FieldPath::new("status");
            let path = status.child(name);
            for (resource, value) in
                at(object, "status").get(name).and_then(Value::as_object).into_iter().flatten()
            {
                check::quantity(value, &path.key(resource), errors);
            }
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut FieldErrors) {
        for name in ["podCIDRs", "providerID"] {
            let (before, after) = (at(old, "spec").get(name), at(new, "spec").get(name));
            if before.is_some_and(|v| !v.is_null()) && before != after {
                let path = FieldPath::new("spec");
                errors.push(FieldError::forbidden(
                    path.child(name),
                    "node updates may not change it once it is set",
                ));
            }
        }
    }

    fn validate_status(&self, new: &Value, _old: &Value, errors: &mut FieldErrors) {
        let path = FieldPath::new("metadata");
        metadata::labels(at(new, "metadata"), &path, errors);
    }

    fn has_status(&self) -> bool {
        // Special: a new node's status is kept, which `prepare_update` makes up for.
        false
    }

    fn field_names(&self) -> &'static [&'static str] {
        &["spec.unschedulable"]
    }

    fn selectable_fields(&self, object: &Value) -> Vec<(&'static str, String)> {
        vec![("spec.unschedulable", flag(object, "spec.unschedulable").to_string())]
    }
}

/// `podCIDR` is the first of `podCIDRs`; either one given fills in the other.
fn cidrs(object: &mut Value) {
    let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) else { return };
    match (spec.get("podCIDR").cloned(), spec.get("podCIDRs").and_then(|l| l.get(0)).cloned()) {
        (Some(one), None) => {
            spec.insert("podCIDRs".to_owned(), Value::Array(vec![one]));
        }
        (None, Some(first)) => {
            spec.insert("podCIDR".to_owned(), first);
        }
        _ => {}
    }
}
