//! Static defaults: what an absent field becomes, wherever its type is used.
//!
//! The walk only visits what is there: an absent object is not made unless it has a default of
//! its own. Defaults that depend on other fields are in [`crate::kinds`].

use coracle_api::schema::{Schema, Type};
use serde_json::{Map, Value};

/// Gives absent fields of `value` their defaults, at every depth.
pub fn apply(value: &mut Value, schema: &Schema) {
    match (schema.ty, value) {
        (Type::Object, Value::Object(map)) => object(map, schema),
        (Type::Array, Value::Array(items)) => {
            if let Some(of) = schema.item().filter(|of| matches!(of.ty, Type::Object | Type::Array)) {
                items.iter_mut().for_each(|item| apply(item, of));
            }
        }
        _ => {}
    }
}

fn object(map: &mut Map<String, Value>, schema: &Schema) {
    if schema.has_defaults {
        for field in &schema.fields {
            let Some(default) = &field.node.default else { continue };
            match map.get_mut(&*field.name) {
                None => {
                    map.insert(field.name.to_string(), (**default).clone());
                }
                Some(value @ Value::Null) if !field.schema().nullable => *value = (**default).clone(),
                Some(_) => {}
            }
        }
    }
    for (name, value) in map.iter_mut().filter(|(_, v)| v.is_object() || v.is_array()) {
        if let Some(child) = schema.child(name) {
            apply(value, child);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_api::schema;
    use serde_json::json;

    #[test]
    fn defaults_reach_every_depth_and_overwrite_nothing() {
        let schema = schema::builtin("io.k8s.api.core.v1.Pod").unwrap();
        let mut pod = json!({"spec": {"restartPolicy": "Never", "containers": [
            {"name": "a", "ports": [{"containerPort": 80}], "livenessProbe": {"httpGet": {"port": 80}, "periodSeconds": 3}}],
            "volumes": [{"name": "v", "secret": {"secretName": "s"}}]}});
        apply(&mut pod, schema);
        let rows = [
            ("/spec/restartPolicy", json!("Never")),
            ("/spec/dnsPolicy", json!("ClusterFirst")),
            ("/spec/containers/0/ports/0/protocol", json!("TCP")),
            ("/spec/containers/0/livenessProbe/periodSeconds", json!(3)),
            ("/spec/containers/0/livenessProbe/failureThreshold", json!(3)),
            ("/spec/containers/0/livenessProbe/httpGet/path", json!("/")),
            ("/spec/containers/0/resources", json!({})),
            ("/spec/volumes/0/secret/defaultMode", json!(420)),
            ("/status/phase", json!("Pending")),
        ];
        for (pointer, expected) in rows {
            assert_eq!(pod.pointer(pointer), Some(&expected), "{pointer}");
        }
        let again = pod.clone();
        apply(&mut pod, schema);
        assert_eq!(pod, again);
    }

    #[test]
    fn crd_defaults_make_objects_only_where_they_say_so() {
        let schema = schema::from_crd(&json!({"type": "object", "properties": {
            "spec": {"type": "object", "properties": {"size": {"type": "integer", "default": 3},
                "deep": {"type": "object", "default": {}, "properties": {"x": {"type": "string", "default": "y"}}}}},
            "other": {"type": "object", "properties": {"z": {"type": "integer", "default": 1}}}}}))
        .unwrap();
        let mut value = json!({"spec": {"size": null}});
        apply(&mut value, &schema);
        assert_eq!(value, json!({"spec": {"size": 3, "deep": {"x": "y"}}}));
    }
}
