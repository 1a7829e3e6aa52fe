//! Tables of bodies and what becomes of them.

use super::*;
use coracle_api::schema;
use serde_json::json;

fn builtin(name: &str) -> &'static Schema {
    schema::builtin(&format!("io.k8s.api.{name}")).unwrap()
}

fn decode(schema: &str, body: &Value) -> Result<Decoded, Status> {
    object(body.to_string().as_bytes(), Format::Json, builtin(schema), FieldValidation::Warn)
}

fn pod(spec: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": spec})
}

#[test]
fn wrong_types_are_refused_in_gos_words() {
    let rows = [
        (
            pod(json!({"containers": {"name": "x"}})),
            "json: cannot unmarshal object into Go struct field PodSpec.spec.containers of type []v1.Container",
        ),
        (
            pod(json!({"containers": [{"ports": [{"containerPort": "80"}]}]})),
            "json: cannot unmarshal string into Go struct field ContainerPort.spec.containers.ports.containerPort of type int32",
        ),
        (
            pod(json!({"containers": [{"ports": [{"containerPort": 99_999_999_999_i64}]}]})),
            "json: cannot unmarshal number 99999999999 into Go struct field ContainerPort.spec.containers.ports.containerPort of type int32",
        ),
        (
            pod(json!({"terminationGracePeriodSeconds": 1.5})),
            "json: cannot unmarshal number 1.5 into Go struct field PodSpec.spec.terminationGracePeriodSeconds of type int64",
        ),
        (
            pod(json!({"hostNetwork": "true"})),
            "json: cannot unmarshal string into Go struct field PodSpec.spec.hostNetwork of type bool",
        ),
        (
            pod(json!({"containers": [{"command": "sleep 1"}]})),
            "json: cannot unmarshal string into Go struct field Container.spec.containers.command of type []string",
        ),
        (
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"labels": {"a": 1}}}),
            "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string",
        ),
        (
            pod(json!({"activeDeadlineSeconds": 10.0})),
            "json: cannot unmarshal number 10.0 into Go struct field PodSpec.spec.activeDeadlineSeconds of type int64",
        ),
    ];
    for (body, why) in rows {
        let status = decode("core.v1.Pod", &body).unwrap_err();
        assert_eq!(status.code, 400);
        assert_eq!(status.message, format!("Pod in version \"v1\" cannot be handled as a Pod: {why}"));
    }
}

#[test]
fn base64_and_times_are_checked() {
    let secret = |data: &str| json!({"kind": "Secret", "apiVersion": "v1", "data": {"a": data}});
    assert!(decode("core.v1.Secret", &secret("b2xkCg==")).is_ok());
    for bad in ["not base64!", "b2xkCg", "***"] {
        let status = decode("core.v1.Secret", &secret(bad)).unwrap_err();
        assert!(status.message.contains("illegal base64 data at input byte"), "{}", status.message);
    }
    let event = json!({"kind": "Event", "apiVersion": "v1", "firstTimestamp": "yesterday"});
    assert!(decode("core.v1.Event", &event).unwrap_err().message.contains("parsing time \"yesterday\""));
}

#[test]
fn unknown_and_duplicate_fields() {
    let body = br#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"},"spec":{"containers":[{"name":"x","imagePulPolicy":"y"}],"replicas":3}}"#;
    let schema = builtin("core.v1.Pod");
    let warned = object(body, Format::Json, schema, FieldValidation::Warn).unwrap();
    assert_eq!(
        warned.warnings,
        [r#"unknown field "spec.containers[0].imagePulPolicy""#, r#"unknown field "spec.replicas""#]
    );
    assert_eq!(warned.value["spec"], json!({"containers": [{"name": "x"}]}));
    assert!(object(body, Format::Json, schema, FieldValidation::Ignore).unwrap().warnings.is_empty());
    let status = object(body, Format::Json, schema, FieldValidation::Strict).unwrap_err();
    assert_eq!(
        status.message,
        r#"Pod in version "v1" cannot be handled as a Pod: strict decoding error: unknown field "spec.containers[0].imagePulPolicy", unknown field "spec.replicas""#
    );
    let twice = br#"{"apiVersion":"v1","kind":"ConfigMap","data":{"a":"1"},"data":{"b":"2","b":"3"}}"#;
    let decoded = object(twice, Format::Json, builtin("core.v1.ConfigMap"), FieldValidation::Warn).unwrap();
    assert_eq!(decoded.warnings, [r#"duplicate field "data.b""#, r#"duplicate field "data""#]);
    assert_eq!(decoded.value["data"], json!({"a": "1", "b": "3"}));
}

#[test]
fn what_means_nothing_is_left_out() {
    let body = json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "a", "labels": {}, "annotations": null, "finalizers": []},
        "spec": {"containers": [null, {"name": "x", "command": [], "env": null, "stdin": false, "securityContext": {}}],
            "nodeName": "", "nodeSelector": {}, "terminationGracePeriodSeconds": 0, "hostNetwork": false}});
    assert_eq!(
        decode("core.v1.Pod", &body).unwrap().value,
        json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "a"},
            "spec": {"containers": [{}, {"name": "x", "securityContext": {}}], "terminationGracePeriodSeconds": 0}})
    );
    let map = json!({"kind": "ConfigMap", "apiVersion": "v1", "data": {"x": null, "y": ""}});
    assert_eq!(decode("core.v1.ConfigMap", &map).unwrap().value["data"], json!({"x": "", "y": ""}));
}

#[test]
fn quantities_become_canonical() {
    let body = pod(json!({"containers": [{"resources": {"limits": {"cpu": 0.5, "memory": "1024Mi"}}}]}));
    let limits =
        decode("core.v1.Pod", &body).unwrap().value["spec"]["containers"][0]["resources"]["limits"].clone();
    assert_eq!(limits, json!({"cpu": "500m", "memory": "1Gi"}));
    let bad = pod(json!({"containers": [{"resources": {"limits": {"cpu": "1e9999999999"}}}]}));
    assert_eq!(decode("core.v1.Pod", &bad).unwrap_err().code, 400);
}

#[test]
fn bodies_that_are_no_objects() {
    let schema = builtin("core.v1.ConfigMap");
    for body in ["", "{", "[]", "\"hello\"", "{\"a\":1}x", "nope", "{\"a\":}"] {
        let status = object(body.as_bytes(), Format::Json, schema, FieldValidation::Warn).unwrap_err();
        assert_eq!(status.code, 400, "{body}");
    }
    assert_eq!(object(b"null", Format::Json, schema, FieldValidation::Warn).unwrap().value, json!({}));
    let deep = "[".repeat(100_000);
    assert!(object(deep.as_bytes(), Format::Json, schema, FieldValidation::Warn).is_err());
}

#[test]
fn yaml_is_read_by_the_rules_of_1_1() {
    let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: octal}\nspec:\n  automountServiceAccountToken: no\n  containers:\n  - {name: one, image: &i \"a:1\"}\n  - {name: two, image: *i}\n  volumes:\n  - name: v\n    secret: {secretName: s, defaultMode: 0400}\n";
    let pod =
        object(text.as_bytes(), Format::Yaml, builtin("core.v1.Pod"), FieldValidation::Strict).unwrap().value;
    assert_eq!(pod["spec"]["automountServiceAccountToken"], json!(false));
    assert_eq!(pod["spec"]["containers"][1]["image"], json!("a:1"));
    assert_eq!(pod["spec"]["volumes"][0]["secret"]["defaultMode"], json!(256));
    let flag = "kind: ConfigMap\napiVersion: v1\ndata: {a: on}\n";
    let status = object(flag.as_bytes(), Format::Yaml, builtin("core.v1.ConfigMap"), FieldValidation::Warn)
        .unwrap_err();
    assert!(status.message.contains("cannot unmarshal bool"), "{}", status.message);
    assert!(yaml(b"a: 1\n\tb: 2\n").is_err());
}

#[test]
fn kinds_must_be_those_of_the_path() {
    let gvk = Gvk::new("apps", "v1", "Deployment");
    let mut bare = json!({});
    check_type(&mut bare, &gvk).unwrap();
    assert_eq!(bare, json!({"apiVersion": "apps/v1", "kind": "Deployment"}));
    for (api_version, kind) in
        [("apps/v1", "StatefulSet"), ("apps/v1beta2", "Deployment"), ("v1", "Deployment")]
    {
        let mut body = json!({"apiVersion": api_version, "kind": kind});
        assert_eq!(check_type(&mut body, &gvk).unwrap_err().code, 400);
    }
}

#[test]
fn custom_resources_are_pruned_but_not_type_checked() {
    let schema = schema::from_crd(&json!({"type": "object", "properties": {"spec": {"type": "object",
        "properties": {"size": {"type": "integer"}, "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}}}))
    .unwrap();
    let body = json!({"apiVersion": "x/v1", "kind": "X", "metadata": {"name": "a"},
        "spec": {"size": "big", "stray": 1, "free": {"kept": []}}});
    let decoded = object(body.to_string().as_bytes(), Format::Json, &schema, FieldValidation::Warn).unwrap();
    assert_eq!(decoded.value["spec"], json!({"size": "big", "free": {"kept": []}}));
    assert_eq!(decoded.warnings, [r#"unknown field "spec.stray""#]);
}

#[test]
fn patched_objects_that_do_not_fit_are_invalid() {
    let gvk = Gvk::new("", "v1", "Pod");
    let mut value = pod(json!({"hostNetwork": 1}));
    let status = patched(&mut value, builtin("core.v1.Pod"), FieldValidation::Warn, &gvk, "a").unwrap_err();
    assert_eq!(status.code, 422);
    assert_eq!(status.details.unwrap().causes[0].field, "patch");
}
