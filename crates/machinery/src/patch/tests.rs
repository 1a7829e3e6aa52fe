//! Tables of patches of every kind.

use super::*;
use coracle_api::schema;
use serde_json::json;

#[test]
fn json_patches() {
    let object = json!({"data": {"a": "1"}, "list": [1, 2]});
    let rows = [
        (
            json!([{"op": "add", "path": "/data/b", "value": "2"}]),
            json!({"data": {"a": "1", "b": "2"}, "list": [1, 2]}),
        ),
        (
            json!([{"op": "replace", "path": "/data/b", "value": "2"}]),
            json!({"data": {"a": "1", "b": "2"}, "list": [1, 2]}),
        ),
        (json!([{"op": "remove", "path": "/data/a"}]), json!({"data": {}, "list": [1, 2]})),
        (
            json!([{"op": "add", "path": "/list/-", "value": 3}]),
            json!({"data": {"a": "1"}, "list": [1, 2, 3]}),
        ),
        (
            json!([{"op": "copy", "from": "/data/a", "path": "/data/c"}]),
            json!({"data": {"a": "1", "c": "1"}, "list": [1, 2]}),
        ),
        (
            json!([{"op": "test", "path": "/data/a", "value": "1"}, {"op": "move", "from": "/data/a", "path": "/b"}]),
            json!({"data": {}, "list": [1, 2], "b": "1"}),
        ),
    ];
    for (patch, expected) in rows {
        assert_eq!(json(&object, patch.to_string().as_bytes()).unwrap(), expected, "{patch}");
    }
}

#[test]
fn json_patches_that_cannot_be_done_are_refused() {
    let object = json!({"data": {"a": "1"}});
    let rows = [
        ("", 400),
        ("{}", 400),
        (r#"[{"op":"add","path":"/data/two""#, 400),
        (r#"[{"op":"frobnicate","path":"/data/a"}]"#, 422),
        (r#"[{"path":"/data/a"}]"#, 422),
        (r#"[{"op":"remove","path":"/data/b"}]"#, 422),
        (r#"[{"op":"replace","path":"/x/b","value":1}]"#, 422),
        (r#"[{"op":"add","path":"/x/b","value":1}]"#, 422),
        (r#"[{"op":"test","path":"/data/a","value":"2"}]"#, 422),
    ];
    for (patch, code) in rows {
        assert_eq!(json(&object, patch.as_bytes()).unwrap_err().code, code, "{patch}");
    }
    let many = format!("[{}]", vec![r#"{"op":"test","path":"/data/a","value":"1"}"#; 10_001].join(","));
    assert_eq!(json(&object, many.as_bytes()).unwrap_err().code, 413);
}

#[test]
fn copies_of_copies_are_bounded() {
    let object = json!({"a": "x".repeat(1024)});
    let doubling: Vec<Value> =
        (0..64).map(|i| json!({"op": "copy", "from": "", "path": format!("/c{i}")})).collect();
    let result = json(&object, json!(doubling).to_string().as_bytes());
    assert_eq!(result.unwrap_err().code, 413);
}

#[test]
fn merge_patches() {
    let object = json!({"a": {"b": 1, "c": 2}, "l": [1, 2]});
    let out = merge(&object, &json!({"a": {"b": null, "d": 3}, "l": [9], "n": {"x": null, "y": 1}})).unwrap();
    assert_eq!(out, json!({"a": {"c": 2, "d": 3}, "l": [9], "n": {"y": 1}}));
    assert_eq!(merge(&object, &json!([])).unwrap_err().code, 400);
}

fn deployment(containers: Value) -> Value {
    json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 2}},
        "template": {"spec": {"containers": containers, "nodeSelector": {"disk": "ssd"}}}}})
}

fn apply(object: &Value, patch: &Value) -> Result<Value, Status> {
    strategic(object, patch, schema::builtin("io.k8s.api.apps.v1.Deployment").unwrap())
}

fn containers(patch: Value) -> Value {
    let live = deployment(
        json!([{"name": "a", "image": "a:1", "env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "2"}]},
        {"name": "b", "image": "b:1"}, {"name": "c", "image": "c:1"}]),
    );
    let out = apply(&live, &json!({"spec": {"template": {"spec": patch}}})).unwrap();
    out["spec"]["template"]["spec"]["containers"].clone()
}

fn names(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect()
}

#[test]
fn strategic_lists_merge_by_key() {
    let out = containers(
        json!({"containers": [{"name": "b", "image": "b:2"}, {"name": "a", "env": [{"name": "X", "value": "9"}]}]}),
    );
    assert_eq!(names(&out), ["b", "a", "c"]);
    assert_eq!(out[0], json!({"name": "b", "image": "b:2"}));
    assert_eq!(out[1]["env"], json!([{"name": "X", "value": "9"}, {"name": "Y", "value": "2"}]));
}

#[test]
fn strategic_delete_and_replace() {
    let out = containers(
        json!({"containers": [{"name": "c", "$patch": "delete"}, {"name": "a", "env": [{"$patch": "delete", "name": "X"}]}]}),
    );
    assert_eq!(names(&out), ["a", "b"]);
    assert_eq!(out[0]["env"], json!([{"name": "Y", "value": "2"}]));
    let out = containers(json!({"containers": [{"$patch": "replace"}, {"name": "z", "image": "z"}]}));
    assert_eq!(out, json!([{"name": "z", "image": "z"}]));
    let live = deployment(json!([]));
    let out = apply(
        &live,
        &json!({"spec": {"template": {"spec": {"nodeSelector": {"$patch": "replace", "x": "y"}}}}}),
    )
    .unwrap();
    assert_eq!(out["spec"]["template"]["spec"]["nodeSelector"], json!({"x": "y"}));
    let out = apply(&live, &json!({"spec": {"template": {"spec": {"nodeSelector": {"$patch": "delete"}}}}}))
        .unwrap();
    assert_eq!(out["spec"]["template"]["spec"]["nodeSelector"], json!({}));
}

#[test]
fn strategic_order() {
    let rows = [
        (
            json!({"$setElementOrder/containers": [{"name": "c"}, {"name": "new"}, {"name": "a"}, {"name": "b"}],
            "containers": [{"name": "new", "image": "n"}]}),
            vec!["c", "new", "a", "b"],
        ),
        (
            json!({"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}], "containers": [{"name": "a", "image": "a:2"}]}),
            vec!["b", "a", "c"],
        ),
        (
            json!({"$setElementOrder/containers": [{"name": "c"}, {"name": "b"}, {"name": "a"}]}),
            vec!["c", "b", "a"],
        ),
        (json!({"containers": [{"name": "new", "image": "n"}]}), vec!["new", "a", "b", "c"]),
    ];
    for (patch, expected) in rows {
        assert_eq!(names(&containers(patch.clone())), expected, "{patch}");
    }
}

#[test]
fn strategic_retain_keys_and_primitive_lists() {
    let live = deployment(json!([]));
    let out =
        apply(&live, &json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}})).unwrap();
    assert_eq!(out["spec"]["strategy"], json!({"type": "Recreate"}));
    let refused = apply(&live, &json!({"spec": {"strategy": {"$retainKeys": ["x"], "type": "Recreate"}}}));
    assert_eq!(refused.unwrap_err().code, 400);
    let held = json!({"metadata": {"finalizers": ["one", "two", "three"]}});
    let patch = json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["two", "absent"], "finalizers": ["four", "one"]}});
    assert_eq!(apply(&held, &patch).unwrap()["metadata"]["finalizers"], json!(["four", "one", "three"]));
}

#[test]
fn strategic_patches_that_make_no_sense_are_refused() {
    let live = deployment(json!([{"name": "a"}]));
    let rows = [
        (json!(["data"]), 400),
        (json!({"spec": {"$patch": "explode"}}), 400),
        (json!({"spec": {"template": {"spec": {"containers": [{"image": "x"}]}}}}), 422),
        (json!({"spec": {"template": {"spec": {"containers": ["x"]}}}}), 400),
        (json!({"metadata": {"$deleteFromPrimitiveList/finalizers": "x"}}), 400),
    ];
    for (patch, code) in rows {
        assert_eq!(apply(&live, &patch).unwrap_err().code, code, "{patch}");
    }
}

#[test]
fn the_same_strategic_patch_twice_changes_nothing() {
    let live = deployment(json!([{"name": "a", "image": "a:1"}, {"name": "b", "image": "b:1"}]));
    let patch = json!({"spec": {"replicas": 3, "template": {"spec": {"containers": [{"name": "b", "image": "b:2"}, {"name": "n", "image": "n"}]}}}});
    let once = apply(&live, &patch).unwrap();
    assert_eq!(apply(&once, &patch).unwrap(), once);
}
