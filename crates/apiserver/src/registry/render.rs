//! Answers in the form that was asked for: objects as they are, Tables, metadata only.

use std::sync::Arc;

use bytes::Bytes;
use coracle_api::status::Status;
use coracle_machinery::table;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::cache::Object;
use crate::registry::envelope::write_json;
use crate::registry::index::Row;
use crate::registry::reply::{Pieces, Reply};
use crate::request::{Include, MetaVersion, Shape};

/// What a list's metadata says.
#[derive(Debug, Clone, Default)]
pub(super) struct ListMeta {
    /// The revision that the list shows.
    pub(super) revision: i64,
    /// Token of the next page.
    pub(super) continue_token: Option<String>,
    /// How many objects follow, when that is known.
    pub(super) remaining: Option<usize>,
}

impl ListMeta {
    fn json(&self) -> Value {
        let mut meta = json!({"resourceVersion": self.revision.to_string()});
        if let Some(token) = &self.continue_token {
            meta["continue"] = json!(token);
            if let Some(remaining) = self.remaining.filter(|count| *count > 0) {
                meta["remainingItemCount"] = json!(remaining);
            }
        }
        meta
    }
}

/// Parses the JSON of an object of ours.
///
/// # Errors
/// 500 when it is none.
pub(super) fn parse(json: &[u8]) -> Result<Value, Status> {
    serde_json::from_slice(json).map_err(Status::internal)
}

/// An object as JSON under the row's `apiVersion`.
///
/// # Errors
/// 500 when the object cannot be parsed.
pub(super) fn as_row(row: &Row, body: Bytes) -> Result<Bytes, Status> {
    if row.is_storage_version() {
        return Ok(body);
    }
    let mut value = parse(&body)?;
    coracle_api::meta::set_type(&mut value, &row.api_version, &row.resource.kind);
    Ok(serde_json::to_vec(&value).map_err(Status::internal)?.into())
}

/// An answer with one stored object.
///
/// # Errors
/// 500 when the object cannot be parsed.
pub(super) fn object(row: &Row, code: u16, body: Bytes, shape: Shape) -> Result<Reply, Status> {
    Ok(Reply::object(code, shaped(row, body, shape, true)?))
}

/// An answer with a value made for it, such as a Scale.
///
/// # Errors
/// 500 when it cannot be written, which does not happen.
pub(super) fn value(code: u16, value: &Value) -> Result<Reply, Status> {
    Ok(Reply::object(code, serde_json::to_vec(value).map_err(Status::internal)?.into()))
}

/// One stored object in a shape. `columns` says whether a Table explains its columns, which
/// watches do once.
///
/// # Errors
/// 500 when the object cannot be parsed.
pub(super) fn shaped(row: &Row, body: Bytes, shape: Shape, columns: bool) -> Result<Bytes, Status> {
    let out = match shape {
        Shape::Object => return as_row(row, body),
        Shape::Metadata { version } => partial(&parse(&body)?, version),
        Shape::Table { version, include } => {
            let value = parse(&body)?;
            let meta = json!({"resourceVersion": coracle_api::meta::resource_version(&value)});
            table_of(row, &[value], version, include, meta, columns)
        }
    };
    Ok(serde_json::to_vec(&out).map_err(Status::internal)?.into())
}

/// A list of stored objects in a shape.
///
/// # Errors
/// 500 when an object cannot be parsed.
pub(super) fn list(
    row: &Row,
    objects: &[Arc<Object>],
    meta: &ListMeta,
    shape: Shape,
) -> Result<Pieces, Status> {
    match shape {
        Shape::Object => objects_list(row, objects, meta),
        Shape::Metadata { version } => {
            let mut out = Pieces::with_capacity(objects.len() * 256);
            open_list(&mut out, "PartialObjectMetadataList", version.api_version(), meta);
            for (at, object) in objects.iter().enumerate() {
                if at > 0 {
                    out.push(b",");
                }
                let item = partial(&parse(object.json())?, version);
                out.push(&serde_json::to_vec(&item).map_err(Status::internal)?);
            }
            out.push(b"]}");
            Ok(out)
        }
        Shape::Table { version, include } => {
            let values: Vec<Value> =
                objects.iter().map(|object| parse(object.json())).collect::<Result<_, _>>()?;
            let table = table_of(row, &values, version, include, meta.json(), true);
            Ok(Bytes::from(serde_json::to_vec(&table).map_err(Status::internal)?).into())
        }
    }
}

/// Joins the prepared bytes of objects. Items of built-in lists leave kind and apiVersion
/// out, those of custom ones do not: as kube-apiserver writes them.
fn objects_list(row: &Row, objects: &[Arc<Object>], meta: &ListMeta) -> Result<Pieces, Status> {
    let bytes: usize = objects.iter().map(|object| object.json().len()).sum();
    let mut out = Pieces::with_capacity(bytes + 256);
    open_list(&mut out, &row.resource.list_kind, &row.api_version, meta);
    for (at, object) in objects.iter().enumerate() {
        if at > 0 {
            out.push(b",");
        }
        if row.is_custom() {
            out.push(&as_row(row, object.body())?);
        } else {
            out.push(b"{");
            out.push(object.item());
        }
    }
    out.push(b"]}");
    Ok(out)
}

fn open_list(out: &mut Pieces, kind: &str, api_version: &str, meta: &ListMeta) {
    let mut head = Vec::with_capacity(160);
    head.extend_from_slice(b"{\"kind\":");
    write_json(kind, &mut head);
    head.extend_from_slice(b",\"apiVersion\":");
    write_json(api_version, &mut head);
    head.extend_from_slice(b",\"metadata\":");
    write_json(&meta.json(), &mut head);
    head.extend_from_slice(b",\"items\":[");
    out.push(&head);
}

fn partial(object: &Value, version: MetaVersion) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": version.api_version(),
        "metadata": object.get("metadata").cloned().unwrap_or_else(|| json!({})),
    })
}

fn table_of(
    row: &Row,
    objects: &[Value],
    version: MetaVersion,
    include: Include,
    meta: Value,
    columns: bool,
) -> Value {
    let include = match include {
        Include::None => table::Include::None,
        Include::Metadata => table::Include::Metadata,
        Include::Object => table::Include::Object,
    };
    let mut table = table::render(&row.resource, objects, Timestamp::now(), include);
    table["apiVersion"] = json!(version.api_version());
    table["metadata"] = meta;
    if !columns {
        table["columnDefinitions"] = Value::Null;
    }
    table
}

/// The object of a bookmark: nothing but the kind and the revision reached.
pub(super) fn bookmark(row: &Row, revision: i64, ends_initial_events: bool, shape: Shape) -> Value {
    let mut metadata = json!({"resourceVersion": revision.to_string()});
    if ends_initial_events {
        metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
    }
    match shape {
        Shape::Metadata { version } => {
            json!({"kind": "PartialObjectMetadata", "apiVersion": version.api_version(), "metadata": metadata})
        }
        Shape::Object | Shape::Table { .. } => {
            json!({"kind": row.resource.kind, "apiVersion": row.api_version, "metadata": metadata})
        }
    }
}
