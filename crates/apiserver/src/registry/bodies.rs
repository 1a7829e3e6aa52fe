//! Request bodies: from bytes to an object that fits its schema and its place.

use coracle_api::Gvk;
use coracle_api::meta;
use coracle_api::resource::Subresource;
use coracle_api::schema::{self, Schema};
use coracle_api::status::Status;
use coracle_machinery::decode::{self, Decoded, Format};
use serde_json::{Value, json};

use crate::registry::index::Row;
use crate::registry::render;
use crate::request::Call;

/// What bodies of objects may be in.
const MEDIA_TYPES: &[&str] = &["application/json", "application/yaml"];

/// The form of a body.
///
/// # Errors
/// 415 for what is neither JSON nor YAML.
pub(super) fn format(call: &Call) -> Result<Format, Status> {
    match call.content_type.as_deref() {
        None | Some("" | "application/json") => Ok(Format::Json),
        Some("application/yaml") => Ok(Format::Yaml),
        Some(_) => Err(Status::unsupported_media_type(MEDIA_TYPES)),
    }
}

/// The object in the body of a create or update.
///
/// # Errors
/// 415, and 400 for bodies that do not parse, do not fit the schema or are of another kind.
pub(super) fn object(row: &Row, call: &Call) -> Result<Decoded, Status> {
    let schema = row.schema.get()?;
    let mut decoded = decode::object(&call.body, format(call)?, schema, call.field_validation)?;
    decode::check_type(&mut decoded.value, &row.resource.gvk())?;
    Ok(decoded)
}

/// The object in the body of a call on a subresource that speaks a kind of its own.
///
/// # Errors
/// As of [`object`].
pub(super) fn part(row: &Row, part: &Subresource, definition: &str, call: &Call) -> Result<Value, Status> {
    let schema: &Schema = schema::builtin(definition)
        .ok_or_else(|| Status::internal(format!("there is no schema called {definition}")))?;
    let mut decoded = decode::object(&call.body, format(call)?, schema, call.field_validation)?;
    decode::check_type(&mut decoded.value, &part_kind(row, part))?;
    Ok(decoded.value)
}

/// The kind that a subresource speaks.
pub(super) fn part_kind(row: &Row, part: &Subresource) -> Gvk {
    if part.version.is_empty() {
        Gvk { kind: part.kind.clone(), ..row.resource.gvk() }
    } else {
        Gvk { group: part.group.clone(), version: part.version.clone(), kind: part.kind.clone() }
    }
}

/// Makes an object belong to the namespace of the path.
///
/// # Errors
/// 400 when it says another.
pub(super) fn settle_namespace(object: &mut Value, namespace: &str) -> Result<(), Status> {
    let said = meta::namespace(object);
    if namespace.is_empty() {
        meta::set(object, "namespace", Value::Null);
        return Ok(());
    }
    if !said.is_empty() && said != namespace {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    meta::set(object, "namespace", json!(namespace));
    Ok(())
}

/// Checks that an object has the name of the path.
///
/// # Errors
/// 400 when it has none or another.
pub(super) fn check_name(object: &Value, name: &str) -> Result<(), Status> {
    match meta::name(object) {
        said if said == name => Ok(()),
        "" => Err(Status::bad_request(format!(
            "the name of the object ({name} based on URL) was undeterminable: name must be provided"
        ))),
        said => Err(Status::bad_request(format!(
            "the name of the object ({said}) does not match the name on the URL ({name})"
        ))),
    }
}

/// The value of an object of ours under the row's apiVersion.
///
/// # Errors
/// 500 when it does not parse.
pub(super) fn value_as_row(row: &Row, json: &[u8]) -> Result<Value, Status> {
    let mut value = render::parse(json)?;
    if !row.is_storage_version() {
        meta::set_type(&mut value, &row.api_version, &row.resource.kind);
    }
    Ok(value)
}
