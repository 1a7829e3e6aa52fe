//! Making OpenAPI documents out of resource rows and definitions.
//!
//! Paths carry what clients look up in them: the kind of each operation
//! (`x-kubernetes-group-version-kind`), its action, and the query parameters of writes, by
//! which kubectl finds out whether the server validates fields.

use std::collections::HashMap;

use coracle_api::resource::{Resource, Subresource};
use coracle_api::schema::openapi;
use serde_json::{Map, Value, json};

use crate::config::VERSION;

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// What the document of a group version is made of.
pub(super) struct Source {
    pub(super) group: String,
    pub(super) version: String,
    pub(super) rows: Vec<Resource>,
    /// Definitions of custom resources, by plural.
    pub(super) custom: HashMap<String, Value>,
}

/// The OpenAPI 3.0 document of a group version.
pub(super) fn v3(source: &Source) -> Value {
    let definitions = openapi::definitions();
    let mut schemas = Map::new();
    let mut paths = Map::new();
    let (status, options) = (format!("{META}.Status"), format!("{META}.DeleteOptions"));
    let (list_meta, object_meta) = (format!("{META}.ListMeta"), format!("{META}.ObjectMeta"));
    let mut roots = vec![status, options, list_meta, object_meta];
    for row in &source.rows {
        let schema = schema_name(row, source);
        if let Some(definition) = source.custom.get(&*row.plural) {
            schemas.insert(schema.clone(), custom_schema(row, definition));
        } else {
            roots.push(schema.clone());
        }
        if row.has_verb("list") {
            let list = openapi::list_definition(&schema, &source.group, &source.version, &row.kind);
            schemas.insert(format!("{schema}List"), list);
        }
        for sub in &row.subresources {
            let (group, version) = kind_of(row, sub);
            roots.push(Resource::definition(group, version, &sub.kind));
        }
        add_paths(&mut paths, row, &schema);
    }
    let roots: Vec<&str> = roots.iter().map(String::as_str).collect();
    for (name, definition) in openapi::closure(&definitions, &roots) {
        schemas.entry(name).or_insert(definition);
    }
    json!({
        "openapi": "3.0.0",
        "info": { "title": "Kubernetes", "version": VERSION },
        "paths": paths,
        "components": { "schemas": schemas },
    })
}

/// The Swagger 2.0 document: every built-in definition, for clients that know no other.
/// It lists no paths; those are in the v3 documents.
pub(super) fn v2() -> Value {
    let mut definitions = Value::Object(openapi::definitions());
    to_v2(&mut definitions);
    json!({
        "swagger": "2.0",
        "info": { "title": "Kubernetes", "version": VERSION },
        "paths": {},
        "definitions": definitions,
    })
}

/// Rewrites references, and `allOf` with a single reference as that reference.
fn to_v2(value: &mut Value) {
    match value {
        Value::Object(object) => {
            let single = object.get("allOf").and_then(Value::as_array).filter(|all| all.len() == 1);
            if let Some(reference) = single.and_then(|all| all[0].get("$ref")).cloned() {
                object.remove("allOf");
                object.insert("$ref".to_owned(), reference);
            }
            if let Some(Value::String(reference)) = object.get_mut("$ref") {
                *reference = reference.replacen("#/components/schemas/", "#/definitions/", 1);
            }
            object.values_mut().for_each(to_v2);
        }
        Value::Array(items) => items.iter_mut().for_each(to_v2),
        _ => {}
    }
}

/// Name of a row's schema: for custom resources the group reversed, as in
/// `com.example.stable.v1.CronTab`.
fn schema_name(row: &Resource, source: &Source) -> String {
    if !source.custom.contains_key(&*row.plural) {
        return row.schema.to_string();
    }
    let reversed: Vec<&str> = row.group.rsplit('.').collect();
    format!("{}.{}.{}", reversed.join("."), row.version, row.kind)
}

fn custom_schema(row: &Resource, definition: &Value) -> Value {
    let versions = definition["spec"]["versions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let version = versions.iter().find(|v| v["name"] == *row.version);
    let mut schema = version
        .and_then(|v| v.pointer("/schema/openAPIV3Schema"))
        .filter(|schema| schema.is_object())
        .cloned()
        .unwrap_or_else(|| json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true }));
    schema["properties"]["apiVersion"] = json!({ "type": "string" });
    schema["properties"]["kind"] = json!({ "type": "string" });
    schema["properties"]["metadata"] = json!({ "allOf": [reference(&format!("{META}.ObjectMeta"))] });
    schema["x-kubernetes-group-version-kind"] = json!([gvk(&row.group, &row.version, &row.kind)]);
    schema
}

fn gvk(group: &str, version: &str, kind: &str) -> Value {
    json!({ "group": group, "version": version, "kind": kind })
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

/// Group and version of the kind that a subresource speaks.
fn kind_of<'a>(row: &'a Resource, sub: &'a Subresource) -> (&'a str, &'a str) {
    if sub.version.is_empty() { (&row.group, &row.version) } else { (&sub.group, &sub.version) }
}

fn add_paths(paths: &mut Map<String, Value>, row: &Resource, schema: &str) {
    let root = if row.group.is_empty() { "/api".to_owned() } else { format!("/apis/{}", row.group) };
    let base = format!("{root}/{}", row.version);
    let namespaced = row.is_namespaced();
    let scope = if namespaced { "/namespaces/{namespace}" } else { "" };
    let collection = format!("{base}{scope}/{}", row.plural);
    let own = gvk(&row.group, &row.version, &row.kind);
    let list = format!("{schema}List");

    let mut operations = Operations::new(namespaced, false);
    operations.add(row.has_verb("list"), "get", "list", &own, &list);
    operations.add(row.has_verb("create"), "post", "post", &own, schema);
    operations.add(
        row.has_verb("deletecollection"),
        "delete",
        "deletecollection",
        &own,
        &format!("{META}.Status"),
    );
    operations.into_path(paths, collection.clone());

    if namespaced && row.has_verb("list") {
        let mut everywhere = Operations::new(false, false);
        everywhere.add(true, "get", "list", &own, &list);
        everywhere.into_path(paths, format!("{base}/{}", row.plural));
    }

    let mut operations = Operations::new(namespaced, true);
    operations.add(row.has_verb("get"), "get", "get", &own, schema);
    operations.add(row.has_verb("update"), "put", "put", &own, schema);
    operations.add(row.has_verb("patch"), "patch", "patch", &own, schema);
    operations.add(row.has_verb("delete"), "delete", "delete", &own, &format!("{META}.Status"));
    operations.into_path(paths, format!("{collection}/{{name}}"));

    for sub in &row.subresources {
        let (group, version) = kind_of(row, sub);
        let kind = gvk(group, version, &sub.kind);
        let speaks = Resource::definition(group, version, &sub.kind);
        let has = |verb: &str| sub.verbs.iter().any(|v| v == verb);
        let mut operations = Operations::new(namespaced, true);
        operations.add(has("get"), "get", "get", &kind, &speaks);
        operations.add(has("create"), "post", "post", &kind, &speaks);
        operations.add(has("update"), "put", "put", &kind, &speaks);
        operations.add(has("patch"), "patch", "patch", &kind, &speaks);
        operations.add(has("delete"), "delete", "delete", &kind, &speaks);
        operations.into_path(paths, format!("{collection}/{{name}}/{}", sub.name));
    }
}

/// The operations of one path.
struct Operations {
    item: Map<String, Value>,
}

impl Operations {
    fn new(namespaced: bool, named: bool) -> Self {
        let mut parameters = Vec::new();
        for (wanted, name) in [(named, "name"), (namespaced, "namespace")] {
            if wanted {
                parameters.push(json!({
                    "name": name, "in": "path", "required": true,
                    "schema": { "type": "string", "uniqueItems": true },
                }));
            }
        }
        parameters.push(query("pretty", "string"));
        Self { item: Map::from_iter([("parameters".to_owned(), Value::Array(parameters))]) }
    }

    fn add(&mut self, present: bool, method: &str, action: &str, kind: &Value, schema: &str) {
        if !present {
            return;
        }
        let media = |schema: Value| json!({ "application/json": { "schema": schema } });
        let mut operation = json!({
            "responses": { "200": { "description": "OK", "content": media(reference(schema)) } },
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": kind,
        });
        let (parameters, body) = match action {
            "list" | "deletecollection" => (LIST_PARAMETERS, None),
            "post" | "put" => (WRITE_PARAMETERS, Some(media(reference(schema)))),
            "patch" => {
                let any = || json!({ "schema": { "type": "object" } });
                let body = json!({
                    "application/json-patch+json": any(),
                    "application/merge-patch+json": any(),
                    "application/strategic-merge-patch+json": any(),
                });
                (PATCH_PARAMETERS, Some(body))
            }
            "delete" => (DELETE_PARAMETERS, Some(media(reference(&format!("{META}.DeleteOptions"))))),
            _ => (&[][..], None),
        };
        if !parameters.is_empty() {
            operation["parameters"] = parameters.iter().map(|(name, ty)| query(name, ty)).collect();
        }
        if let Some(body) = body {
            operation["requestBody"] = json!({ "content": body, "required": action != "delete" });
        }
        self.item.insert(method.to_owned(), operation);
    }

    fn into_path(self, paths: &mut Map<String, Value>, path: String) {
        if self.item.len() > 1 {
            paths.insert(path, Value::Object(self.item));
        }
    }
}

const LIST_PARAMETERS: &[(&str, &str)] = &[
    ("allowWatchBookmarks", "boolean"),
    ("continue", "string"),
    ("fieldSelector", "string"),
    ("labelSelector", "string"),
    ("limit", "integer"),
    ("resourceVersion", "string"),
    ("resourceVersionMatch", "string"),
    ("sendInitialEvents", "boolean"),
    ("timeoutSeconds", "integer"),
    ("watch", "boolean"),
];
const WRITE_PARAMETERS: &[(&str, &str)] =
    &[("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string")];
const PATCH_PARAMETERS: &[(&str, &str)] =
    &[("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string"), ("force", "boolean")];
const DELETE_PARAMETERS: &[(&str, &str)] = &[
    ("dryRun", "string"),
    ("gracePeriodSeconds", "integer"),
    ("orphanDependents", "boolean"),
    ("propagationPolicy", "string"),
];

fn query(name: &str, ty: &str) -> Value {
    json!({ "name": name, "in": "query", "schema": { "type": ty, "uniqueItems": true } })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apps() -> Value {
        let rows = coracle_api::resource::builtin();
        let rows = rows.iter().filter(|r| r.group == "apps" && r.version == "v1").cloned().collect();
        v3(&Source { group: "apps".into(), version: "v1".into(), rows, custom: HashMap::new() })
    }

    #[test]
    fn clients_find_kinds_and_parameters_in_paths() {
        let document = apps();
        assert_eq!(document["openapi"], "3.0.0");
        let patch = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
        assert_eq!(
            patch["x-kubernetes-group-version-kind"],
            json!({"group": "apps", "version": "v1", "kind": "Deployment"})
        );
        assert!(patch["parameters"].as_array().unwrap().iter().any(|p| p["name"] == "fieldValidation"));
        let scale =
            &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}/scale"]["get"];
        assert_eq!(scale["x-kubernetes-group-version-kind"]["group"], "autoscaling");
        assert!(document["paths"]["/apis/apps/v1/deployments"]["get"].is_object());
    }

    #[test]
    fn every_reference_has_its_definition() {
        let document = apps();
        let schemas = document["components"]["schemas"].as_object().unwrap();
        assert!(schemas.contains_key("io.k8s.api.apps.v1.Deployment"));
        assert!(schemas.contains_key("io.k8s.api.core.v1.PodSpec"));
        let text = document.to_string();
        for piece in text.split("\"#/components/schemas/").skip(1) {
            let name = piece.split('"').next().unwrap();
            assert!(schemas.contains_key(name), "{name}");
        }
    }

    #[test]
    fn custom_definitions_keep_their_schema() {
        let mut row = coracle_api::resource::find("apps", "v1", "deployments").unwrap().clone();
        row.group = "stable.example.com".into();
        row.plural = "crontabs".into();
        row.kind = "CronTab".into();
        row.subresources.clear();
        let definition = json!({"spec": {"versions": [{"name": "v1", "schema": {"openAPIV3Schema": {
            "type": "object", "properties": {"spec": {"type": "object"}}}}}]}});
        let custom = HashMap::from([("crontabs".to_owned(), definition)]);
        let source =
            Source { group: "stable.example.com".into(), version: "v1".into(), rows: vec![row], custom };
        let document = v3(&source);
        let schema = &document["components"]["schemas"]["com.example.stable.v1.CronTab"];
        assert_eq!(schema["properties"]["spec"]["type"], "object");
        assert_eq!(schema["x-kubernetes-group-version-kind"][0]["kind"], "CronTab");
        assert!(document["components"]["schemas"]["com.example.stable.v1.CronTabList"].is_object());
    }

    #[test]
    fn version_two_speaks_of_definitions() {
        let mut value = json!({"a": {"allOf": [{"$ref": "#/components/schemas/x"}], "description": "d"}});
        to_v2(&mut value);
        assert_eq!(value, json!({"a": {"$ref": "#/definitions/x", "description": "d"}}));
    }
}
