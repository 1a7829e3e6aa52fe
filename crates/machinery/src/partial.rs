//! Metadata-only forms: what clients get that ask for `PartialObjectMetadata`.

use serde_json::{Value, json};

/// The metadata of one object.
pub fn object(object: &Value) -> Value {
    let metadata = object.get("metadata").cloned().unwrap_or_else(|| json!({}));
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata})
}

/// A list of metadata, with the list's own metadata.
pub fn list<'a>(metadata: Value, objects: impl Iterator<Item = &'a Value>) -> Value {
    let items: Vec<Value> = objects.map(object).collect();
    json!({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "items": items})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_metadata_is_left() {
        let full = json!({"kind": "Secret", "metadata": {"name": "a"}, "data": {"k": "v"}});
        let expected = json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": {"name": "a"}});
        assert_eq!(object(&full), expected);
        assert_eq!(list(json!({}), [&full].into_iter())["items"][0], expected);
    }
}
