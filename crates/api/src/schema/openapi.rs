//! The material of /openapi/v3: whole definitions with descriptions, defaults and
//! `x-kubernetes-*` extensions. It is inflated at each call and never kept, since documents are
//! made once and kept as bytes by whoever serves them.

use std::collections::BTreeSet;

use flate2::read::DeflateDecoder;
use serde_json::{Map, Value, json};

static BLOB: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/openapi.bin"));

/// Every built-in definition by name; references are `#/components/schemas/<name>`.
pub fn definitions() -> Map<String, Value> {
    serde_json::from_reader(DeflateDecoder::new(BLOB)).unwrap_or_default()
}

/// `roots` and everything that they refer to, out of `definitions`.
pub fn closure(definitions: &Map<String, Value>, roots: &[&str]) -> Map<String, Value> {
    let mut out = Map::new();
    let mut wanted: BTreeSet<String> = roots.iter().map(|r| (*r).to_owned()).collect();
    while let Some(name) = wanted.pop_first() {
        let Some(definition) = definitions.get(&name) else { continue };
        references(definition, &mut |target: &str| {
            if target != name && !out.contains_key(target) {
                wanted.insert(target.to_owned());
            }
        });
        out.insert(name, definition.clone());
    }
    out
}

/// The definition of the list of a kind: `k8s-openapi` has one generic list.
pub fn list_definition(definition: &str, group: &str, version: &str, kind: &str) -> Value {
    let text = |about: &str| json!({"type": "string", "description": about});
    json!({
        "description": format!("A list of {kind} objects."),
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": text("The group and version of the list's schema."),
            "kind": text("The kind of the list."),
            "metadata": {"allOf": [{"$ref": "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta"}], "default": {}},
            "items": {"type": "array", "items": {"allOf": [{"$ref": format!("#/components/schemas/{definition}")}], "default": {}}},
        },
        "x-kubernetes-group-version-kind": [{"group": group, "version": version, "kind": format!("{kind}List")}],
    })
}

fn references(schema: &Value, found: &mut impl FnMut(&str)) {
    match schema {
        Value::Object(object) => {
            for (key, value) in object {
                match value.as_str() {
                    Some(text) if key == "$ref" => {
                        if let Some(name) = text.strip_prefix("#/components/schemas/") {
                            found(name);
                        }
                    }
                    _ => references(value, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}
