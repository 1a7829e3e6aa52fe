//! Tables of pods: defaults, errors, changes, classes.

use super::*;
use crate::kinds::{create, validate_create, validate_update};
use coracle_api::{Resource, resource, schema};

fn row() -> &'static Resource {
    resource::find("", "v1", "pods").unwrap()
}

fn made(spec: Value) -> Value {
    let mut pod = json!({"metadata": {"name": "p", "namespace": "d"}, "spec": spec});
    create(&Pod, schema::builtin("io.k8s.api.core.v1.Pod").unwrap(), &mut pod);
    pod
}

fn errors(spec: Value) -> Vec<String> {
    validate_create(&Pod, row(), &made(spec)).iter().map(ToString::to_string).collect()
}

fn paths(spec: Value) -> Vec<String> {
    validate_create(&Pod, row(), &made(spec)).into_iter().map(|e| e.path).collect()
}

#[test]
fn a_minimal_pod_gets_its_defaults() {
    let pod =
        made(json!({"containers": [{"name": "a", "image": "x"}, {"name": "b", "image": "r:5000/x:1"}]}));
    let rows = [
        ("/spec/containers/0/imagePullPolicy", json!("Always")),
        ("/spec/containers/1/imagePullPolicy", json!("IfNotPresent")),
        ("/spec/enableServiceLinks", json!(true)),
        ("/spec/securityContext", json!({})),
        ("/status/phase", json!("Pending")),
        ("/status/qosClass", json!("BestEffort")),
        ("/metadata/generation", json!(1)),
    ];
    for (pointer, expected) in rows {
        assert_eq!(pod.pointer(pointer), Some(&expected), "{pointer}");
    }
    assert!(validate_create(&Pod, row(), &pod).is_empty());
}

#[test]
fn host_network_volumes_and_requests() {
    let pod = made(
        json!({"hostNetwork": true, "volumes": [{"name": "v"}], "containers": [{"name": "a", "image": "x:latest",
        "ports": [{"containerPort": 80}], "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}}}]}),
    );
    assert_eq!(pod["spec"]["containers"][0]["ports"][0]["hostPort"], 80);
    assert_eq!(pod["spec"]["volumes"][0]["emptyDir"], json!({}));
    assert_eq!(
        pod["spec"]["containers"][0]["resources"]["requests"],
        json!({"cpu": "500m", "memory": "1Gi"})
    );
}

#[test]
fn every_error_is_told_with_its_path() {
    assert_eq!(errors(json!({"containers": []})), ["spec.containers: Required value"]);
    assert_eq!(
        errors(json!({"containers": [{}]})),
        ["spec.containers[0].name: Required value", "spec.containers[0].image: Required value"]
    );
    let container = |extra: Value| {
        let mut base = json!({"name": "a", "image": "x:1"});
        base.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        json!({"containers": [base]})
    };
    let rows = [
        (
            container(
                json!({"ports": [{"containerPort": 0}, {"containerPort": 65536}, {"containerPort": 1, "protocol": "HTTP"}]}),
            ),
            vec![
                "spec.containers[0].ports[0].containerPort",
                "spec.containers[0].ports[1].containerPort",
                "spec.containers[0].ports[2].protocol",
            ],
        ),
        (
            container(
                json!({"ports": [{"containerPort": 1, "name": "twin"}, {"containerPort": 2, "name": "twin"}]}),
            ),
            vec!["spec.containers[0].ports[1].name"],
        ),
        (
            container(
                json!({"env": [{"name": "A=B"}, {"name": "C", "value": "x", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}, {"name": "D", "valueFrom": {}}]}),
            ),
            vec![
                "spec.containers[0].env[0].name",
                "spec.containers[0].env[1].valueFrom",
                "spec.containers[0].env[2].valueFrom",
            ],
        ),
        (
            container(json!({"envFrom": [{}, {"configMapRef": {"name": "Bad Name"}}]})),
            vec!["spec.containers[0].envFrom", "spec.containers[0].envFrom[1].configMapRef.name"],
        ),
        (
            container(json!({"volumeMounts": [{"name": "none", "mountPath": "/x"}]})),
            vec!["spec.containers[0].volumeMounts[0].name"],
        ),
        (
            container(json!({"resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "2"}}})),
            vec!["spec.containers[0].resources.requests"],
        ),
        (
            container(json!({"livenessProbe": {"successThreshold": 2, "httpGet": {"port": 0}}})),
            vec![
                "spec.containers[0].livenessProbe.httpGet.port",
                "spec.containers[0].livenessProbe.successThreshold",
            ],
        ),
        (container(json!({"readinessProbe": {}})), vec!["spec.containers[0].readinessProbe"]),
        (
            json!({"restartPolicy": "Sometimes", "containers": [{"name": "A_", "image": "x"}], "nodeSelector": {"bad key": "v"}}),
            vec!["spec.containers[0].name", "spec.restartPolicy", "spec.nodeSelector"],
        ),
        (
            json!({"containers": [{"name": "a", "image": "x"}, {"name": "a", "image": "x"}], "volumes": [{"name": "v", "emptyDir": {}, "secret": {"secretName": "s"}}]}),
            vec!["spec.volumes[0].secret", "spec.containers[1].name"],
        ),
        (
            json!({"containers": [{"name": "a", "image": "x"}], "tolerations": [{"key": "a", "operator": "Exists", "value": "v"}]}),
            vec!["spec.tolerations[0].operator"],
        ),
        (
            json!({"containers": [{"name": "a", "image": "x"}], "initContainers": [{"name": "i", "image": "x", "readinessProbe": {"exec": {"command": ["x"]}}}]}),
            vec!["spec.initContainers[0].readinessProbe"],
        ),
    ];
    for (spec, expected) in rows {
        assert_eq!(paths(spec.clone()), expected, "{spec}");
    }
}

#[test]
fn only_few_fields_may_change() {
    let old = made(
        json!({"containers": [{"name": "a", "image": "x:1"}], "activeDeadlineSeconds": 10, "tolerations": [{"key": "a", "operator": "Exists"}]}),
    );
    let change = |pointer: &str, value: Value| {
        let mut new = old.clone();
        *new.pointer_mut(pointer).unwrap() = value;
        validate_update(&Pod, row(), &new, &old).into_iter().map(|e| e.path).collect::<Vec<_>>()
    };
    assert!(change("/spec/containers/0/image", json!("x:2")).is_empty());
    assert!(change("/spec/activeDeadlineSeconds", json!(5)).is_empty());
    assert_eq!(change("/spec/activeDeadlineSeconds", json!(50)), ["spec.activeDeadlineSeconds"]);
    assert_eq!(change("/spec/restartPolicy", json!("Never")), ["spec"]);
    assert_eq!(change("/spec/tolerations", json!([])), ["spec.tolerations"]);
    assert_eq!(change("/metadata/name", json!("q")), ["metadata.name"]);
    assert!(
        change(
            "/spec/tolerations",
            json!([{"key": "a", "operator": "Exists"}, {"key": "b", "operator": "Exists"}])
        )
        .is_empty()
    );
}

#[test]
fn quality_of_service() {
    let rows = [
        (json!({}), "BestEffort"),
        (
            json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1", "memory": "1Gi"}}),
            "Guaranteed",
        ),
        (json!({"limits": {"cpu": "1"}, "requests": {"cpu": "1"}}), "Burstable"),
        (json!({"requests": {"memory": "1Mi"}}), "Burstable"),
        (json!({"requests": {"cpu": "0"}}), "BestEffort"),
    ];
    for (resources, class) in rows {
        assert_eq!(
            qos_class(&json!({"containers": [{"resources": resources.clone()}]})),
            class,
            "{resources}"
        );
    }
}

#[test]
fn fields_for_selectors() {
    let pod = json!({"spec": {"nodeName": "n", "hostNetwork": true}, "status": {"phase": "Running"}});
    let fields = Pod.selectable_fields(&pod);
    assert!(
        fields.contains(&("spec.nodeName", "n".to_owned()))
            && fields.contains(&("spec.hostNetwork", "true".to_owned()))
    );
    assert_eq!(fields.len(), Pod.field_names().len());
}
