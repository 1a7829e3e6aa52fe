//! The annotation of `kubectl apply` without `--server-side`: what it holds may be taken over by
//! kubectl's server-side applications without conflict, and they keep it up to date.

use coracle_api::meta;
use coracle_api::schema::Schema;
use serde_json::Value;

use super::compare::compare;
use super::form::Place;
use super::owned::owned;
use super::set::Set;

/// The annotation.
const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Bytes that all annotations of an object may have.
const ANNOTATIONS_BYTES_MAX: usize = 256 * 1024;

/// What the annotation says as the live object still has it; `None` without one in this version.
pub(super) fn owned_by_annotation(live: &Value, schema: &Schema, api_version: &str) -> Option<Set> {
    let last: Value = serde_json::from_str(meta::annotation(live, ANNOTATION)?).ok()?;
    if !last.is_object() || meta::api_version(&last) != api_version {
        return None;
    }
    let place = Place::root(schema);
    let changes = compare(&last, live, place);
    Some(owned(&last, place).difference(&changes.set()).difference(&changes.removed))
}

/// Writes what was applied into the annotation, if there is one and it has room.
pub(super) fn refresh(object: &mut Value, applied: &Value) {
    if meta::annotation(object, ANNOTATION).is_none() {
        return;
    }
    let mut applied = applied.clone();
    let metadata = applied.get_mut("metadata").and_then(Value::as_object_mut);
    if let Some(annotations) = metadata.and_then(|m| m.get_mut("annotations")).and_then(Value::as_object_mut)
    {
        annotations.remove(ANNOTATION);
    }
    let text = format!("{applied}\n");
    let Some(annotations) = object.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) else {
        return;
    };
    annotations.insert(ANNOTATION.to_owned(), text.into());
    let bytes: usize = annotations.iter().map(|(k, v)| k.len() + v.as_str().map_or(0, str::len)).sum();
    if bytes > ANNOTATIONS_BYTES_MAX {
        annotations.remove(ANNOTATION);
    }
}
