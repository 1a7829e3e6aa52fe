//! Field management as a client sees it: a sequence of writes and the entries that it leaves.

use coracle_api::schema::{self, Schema};
use coracle_api::{Gvk, Status};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::*;

fn schema() -> &'static Schema {
    schema::builtin("io.k8s.api.core.v1.ConfigMap").unwrap()
}

fn writer(manager: &str, second: i64) -> Writer<'_> {
    let reset = Reset::of("", "configmaps", "", false);
    Writer {
        manager,
        api_version: "v1",
        subresource: "",
        reset,
        now: Timestamp::from_second(second).unwrap(),
    }
}

/// A ConfigMap as the server has it: with uid.
fn map(data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m", "uid": "u"}, "data": data})
}

fn create(manager: &str, data: Value) -> Value {
    let mut new = map(data);
    update(None, &mut new, schema(), &writer(manager, 1));
    new
}

fn write(old: &Value, manager: &str, second: i64, data: Value) -> Value {
    let mut new = old.clone();
    new["data"] = data;
    update(Some(old), &mut new, schema(), &writer(manager, second));
    new
}

fn run_apply(
    live: Option<&Value>,
    manager: &str,
    second: i64,
    force: bool,
    data: Value,
) -> Result<Value, Status> {
    let stated = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": data});
    let gvk = Gvk::new("", "v1", "ConfigMap");
    let mut object = apply(live, &stated, schema(), &gvk, &writer(manager, second), force)?;
    object["metadata"]["uid"] = json!("u");
    Ok(object)
}

/// `manager operation second {fields of data}` per entry.
fn entries(object: &Value) -> Vec<String> {
    let list =
        object.pointer("/metadata/managedFields").and_then(Value::as_array).cloned().unwrap_or_default();
    list.iter()
        .map(|entry| {
            let text = |key: &str| entry[key].as_str().unwrap_or("-").to_owned();
            let second = text("time").chars().rev().nth(1).unwrap_or('-');
            format!("{} {} {second} {}", text("manager"), text("operation"), entry["fieldsV1"]["f:data"])
        })
        .collect()
}

#[test]
fn updaters_own_what_they_change() {
    let first = create("a", json!({"x": "1", "y": "1"}));
    assert_eq!(entries(&first), [r#"a Update 1 {".":{},"f:x":{},"f:y":{}}"#]);
    let second = write(&first, "b", 2, json!({"x": "1", "y": "2", "w": "1"}));
    assert_eq!(entries(&second), [r#"a Update 1 {".":{},"f:x":{}}"#, r#"b Update 2 {"f:w":{},"f:y":{}}"#]);
    let third = write(&second, "c", 3, json!({"y": "2", "w": "1"}));
    assert_eq!(entries(&third), ["a Update 1 {}", r#"b Update 2 {"f:w":{},"f:y":{}}"#]);
    assert_eq!(write(&third, "d", 4, third["data"].clone()), third, "a write that changes nothing");
}

#[test]
fn appliers_share_conflict_and_force() {
    let first = run_apply(None, "alpha", 1, false, json!({"gem": "ruby", "band": "gold"})).unwrap();
    assert_eq!(entries(&first), [r#"alpha Apply 1 {"f:band":{},"f:gem":{}}"#]);
    let shared = run_apply(Some(&first), "beta", 2, false, json!({"band": "gold"})).unwrap();
    assert_eq!(
        entries(&shared),
        [r#"beta Apply - {"f:band":{}}"#, r#"alpha Apply 1 {"f:band":{},"f:gem":{}}"#]
    );

    let refused = run_apply(Some(&first), "beta", 2, false, json!({"gem": "opal"})).unwrap_err();
    assert_eq!(refused.message, "Apply failed with 1 conflict: conflict with \"alpha\": .data.gem");
    assert_eq!(
        (refused.code, refused.details.unwrap().causes[0].reason.as_str()),
        (409, "FieldManagerConflict")
    );
    let forced = run_apply(Some(&first), "beta", 2, true, json!({"gem": "opal"})).unwrap();
    assert_eq!(entries(&forced), [r#"alpha Apply 1 {"f:band":{}}"#, r#"beta Apply 2 {"f:gem":{}}"#]);
    assert_eq!(forced["data"], json!({"band": "gold", "gem": "opal"}));
}

#[test]
fn what_an_applier_leaves_out_goes_unless_another_owns_it() {
    let first = run_apply(None, "alpha", 1, false, json!({"cup": "1", "jar": "1"})).unwrap();
    let second =
        run_apply(Some(&first), "beta", 2, false, json!({"jar": "1", "lid": "1", "tin": "1"})).unwrap();
    let third = run_apply(Some(&second), "beta", 3, false, json!({"lid": "1"})).unwrap();
    assert_eq!(third["data"], json!({"cup": "1", "jar": "1", "lid": "1"}));
    let none = run_apply(Some(&third), "beta", 4, false, json!({})).unwrap();
    assert_eq!(none["data"], json!({"cup": "1", "jar": "1"}));
    let again =
        run_apply(Some(&second), "beta", 9, false, json!({"jar": "1", "lid": "1", "tin": "1"})).unwrap();
    assert_eq!(again, second, "the same statement again changes nothing, not even times");
}

#[test]
fn managers_can_be_forgotten_and_begin_anew() {
    let first = create("a", json!({"x": "1"}));
    let mut wiped = first.clone();
    wiped["metadata"]["managedFields"] = json!([{}]);
    update(Some(&first), &mut wiped, schema(), &writer("b", 2));
    assert_eq!(wiped["metadata"].get("managedFields"), None);
    let untracked = write(&wiped, "c", 3, json!({"x": "2"}));
    assert_eq!(untracked["metadata"].get("managedFields"), None);
    let applied = run_apply(Some(&untracked), "e", 4, false, json!({"z": "1"})).unwrap();
    assert_eq!(
        entries(&applied),
        [r#"e Apply 4 {"f:z":{}}"#, r#"before-first-apply Update 4 {".":{},"f:x":{}}"#]
    );

    let mut empty = first.clone();
    empty["metadata"]["managedFields"] = json!([]);
    update(Some(&first), &mut empty, schema(), &writer("b", 2));
    assert_eq!(empty, first, "an empty list is what clients send that know nothing of managers");
}

#[test]
fn a_client_may_rewrite_the_managers() {
    let first = create("kubectl-client-side-apply", json!({"a": "1", "b": "1"}));
    let mut upgraded = first.clone();
    upgraded["metadata"]["managedFields"] = json!([{"manager": "kubectl", "operation": "Apply", "apiVersion": "v1",
        "time": "1970-01-01T00:00:05Z", "fieldsType": "FieldsV1", "fieldsV1": {"f:data": {"f:a": {}, "f:b": {}}}}]);
    update(Some(&first), &mut upgraded, schema(), &writer("x", 2));
    assert_eq!(entries(&upgraded), [r#"kubectl Apply 5 {"f:a":{},"f:b":{}}"#]);
    let next = run_apply(Some(&upgraded), "kubectl", 6, false, json!({"a": "2"})).unwrap();
    assert_eq!(next["data"], json!({"a": "2"}));
}

#[test]
fn kubectl_takes_over_what_its_annotation_says() {
    let annotation = "kubectl.kubernetes.io/last-applied-configuration";
    let last = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"m","annotations":{}},"data":{"a":"1","b":"1"}}"#;
    let mut live = map(json!({"a": "1", "b": "1"}));
    live["metadata"]["annotations"] = json!({annotation: last});
    update(None, &mut live, schema(), &writer("kubectl-client-side-apply", 1));
    assert_eq!(run_apply(Some(&live), "somebody", 2, false, json!({"a": "2"})).unwrap_err().code, 409);
    let taken = run_apply(Some(&live), "kubectl", 2, false, json!({"a": "2", "c": "3"})).unwrap();
    assert_eq!(taken["data"], json!({"a": "2", "b": "1", "c": "3"}));
    let want = "{\"apiVersion\":\"v1\",\"data\":{\"a\":\"2\",\"c\":\"3\"},\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"m\"}}\n";
    assert_eq!(taken["metadata"]["annotations"][annotation], want);
    assert_eq!(
        entries(&taken),
        [r#"kubectl Apply 2 {"f:a":{},"f:c":{}}"#, r#"kubectl-client-side-apply Update 1 {".":{},"f:b":{}}"#]
    );
}

#[test]
fn statements_must_be_of_the_kind_and_name_no_managers() {
    let gvk = Gvk::new("", "v1", "ConfigMap");
    let refused = |stated: Value| {
        apply(None, &stated, schema(), &gvk, &writer("m", 1), false).map(|_| ()).unwrap_err().message
    };
    assert_eq!(refused(json!({})), "invalid object type: /, Kind=");
    assert_eq!(
        refused(json!({"apiVersion": "v1", "kind": "Secret"})),
        "invalid object type: /v1, Kind=Secret"
    );
    let managed = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"managedFields": []}});
    assert_eq!(refused(managed), "metadata.managedFields must be nil");
    let unknown = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "n", "namespace": "s"}, "colour": 1});
    let want = "failed to create typed patch object (s/n; v1, Kind=ConfigMap): .colour: field not declared in schema";
    assert_eq!(refused(unknown), want);
}

#[test]
fn replicas_belong_to_who_scales() {
    let path = ["spec".to_owned(), "replicas".to_owned()];
    let writer = |manager, subresource| {
        let reset = Reset::of("apps", "deployments", subresource, true);
        Writer {
            manager,
            api_version: "apps/v1",
            subresource,
            reset,
            now: Timestamp::from_second(1).unwrap(),
        }
    };
    let deployment = |replicas: i64| {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "uid": "u"},
        "spec": {"replicas": replicas, "paused": true}})
    };
    let schema = schema::builtin("io.k8s.api.apps.v1.Deployment").unwrap();
    let gvk = Gvk::new("apps", "v1", "Deployment");
    let mut live = apply(None, &deployment(0), schema, &gvk, &writer("alpha", ""), false).unwrap();
    live["metadata"]["uid"] = json!("u");

    let mut scaled = live.clone();
    scaled["spec"]["replicas"] = json!(3);
    update_scale(&live, &mut scaled, &path, &writer("scaler", "scale"));
    let managers = &scaled["metadata"]["managedFields"];
    assert_eq!(managers[0]["fieldsV1"], json!({"f:spec": {"f:paused": {}}}));
    assert_eq!((&managers[1]["subresource"], managers[1].get("time")), (&json!("scale"), None));
    let refused =
        apply(Some(&scaled), &deployment(0), schema, &gvk, &writer("alpha", ""), false).unwrap_err();
    let want = "Apply failed with 1 conflict: conflict with \"scaler\" with subresource \"scale\" using apps/v1: .spec.replicas";
    assert_eq!(refused.message, want);

    let mut applied = live.clone();
    applied["spec"]["replicas"] = json!(4);
    let beta = writer("beta", "scale");
    let refused = apply_scale(&live, &mut applied, &path, true, &beta, false).unwrap_err();
    assert_eq!(refused.message, "Apply failed with 1 conflict: conflict with \"alpha\": .spec.replicas");
    apply_scale(&live, &mut applied, &path, true, &beta, true).unwrap();
    assert_eq!(applied["metadata"]["managedFields"][0]["manager"], "beta");
}

#[test]
fn a_change_of_times_alone_is_none() {
    let old = create("a", json!({"x": "1"}));
    let mut new = old.clone();
    new["metadata"]["managedFields"][0]["time"] = json!("2030-01-01T00:00:00Z");
    assert!(same_but_times(&new, &old));
    new["data"]["x"] = json!("2");
    assert!(!same_but_times(&new, &old));
    let other = create("b", json!({"x": "1"}));
    assert!(!same_but_times(&other, &old));
}
