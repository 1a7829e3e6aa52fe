//! The rules of `metadata`, which every kind shares.

use coracle_api::{FieldError, FieldErrors, FieldPath, Resource, meta, names};
use serde_json::Value;

use super::Kind;
use crate::view::{at, entries, keep, list, text};

/// Bytes that all annotations of an object may have, keys and values together.
const ANNOTATIONS_BYTES_MAX: usize = 256 * 1024;
static METADATA: FieldPath<'static> = FieldPath::new("metadata");
/// Fields that the server sets and clients do not.
const OWNED: [&str; 6] =
    ["creationTimestamp", "deletionGracePeriodSeconds", "deletionTimestamp", "generation", "selfLink", "uid"];
const IMMUTABLE: &str = "field is immutable";

/// Removes from a new object what the server sets.
pub(super) fn reset(object: &mut Value) {
    if let Some(metadata) = meta::metadata_mut(object) {
        for name in OWNED {
            metadata.remove(name);
        }
        metadata.remove("managedFields");
    }
}

/// Restores in an updated object what the server sets. A uid stays as sent, if one was: it is a
/// precondition.
pub(super) fn restore(new: &mut Value, old: &Value) {
    let uid = meta::uid(new).to_owned();
    if meta::metadata_mut(new).is_none() {
        return;
    }
    let (Some(metadata), stored) = (new.get_mut("metadata"), at(old, "metadata")) else { return };
    for name in OWNED {
        keep(metadata, stored, name);
    }
    if let Some(metadata) = metadata.as_object_mut() {
        metadata.remove("managedFields");
        if !uid.is_empty() {
            metadata.insert("uid".to_owned(), uid.into());
        }
    }
}

/// Finds what is wrong with the metadata of a new object.
pub(super) fn validate(rules: &dyn Kind, resource: &Resource, object: &Value, errors: &mut FieldErrors) {
    let (name, prefix) = (meta::name(object), meta::generate_name(object));
    if !prefix.is_empty() {
        let masked = prefix.strip_suffix('-').map_or_else(|| prefix.to_owned(), |p| format!("{p}a"));
        for why in rules.name_errors(&masked) {
            errors.push(FieldError::invalid(METADATA.child("generateName"), prefix, why));
        }
    }
    if name.is_empty() {
        if prefix.is_empty() {
            errors.push(FieldError::required(METADATA.child("name"), "name or generateName is required"));
        }
    } else {
        for why in rules.name_errors(name) {
            errors.push(FieldError::invalid(METADATA.child("name"), name, why));
        }
    }
    let namespace = meta::namespace(object);
    match (resource.is_namespaced(), namespace.is_empty()) {
        (true, true) => errors.push(FieldError::required(METADATA.child("namespace"), "")),
        (false, false) => {
            errors.push(FieldError::forbidden(METADATA.child("namespace"), "not allowed on this type"))
        }
        (true, false) => {
            for why in names::dns1123_label(namespace) {
                errors.push(FieldError::invalid(METADATA.child("namespace"), namespace, why));
            }
        }
        (false, true) => {}
    }
    common(object, errors);
}

/// Finds what is wrong with the metadata of an updated object.
pub(super) fn validate_update(resource: &Resource, new: &Value, old: &Value, errors: &mut FieldErrors) {
    for name in ["name", "uid"].into_iter().chain(resource.is_namespaced().then_some("namespace")) {
        let (new, old) = (text(new, &format!("metadata.{name}")), text(old, &format!("metadata.{name}")));
        if new != old {
            errors.push(FieldError::invalid(METADATA.child(name), new, IMMUTABLE));
        }
    }
    if meta::is_deleting(old) {
        let stored = meta::finalizers(old);
        let added: Vec<&str> = meta::finalizers(new).into_iter().filter(|f| !stored.contains(f)).collect();
        if !added.is_empty() {
            let why = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                added.iter().map(|f| format!("{f:?}")).collect::<Vec<_>>().join(", ")
            );
            errors.push(FieldError::forbidden(METADATA.child("finalizers"), why));
        }
    }
    common(new, errors);
}

fn common(object: &Value, errors: &mut FieldErrors) {
    labels(at(object, "metadata"), &METADATA, errors);
    annotations(at(object, "metadata"), &METADATA, errors);
    finalizers(object, errors);
    owners(object, errors);
}

/// The rules of the labels of `metadata`, which is at `path`.
pub(super) fn labels(metadata: &Value, path: &FieldPath<'_>, errors: &mut FieldErrors) {
    label_map(at(metadata, "labels"), &path.child("labels"), errors);
}

/// The rules of a map of labels.
pub(super) fn label_map(labels: &Value, path: &FieldPath<'_>, errors: &mut FieldErrors) {
    for (key, value) in labels.as_object().into_iter().flatten() {
        for why in names::qualified_name(key) {
            errors.push(FieldError::invalid(path, key.as_str(), why));
        }
        let value = value.as_str().unwrap_or_default();
        for why in names::label_value(value) {
            errors.push(FieldError::invalid(path, value, why));
        }
    }
}

/// The rules of the annotations of `metadata`, which is at `path`.
pub(super) fn annotations(metadata: &Value, path: &FieldPath<'_>, errors: &mut FieldErrors) {
    let path = path.child("annotations");
    let mut size = 0;
    for (key, value) in entries(metadata, "annotations") {
        size += key.len() + value.as_str().map_or(0, str::len);
        for why in names::qualified_name(&key.to_lowercase()) {
            errors.push(FieldError::invalid(path, key.as_str(), why));
        }
    }
    if size > ANNOTATIONS_BYTES_MAX {
        errors.push(FieldError::too_long(path, ANNOTATIONS_BYTES_MAX));
    }
}

fn finalizers(object: &Value, errors: &mut FieldErrors) {
    let path = METADATA.child("finalizers");
    let all = meta::finalizers(object);
    for (i, name) in all.iter().enumerate() {
        for why in names::qualified_name(name) {
            errors.push(FieldError::invalid(path.index(i), *name, why));
        }
        if !name.contains('/') && !matches!(*name, "kubernetes" | "orphan" | "foregroundDeletion") {
            let why = "name is neither a standard finalizer name nor is it fully qualified";
            errors.push(FieldError::invalid(path.index(i), *name, why));
        }
    }
    if all.contains(&"orphan") && all.contains(&"foregroundDeletion") {
        let why = "finalizer orphan and foregroundDeletion cannot be both set";
        errors.push(FieldError::invalid(path, at(object, "metadata.finalizers").clone(), why));
    }
}

fn owners(object: &Value, errors: &mut FieldErrors) {
    let path = METADATA.child("ownerReferences");
    let mut controllers = 0;
    for (i, owner) in list(object, "metadata.ownerReferences").iter().enumerate() {
        let item = path.index(i);
        for (name, what) in [
            ("apiVersion", "version must not be empty"),
            ("kind", "must not be empty"),
            ("name", "must not be empty"),
            ("uid", "must not be empty"),
        ] {
            if text(owner, name).is_empty() {
                errors.push(FieldError::invalid(item.child(name), "", what));
            }
        }
        if text(owner, "apiVersion") == "v1" && text(owner, "kind") == "Event" {
            errors.push(FieldError::invalid(item, "v1, Kind=Event", "is disallowed from being an owner"));
        }
        controllers += usize::from(crate::view::flag(owner, "controller"));
    }
    if controllers > 1 {
        let why = "Only one reference can have Controller set to true";
        errors.push(FieldError::invalid(path, at(object, "metadata.ownerReferences").clone(), why));
    }
}
