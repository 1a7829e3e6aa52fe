//! What the built-in table holds, and how schemas of CRDs are read.

use super::*;
use serde_json::json;

fn schema(name: &str) -> &'static Schema {
    builtin(&format!("io.k8s.api.{name}")).unwrap()
}

#[test]
fn fields_have_their_types() {
    let rows = [
        ("core.v1.Pod", "spec.containers.ports.containerPort", "int32"),
        ("core.v1.Pod", "spec.containers", "[]v1.Container"),
        ("core.v1.Pod", "metadata.labels", "map[string]string"),
        ("core.v1.Pod", "spec.terminationGracePeriodSeconds", "int64"),
        ("core.v1.Pod", "spec.hostNetwork", "bool"),
        ("core.v1.Secret", "data", "map[string][]uint8"),
        ("core.v1.Service", "spec.ports.targetPort", "intstr.IntOrString"),
        ("core.v1.ResourceQuota", "spec.hard", "map[string]resource.Quantity"),
        ("apps.v1.ControllerRevision", "data", "interface {}"),
    ];
    for (kind, path, expected) in rows {
        let path: Vec<&str> = path.split('.').collect();
        assert_eq!(schema(kind).at(&path).unwrap().go_type(), expected, "{kind} {path:?}");
    }
}

#[test]
fn lists_and_maps_know_how_to_merge() {
    let pod = schema("core.v1.PodSpec");
    assert_eq!(pod.child("containers").unwrap().list_type, ListType::Map(vec!["name".into()]));
    assert_eq!(pod.field("containers").unwrap().merge_key, "name");
    assert!(pod.field("volumes").unwrap().patch.retain_keys);
    assert_eq!(pod.child("nodeSelector").unwrap().map_type, MapType::Atomic);
    assert_eq!(pod.child("tolerations").unwrap().list_type, ListType::Atomic);
    let ports = schema("core.v1.ServiceSpec").child("ports").unwrap();
    assert_eq!(ports.list_type, ListType::Map(vec!["port".into(), "protocol".into()]));
    assert!(schema("apps.v1.DeploymentSpec").field("strategy").unwrap().patch.retain_keys);
    assert_eq!(
        builtin("io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector").unwrap().map_type,
        MapType::Atomic
    );
}

#[test]
fn defaults_are_in_their_places() {
    let probe = schema("core.v1.Probe");
    assert!(probe.has_defaults);
    assert_eq!(probe.field("periodSeconds").unwrap().node.default.as_deref(), Some(&json!(10)));
    assert!(probe.field("periodSeconds").unwrap().zero_is_absent);
    assert!(!schema("core.v1.HostPathVolumeSource").field("type").unwrap().zero_is_absent);
    assert!(schema("core.v1.PodSpec").field("nodeName").unwrap().zero_is_absent);
}

#[test]
fn fields_are_sorted_and_definitions_resolve() {
    for row in crate::resource::builtin() {
        let Some(schema) = builtin(&row.schema) else { continue };
        assert!(schema.fields.windows(2).all(|w| w[0].name < w[1].name), "{}", row.schema);
        assert!(
            schema.child("metadata").is_none_or(|m| m.short_definition() == "ObjectMeta"),
            "{}",
            row.schema
        );
    }
}

#[test]
fn openapi_material_is_closed() {
    let definitions = openapi::definitions();
    let part = openapi::closure(&definitions, &["io.k8s.api.apps.v1.Deployment"]);
    assert!(
        part.contains_key("io.k8s.api.core.v1.Container") && !part.contains_key("io.k8s.api.batch.v1.Job")
    );
    let containers = &part["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
    assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
    assert_eq!(
        part["io.k8s.api.apps.v1.Deployment"]["x-kubernetes-group-version-kind"][0]["kind"],
        "Deployment"
    );
    assert!(containers["description"].is_string());
}

#[test]
fn crd_schemas_become_the_same_model() {
    let schema = from_crd(&json!({"type": "object", "required": ["spec"], "properties": {
        "spec": {"type": "object", "properties": {
            "size": {"type": "integer", "minimum": 1, "maximum": 5, "default": 3},
            "color": {"type": "string", "enum": ["red", "blue"], "nullable": true},
            "port": {"x-kubernetes-int-or-string": true},
            "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
            "parts": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                "items": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            "labels": {"type": "object", "additionalProperties": {"type": "string"}}}}}}))
    .unwrap();
    assert_eq!(schema.field("metadata").unwrap().schema().short_definition(), "ObjectMeta");
    let spec = schema.child("spec").unwrap();
    assert!(schema.field("spec").unwrap().required && spec.has_defaults);
    assert_eq!(spec.field("size").unwrap().node.default.as_deref(), Some(&json!(3)));
    assert_eq!(spec.child("size").unwrap().rules.as_ref().unwrap().maximum, Some(5.0));
    assert!(spec.child("color").unwrap().nullable);
    assert_eq!(spec.child("port").unwrap().ty, Type::IntOrString);
    assert_eq!(spec.child("tags").unwrap().list_type, ListType::Set);
    assert_eq!(spec.child("parts").unwrap().list_type, ListType::Map(vec!["name".into()]));
    assert!(spec.child("free").unwrap().preserve_unknown && spec.child("labels").unwrap().is_map());
}

#[test]
fn schemas_that_are_not_structural_are_refused() {
    let errors = from_crd(
        &json!({"type": "object", "properties": {"a": {}, "b": {"type": "array"}, "c": {"type": "word"},
        "d": {"type": "object", "properties": {}, "additionalProperties": {"type": "string"}}}}),
    )
    .unwrap_err();
    let paths: Vec<&str> = errors.iter().map(|e| e.path.as_str()).collect();
    let root = "openAPIV3Schema.properties";
    assert_eq!(
        paths,
        [
            format!("{root}[a].type"),
            format!("{root}[b].items"),
            format!("{root}[c].type"),
            format!("{root}[d].additionalProperties")
        ]
    );
}
