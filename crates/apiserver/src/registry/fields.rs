//! Who owns which field: what the registry tells `machinery::managed` about a write, and when.
//!
//! Managers are settled right after decoding and defaulting. Until the object is stored they are
//! kept apart from it, so that neither admission nor a kind's rules can touch them.

use coracle_api::meta;
use coracle_machinery::managed::{Reset, Writer};
use jiff::Timestamp;
use serde_json::Value;

use crate::registry::index::Row;

/// Who finds out about the managers of an object that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Managers<'a> {
    /// This field manager owns what the write changes.
    Track(&'a str),
    /// The object has its list already.
    Settled,
}

/// The writer of one part of an object.
pub(super) fn writer<'a>(row: &'a Row, manager: &'a str, subresource: &'a str) -> Writer<'a> {
    let resource = &row.resource;
    Writer {
        manager,
        api_version: &row.api_version,
        subresource,
        reset: Reset::of(&resource.group, &resource.plural, subresource, row.has_status()),
        now: Timestamp::now(),
    }
}

/// Takes the list of managers out of an object.
pub(super) fn take(object: &mut Value) -> Value {
    let metadata = object.get_mut("metadata").and_then(Value::as_object_mut);
    metadata.and_then(|metadata| metadata.remove("managedFields")).unwrap_or_default()
}

/// Puts a list of managers into an object.
pub(super) fn put(object: &mut Value, managers: Value) {
    meta::set(object, "managedFields", managers);
}
