//! Reading and writing an object's `kind`, `apiVersion` and `metadata` while it is a JSON value.
//!
//! Readers answer empty strings and `None` for what is not there or has the wrong type, so they
//! can be used before validation.

use serde_json::{Map, Value};

/// An owner, from `metadata.ownerReferences`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnerReference<'a> {
    /// The owner's `group/version`.
    pub api_version: &'a str,
    /// The owner's kind.
    pub kind: &'a str,
    /// The owner's name.
    pub name: &'a str,
    /// The owner's uid.
    pub uid: &'a str,
    /// Whether it is the managing controller.
    pub controller: bool,
    /// Whether foreground deletion of the owner waits for this object.
    pub block_owner_deletion: bool,
}

/// The text at `object[key]`, or `""`.
pub fn text<'a>(object: &'a Value, key: &str) -> &'a str {
    object.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn field<'a>(object: &'a Value, key: &str) -> &'a str {
    object.get("metadata").map(|m| text(m, key)).unwrap_or_default()
}

/// `kind`.
pub fn kind(object: &Value) -> &str {
    text(object, "kind")
}

/// `apiVersion`.
pub fn api_version(object: &Value) -> &str {
    text(object, "apiVersion")
}

/// `metadata.name`.
pub fn name(object: &Value) -> &str {
    field(object, "name")
}

/// `metadata.generateName`.
pub fn generate_name(object: &Value) -> &str {
    field(object, "generateName")
}

/// `metadata.namespace`; empty for cluster-scoped objects.
pub fn namespace(object: &Value) -> &str {
    field(object, "namespace")
}

/// `metadata.uid`.
pub fn uid(object: &Value) -> &str {
    field(object, "uid")
}

/// `metadata.resourceVersion`.
pub fn resource_version(object: &Value) -> &str {
    field(object, "resourceVersion")
}

/// `metadata.creationTimestamp` as written.
pub fn creation_timestamp(object: &Value) -> Option<&str> {
    object.get("metadata")?.get("creationTimestamp")?.as_str()
}

/// `metadata.deletionTimestamp` as written.
pub fn deletion_timestamp(object: &Value) -> Option<&str> {
    object.get("metadata")?.get("deletionTimestamp")?.as_str()
}

/// `metadata.deletionGracePeriodSeconds`.
pub fn deletion_grace_period_seconds(object: &Value) -> Option<i64> {
    object.get("metadata")?.get("deletionGracePeriodSeconds")?.as_i64()
}

/// Whether deletion has been asked for.
pub fn is_deleting(object: &Value) -> bool {
    deletion_timestamp(object).is_some()
}

/// `metadata.generation`, 0 if there is none.
pub fn generation(object: &Value) -> i64 {
    object.get("metadata").and_then(|m| m.get("generation")).and_then(Value::as_i64).unwrap_or_default()
}

/// `metadata.labels`.
pub fn labels(object: &Value) -> Option<&Map<String, Value>> {
    object.get("metadata")?.get("labels")?.as_object()
}

/// `metadata.annotations`.
pub fn annotations(object: &Value) -> Option<&Map<String, Value>> {
    object.get("metadata")?.get("annotations")?.as_object()
}

/// One annotation.
pub fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    annotations(object)?.get(key)?.as_str()
}

/// `metadata.finalizers`.
pub fn finalizers(object: &Value) -> Vec<&str> {
    object
        .get("metadata")
        .and_then(|m| m.get("finalizers"))
        .and_then(Value::as_array)
        .map(|list| list.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default()
}

/// `metadata.ownerReferences`.
pub fn owner_references(object: &Value) -> Vec<OwnerReference<'_>> {
    object
        .get("metadata")
        .and_then(|m| m.get("ownerReferences"))
        .and_then(Value::as_array)
        .map(|list| list.iter().map(owner).collect())
        .unwrap_or_default()
}

fn owner(value: &Value) -> OwnerReference<'_> {
    let flag = |key: &str| value.get(key).and_then(Value::as_bool).unwrap_or_default();
    OwnerReference {
        api_version: text(value, "apiVersion"),
        kind: text(value, "kind"),
        name: text(value, "name"),
        uid: text(value, "uid"),
        controller: flag("controller"),
        block_owner_deletion: flag("blockOwnerDeletion"),
    }
}

/// The owner that manages the object, if there is one.
pub fn controller_of(object: &Value) -> Option<OwnerReference<'_>> {
    owner_references(object).into_iter().find(|o| o.controller)
}

/// `metadata` for writing; made if it is not there. `None` if `object` is no JSON object.
pub fn metadata_mut(object: &mut Value) -> Option<&mut Map<String, Value>> {
    let metadata = object.as_object_mut()?.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
    if !metadata.is_object() {
        *metadata = Value::Object(Map::new());
    }
    metadata.as_object_mut()
}

/// Sets `metadata[key]`; `Value::Null` removes it.
pub fn set(object: &mut Value, key: &str, value: impl Into<Value>) {
    let Some(metadata) = metadata_mut(object) else { return };
    match value.into() {
        Value::Null => {
            metadata.remove(key);
        }
        value => {
            metadata.insert(key.to_owned(), value);
        }
    }
}

/// Sets `apiVersion` and `kind`.
pub fn set_type(object: &mut Value, api_version: &str, kind: &str) {
    if let Some(map) = object.as_object_mut() {
        map.insert("apiVersion".to_owned(), api_version.into());
        map.insert("kind".to_owned(), kind.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn reads_what_is_there_and_nothing_else() {
        let object = json!({"kind": "Pod", "metadata": {"name": "a", "generation": 3, "finalizers": ["x"], "labels": {"a": "b"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "1", "controller": true}]}});
        assert_eq!(
            (kind(&object), name(&object), namespace(&object), generation(&object)),
            ("Pod", "a", "", 3)
        );
        assert_eq!(finalizers(&object), ["x"]);
        assert_eq!(controller_of(&object).unwrap().name, "r");
        assert!(!is_deleting(&object));
        assert_eq!(name(&json!([])), "");
    }

    #[test]
    fn writes_make_metadata() {
        let mut object = json!({});
        set(&mut object, "name", "a");
        set(&mut object, "name2", Value::Null);
        assert_eq!(object, json!({"metadata": {"name": "a"}}));
        set_type(&mut object, "v1", "Pod");
        assert_eq!(kind(&object), "Pod");
    }
}
