//! The order of things that a write goes through, the same for every kind.

use coracle_api::schema::Schema;
use coracle_api::{FieldErrors, Resource, meta};
use serde_json::Value;

use super::{Kind, metadata};
use crate::{defaults, view};

/// Brings a new object into the form that is stored. Name, uid and times are the caller's to set.
pub fn create(rules: &dyn Kind, schema: &Schema, object: &mut Value) {
    metadata::reset(object);
    if rules.has_status() {
        remove(object, "status");
    }
    defaults::apply(object, schema);
    rules.default(object);
    rules.prepare_create(object);
    if rules.has_generation() {
        meta::set(object, "generation", 1);
    }
}

/// Brings an updated object into the form that is stored.
pub fn update(rules: &dyn Kind, schema: &Schema, new: &mut Value, old: &Value) {
    metadata::restore(new, old);
    if rules.has_status() {
        view::keep(new, old, "status");
    }
    defaults::apply(new, schema);
    rules.default(new);
    rules.prepare_update(new, old);
    if rules.has_generation() && rules.is_changed(new, old) {
        meta::set(new, "generation", meta::generation(old) + 1);
    }
}

/// Brings an object whose status was written into the form that is stored.
pub fn update_status(rules: &dyn Kind, schema: &Schema, new: &mut Value, old: &Value) {
    metadata::restore(new, old);
    let names: Vec<String> =
        new.as_object().into_iter().chain(old.as_object()).flat_map(|o| o.keys().cloned()).collect();
    for name in names.iter().filter(|n| !matches!(n.as_str(), "metadata" | "status")) {
        view::keep(new, old, name);
    }
    rules.prepare_status_update(new, old);
    defaults::apply(new, schema);
    rules.default(new);
}

/// Everything that is wrong with a new object.
pub fn validate_create(rules: &dyn Kind, resource: &Resource, object: &Value) -> FieldErrors {
    let mut errors = Vec::new();
    metadata::validate(rules, resource, object, &mut errors);
    rules.validate(object, &mut errors);
    errors
}

/// Everything that is wrong with an updated object.
pub fn validate_update(rules: &dyn Kind, resource: &Resource, new: &Value, old: &Value) -> FieldErrors {
    let mut errors = Vec::new();
    metadata::validate_update(resource, new, old, &mut errors);
    rules.validate(new, &mut errors);
    rules.validate_update(new, old, &mut errors);
    errors
}

/// Everything that is wrong with a write of the status.
pub fn validate_status(rules: &dyn Kind, resource: &Resource, new: &Value, old: &Value) -> FieldErrors {
    let mut errors = Vec::new();
    metadata::validate_update(resource, new, old, &mut errors);
    rules.validate_status(new, old, &mut errors);
    errors
}

/// Whether two objects differ in more than metadata and status.
pub(super) fn differs(new: &Value, old: &Value) -> bool {
    let (Some(a), Some(b)) = (new.as_object(), old.as_object()) else { return new != old };
    let own = |name: &str| !matches!(name, "metadata" | "status" | "apiVersion" | "kind");
    a.iter().filter(|(name, _)| own(name)).any(|(name, value)| b.get(name) != Some(value))
        || b.keys().any(|name| own(name) && !a.contains_key(name))
}

fn remove(object: &mut Value, name: &str) {
    if let Some(object) = object.as_object_mut() {
        object.remove(name);
    }
}
