//! A CustomResourceDefinition as rows of the resource table.

use std::sync::Arc;

use coracle_api::meta::{self, text};
use coracle_api::resource::{Column, Resource, Scope, Str, Subresource};
use coracle_api::schema;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::registry::custom::{flag, versions};
use crate::registry::index::{Custom, Row, ScalePaths, StoredKind};

/// What can be done with custom objects.
const VERBS: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

/// The rows of a definition: one for each served version that can be read.
pub(super) fn rows_of(definition: &Value, terminating: bool) -> Vec<Arc<Row>> {
    let Some(storage) = versions(definition).iter().find(|version| flag(version, "storage")) else {
        return Vec::new();
    };
    let Some(stored) = stored_kind(definition, storage) else { return Vec::new() };
    let mut rows = Vec::new();
    for version in versions(definition).iter().filter(|version| flag(version, "served")) {
        let parsed = version.pointer("/schema/openAPIV3Schema").map(schema::from_crd);
        let Some(Ok(parsed)) = parsed else { continue };
        let custom = Custom {
            definition: meta::name(definition).to_owned(),
            scale: version.pointer("/subresources/scale").map(scale_paths),
            terminating,
        };
        rows.push(Arc::new(Row::custom(
            resource_of(definition, version),
            Arc::new(parsed),
            stored.clone(),
            custom,
        )));
    }
    rows
}

fn stored_kind(definition: &Value, storage: &Value) -> Option<Arc<StoredKind>> {
    let text_of_schema = version_schema(storage)?;
    let parsed = schema::from_crd(text_of_schema).ok()?;
    let digest = Sha256::digest(serde_json::to_vec(text_of_schema).ok()?);
    let number = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
    let fields = storage.get("selectableFields").and_then(Value::as_array).into_iter().flatten();
    let fields = fields.map(|field| {
        let path = path_of(text(field, "jsonPath"));
        (path.join("."), path)
    });
    let resource = resource_of(definition, storage);
    Some(Arc::new(StoredKind::custom(&resource, Arc::new(parsed), number, fields.collect())))
}

fn version_schema(version: &Value) -> Option<&Value> {
    version.pointer("/schema/openAPIV3Schema")
}

fn scale_paths(scale: &Value) -> ScalePaths {
    ScalePaths {
        spec_replicas: path_of(text(scale, "specReplicasPath")),
        status_replicas: path_of(text(scale, "statusReplicasPath")),
        label_selector: path_of(text(scale, "labelSelectorPath")),
    }
}

/// The member names of a simple JSON path such as `.spec.replicas`.
fn path_of(path: &str) -> Vec<String> {
    path.split('.').filter(|step| !step.is_empty()).map(str::to_owned).collect()
}

fn resource_of(definition: &Value, version: &Value) -> Resource {
    let spec = definition.get("spec").unwrap_or(&Value::Null);
    let names = spec.get("names").unwrap_or(&Value::Null);
    let own = |value: &str| -> Str { Str::Owned(value.to_owned()) };
    let list = |key: &str| -> Vec<Str> {
        names
            .get(key)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(own)
            .collect()
    };
    let kind = own(text(names, "kind"));
    let mut subresources = Vec::new();
    let parts: Vec<Str> = ["get", "patch", "update"].into_iter().map(Str::Borrowed).collect();
    if version.pointer("/subresources/status").is_some() {
        subresources.push(Subresource {
            name: "status".into(),
            group: Str::default(),
            version: Str::default(),
            kind: kind.clone(),
            verbs: parts.clone(),
        });
    }
    if version.pointer("/subresources/scale").is_some() {
        subresources.push(Subresource {
            name: "scale".into(),
            group: "autoscaling".into(),
            version: "v1".into(),
            kind: "Scale".into(),
            verbs: parts,
        });
    }
    Resource {
        group: own(text(spec, "group")),
        version: own(text(version, "name")),
        plural: own(text(names, "plural")),
        singular: own(text(names, "singular")),
        list_kind: own(text(names, "listKind")),
        scope: if text(spec, "scope") == "Cluster" { Scope::Cluster } else { Scope::Namespaced },
        short_names: list("shortNames"),
        categories: list("categories"),
        verbs: VERBS.iter().copied().map(Str::Borrowed).collect(),
        subresources,
        columns: columns_of(version),
        schema: Str::default(),
        kind,
    }
}

fn columns_of(version: &Value) -> Vec<Column> {
    let column = |name: &str, ty: &str, format: &str, priority: u8, description: &str, path: &str| Column {
        name: Str::Owned(name.to_owned()),
        ty: Str::Owned(ty.to_owned()),
        format: Str::Owned(format.to_owned()),
        priority,
        description: Str::Owned(description.to_owned()),
        json_path: Str::Owned(path.to_owned()),
    };
    let mut columns = vec![column("Name", "string", "name", 0, "The object's name.", ".metadata.name")];
    match version.get("additionalPrinterColumns").and_then(Value::as_array) {
        Some(own) => columns.extend(own.iter().map(|one| {
            let priority = one.get("priority").and_then(Value::as_u64).and_then(|p| u8::try_from(p).ok());
            column(
                text(one, "name"),
                text(one, "type"),
                text(one, "format"),
                priority.unwrap_or_default(),
                text(one, "description"),
                text(one, "jsonPath"),
            )
        })),
        None => columns.push(column(
            "Age",
            "date",
            "",
            0,
            "When the object was created.",
            ".metadata.creationTimestamp",
        )),
    }
    columns
}
