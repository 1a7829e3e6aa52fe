//! Tables across kinds: what is made of a minimal object, what is refused, what may not change.

use super::*;
use coracle_api::{Resource, meta, resource, schema};
use serde_json::json;

fn row(group: &str, kind: &str) -> &'static Resource {
    resource::builtin().iter().find(|r| r.group == group && r.kind == kind).unwrap()
}

fn made(group: &str, kind: &str, mut object: Value) -> Value {
    let row = row(group, kind);
    meta::set_type(&mut object, &row.api_version(), kind);
    if meta::name(&object).is_empty() {
        meta::set(&mut object, "name", "x");
    }
    if row.is_namespaced() {
        meta::set(&mut object, "namespace", "d");
    }
    create(rules(group, kind), schema::builtin(&row.schema).unwrap(), &mut object);
    meta::set(&mut object, "uid", "u-1");
    rules(group, kind).identify(&mut object);
    object
}

fn paths(group: &str, kind: &str, object: Value) -> Vec<String> {
    let object = made(group, kind, object);
    validate_create(rules(group, kind), row(group, kind), &object).into_iter().map(|e| e.path).collect()
}

fn changed(group: &str, kind: &str, object: Value, pointer: &str, value: Value) -> Vec<String> {
    let old = made(group, kind, object);
    let mut new = old.clone();
    *new.pointer_mut(pointer).unwrap() = value;
    validate_update(rules(group, kind), row(group, kind), &new, &old).into_iter().map(|e| e.path).collect()
}

fn template() -> Value {
    json!({"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "a", "image": "x:1"}]}})
}

fn workload() -> Value {
    json!({"spec": {"selector": {"matchLabels": {"app": "x"}}, "template": template()}})
}

fn job() -> Value {
    let mut template = template();
    template["spec"]["restartPolicy"] = json!("Never");
    json!({"spec": {"template": template}})
}

#[test]
fn minimal_objects_are_whole() {
    let rows = [
        (
            "apps",
            "Deployment",
            workload(),
            "/spec/strategy",
            json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}}),
        ),
        (
            "apps",
            "Deployment",
            workload(),
            "/spec/template/spec/containers/0/imagePullPolicy",
            json!("IfNotPresent"),
        ),
        (
            "apps",
            "DaemonSet",
            workload(),
            "/metadata/annotations/deprecated.daemonset.template.generation",
            json!("1"),
        ),
        (
            "apps",
            "DaemonSet",
            workload(),
            "/spec/updateStrategy/rollingUpdate",
            json!({"maxUnavailable": 1, "maxSurge": 0}),
        ),
        (
            "apps",
            "StatefulSet",
            workload(),
            "/spec/updateStrategy",
            json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}),
        ),
        (
            "apps",
            "StatefulSet",
            workload(),
            "/spec/persistentVolumeClaimRetentionPolicy",
            json!({"whenDeleted": "Retain", "whenScaled": "Retain"}),
        ),
        ("batch", "Job", job(), "/spec/completions", json!(1)),
        (
            "batch",
            "Job",
            job(),
            "/spec/selector",
            json!({"matchLabels": {"batch.kubernetes.io/controller-uid": "u-1"}}),
        ),
        ("batch", "Job", job(), "/spec/template/metadata/labels/job-name", json!("x")),
        (
            "",
            "Service",
            json!({"spec": {"ports": [{"port": 80}]}}),
            "/spec/ports/0",
            json!({"port": 80, "protocol": "TCP", "targetPort": 80}),
        ),
        (
            "",
            "Service",
            json!({"spec": {"sessionAffinity": "ClientIP", "ports": [{"port": 80}]}}),
            "/spec/sessionAffinityConfig",
            json!({"clientIP": {"timeoutSeconds": 10800}}),
        ),
        (
            "",
            "Secret",
            json!({"data": {"a": "b2xk"}, "stringData": {"a": "new", "c": "x"}}),
            "/data",
            json!({"a": "bmV3", "c": "eA=="}),
        ),
        (
            "",
            "Namespace",
            json!({"metadata": {"name": "x", "labels": {"kubernetes.io/metadata.name": "lie"}}}),
            "/metadata/labels",
            json!({"kubernetes.io/metadata.name": "x"}),
        ),
        ("", "Namespace", json!({}), "/spec", json!({"finalizers": ["kubernetes"]})),
        (
            "networking.k8s.io",
            "NetworkPolicy",
            json!({}),
            "/spec",
            json!({"podSelector": {}, "policyTypes": ["Ingress"]}),
        ),
        (
            "rbac.authorization.k8s.io",
            "RoleBinding",
            json!({"roleRef": {"kind": "Role", "name": "r"}}),
            "/roleRef/apiGroup",
            json!("rbac.authorization.k8s.io"),
        ),
        ("storage.k8s.io", "StorageClass", json!({"provisioner": "a/b"}), "/reclaimPolicy", json!("Delete")),
        (
            "",
            "PersistentVolumeClaim",
            json!({}),
            "/metadata/finalizers",
            json!(["kubernetes.io/pvc-protection"]),
        ),
        (
            "",
            "ReplicationController",
            json!({"spec": {"template": template()}}),
            "/spec/selector",
            json!({"app": "x"}),
        ),
    ];
    for (group, kind, object, pointer, expected) in rows {
        assert_eq!(made(group, kind, object).pointer(pointer), Some(&expected), "{kind} {pointer}");
    }
}

#[test]
fn what_is_wrong_is_told() {
    let spec = |spec: Value| json!({ "spec": spec });
    let rows: Vec<(&str, &str, Value, Vec<&str>)> = vec![
        ("", "ConfigMap", json!({"data": {"a/b": "x"}}), vec!["data[a/b]"]),
        ("", "ConfigMap", json!({"data": {"same": "x"}, "binaryData": {"same": "AA=="}}), vec!["data[same]"]),
        ("", "ConfigMap", json!({"metadata": {"name": "A"}}), vec!["metadata.name"]),
        (
            "",
            "ConfigMap",
            json!({"metadata": {"name": "a", "labels": {"bad key": "x", "k": "-"}}}),
            vec!["metadata.labels", "metadata.labels"],
        ),
        (
            "",
            "Secret",
            json!({"type": "kubernetes.io/tls", "stringData": {"tls.crt": "x"}}),
            vec!["data[tls.key]"],
        ),
        ("", "Namespace", json!({"metadata": {"name": "has.dots"}}), vec!["metadata.name"]),
        ("", "Service", spec(json!({})), vec!["spec.ports"]),
        (
            "",
            "Service",
            spec(json!({"ports": [{"port": 0}, {"port": 70000, "name": "A"}]})),
            vec![
                "spec.ports[0].name",
                "spec.ports[0].port",
                "spec.ports[0].targetPort",
                "spec.ports[1].name",
                "spec.ports[1].port",
                "spec.ports[1].targetPort",
            ],
        ),
        ("", "Service", spec(json!({"type": "ExternalName"})), vec!["spec.externalName"]),
        (
            "",
            "Service",
            spec(json!({"sessionAffinity": "Cookie", "ports": [{"port": 80, "nodePort": 30000}]})),
            vec!["spec.sessionAffinity", "spec.ports[0].nodePort"],
        ),
        ("apps", "Deployment", spec(json!({"template": template()})), vec!["spec.selector"]),
        (
            "apps",
            "Deployment",
            spec(json!({"selector": {"matchLabels": {"app": "y"}}, "template": template()})),
            vec!["spec.template.metadata.labels"],
        ),
        (
            "apps",
            "Deployment",
            spec(
                json!({"replicas": -1, "selector": {"matchLabels": {"app": "x"}}, "template": template(), "strategy": {"type": "Recreate", "rollingUpdate": {}}}),
            ),
            vec!["spec.replicas", "spec.strategy.rollingUpdate"],
        ),
        ("batch", "Job", spec(json!({"template": template()})), vec!["spec.template.spec.restartPolicy"]),
        (
            "batch",
            "CronJob",
            spec(json!({"schedule": "61 * * * *", "timeZone": "Local", "jobTemplate": job()})),
            vec!["spec.schedule", "spec.timeZone"],
        ),
        ("", "PersistentVolumeClaim", json!({}), vec!["spec.accessModes", "spec.resources[storage]"]),
        ("storage.k8s.io", "StorageClass", json!({}), vec!["provisioner"]),
        (
            "rbac.authorization.k8s.io",
            "Role",
            json!({"rules": [{"apiGroups": [""], "resources": ["pods"]}, {"verbs": ["get"]}]}),
            vec!["rules[0].verbs", "rules[1].apiGroups", "rules[1].resources"],
        ),
        (
            "rbac.authorization.k8s.io",
            "ClusterRoleBinding",
            json!({"roleRef": {"kind": "Role", "name": "r"}, "subjects": [{"kind": "ServiceAccount", "name": "sa"}]}),
            vec!["roleRef.kind", "subjects[0].namespace"],
        ),
        ("node.k8s.io", "RuntimeClass", json!({"handler": "Not_A.Label"}), vec!["handler"]),
        ("scheduling.k8s.io", "PriorityClass", json!({"value": 1_000_000_001}), vec!["value"]),
        (
            "policy",
            "PodDisruptionBudget",
            spec(json!({"minAvailable": 1, "maxUnavailable": "120%"})),
            vec!["spec", "spec.maxUnavailable"],
        ),
        (
            "networking.k8s.io",
            "Ingress",
            spec(
                json!({"rules": [{"http": {"paths": [{"path": "a", "pathType": "Prefix", "backend": {}}]}}]}),
            ),
            vec!["spec.rules[0].http.paths[0].path", "spec.rules[0].http.paths[0].backend"],
        ),
        (
            "discovery.k8s.io",
            "EndpointSlice",
            json!({"addressType": "IPv4", "endpoints": [{"addresses": ["x"]}, {"addresses": ["127.0.0.1"]}]}),
            vec!["endpoints[0].addresses[0]", "endpoints[1].addresses[0]"],
        ),
        (
            "",
            "Event",
            json!({"involvedObject": {"namespace": "elsewhere"}}),
            vec!["involvedObject.namespace"],
        ),
    ];
    for (group, kind, object, expected) in rows {
        assert_eq!(paths(group, kind, object.clone()), expected, "{kind} {object}");
    }
}

#[test]
fn what_may_not_change_is_told() {
    let rows = [
        (
            "apps",
            "Deployment",
            workload(),
            "/spec/selector/matchLabels",
            json!({"app": "z"}),
            "spec.selector",
        ),
        ("batch", "Job", job(), "/spec/completions", json!(4), "spec.completions"),
        ("", "ConfigMap", json!({"data": {"a": "1"}, "immutable": true}), "/data/a", json!("2"), "data"),
        (
            "",
            "ConfigMap",
            json!({"data": {"a": "1"}, "immutable": true}),
            "/immutable",
            json!(false),
            "immutable",
        ),
        ("", "Secret", json!({"type": "example.com/a"}), "/type", json!("Opaque"), "type"),
        (
            "rbac.authorization.k8s.io",
            "RoleBinding",
            json!({"roleRef": {"kind": "Role", "name": "r"}}),
            "/roleRef/name",
            json!("s"),
            "roleRef",
        ),
        (
            "storage.k8s.io",
            "StorageClass",
            json!({"provisioner": "a/b"}),
            "/provisioner",
            json!("a/c"),
            "provisioner",
        ),
        ("node.k8s.io", "RuntimeClass", json!({"handler": "oak"}), "/handler", json!("pine"), "handler"),
        (
            "",
            "Service",
            json!({"spec": {"clusterIP": "10.0.0.5", "ports": [{"port": 80}]}}),
            "/spec/clusterIP",
            json!("10.0.0.6"),
            "spec.clusterIPs[0]",
        ),
        ("apps", "StatefulSet", workload(), "/spec/podManagementPolicy", json!("Parallel"), "spec"),
    ];
    for (group, kind, object, pointer, value, expected) in rows {
        assert!(
            changed(group, kind, object, pointer, value).contains(&expected.to_owned()),
            "{kind} {pointer}"
        );
    }
}

#[test]
fn generations_count_changes_of_the_spec_only() {
    let rules = rules("apps", "Deployment");
    let schema = schema::builtin("io.k8s.api.apps.v1.Deployment").unwrap();
    let old = made("apps", "Deployment", workload());
    let write = |pointer: &str, value: Value| {
        let mut new = old.clone();
        *new.pointer_mut(pointer).unwrap() = value;
        update(rules, schema, &mut new, &old);
        (meta::generation(&new), new)
    };
    assert_eq!(write("/spec/replicas", json!(5)).0, 2);
    assert_eq!(write("/metadata/name", json!("y")).0, 1);
    assert_eq!(write("/metadata/generation", json!(9)).0, 1);
    let (generation, new) = write("/status", json!({"replicas": 7}));
    assert_eq!((generation, &new["status"]), (1, &old["status"]));
    let mut new = old.clone();
    new["status"] = json!({"replicas": 7});
    new["spec"]["replicas"] = json!(9);
    update_status(rules, schema, &mut new, &old);
    assert_eq!((&new["status"]["replicas"], &new["spec"]["replicas"]), (&json!(7), &json!(1)));
}

#[test]
fn making_an_object_twice_changes_nothing() {
    for (group, kind, object) in [
        ("apps", "Deployment", workload()),
        ("batch", "Job", job()),
        ("", "Service", json!({"spec": {"ports": [{"port": 1}]}})),
    ] {
        let once = made(group, kind, object);
        let mut twice = once.clone();
        rules(group, kind).default(&mut twice);
        assert_eq!(once, twice, "{kind}");
    }
}

#[test]
fn names_are_checked_by_the_rule_of_the_kind() {
    assert!(rules("rbac.authorization.k8s.io", "ClusterRole").name_errors("system:node").is_empty());
    assert!(!rules("", "Service").name_errors("1a").is_empty());
    assert!(!rules("", "Pod").name_errors("a_b").is_empty());
    assert!(!rules("batch", "CronJob").name_errors(&"a".repeat(53)).is_empty());
}

#[test]
fn deleting_objects_gain_no_finalizers() {
    let mut old = made("", "ConfigMap", json!({}));
    meta::set(&mut old, "deletionTimestamp", "2024-01-01T00:00:00Z");
    meta::set(&mut old, "finalizers", json!(["a/b"]));
    let mut new = old.clone();
    meta::set(&mut new, "finalizers", json!(["a/b", "c/d"]));
    let errors = validate_update(rules("", "ConfigMap"), row("", "ConfigMap"), &new, &old);
    assert_eq!(errors[0].path, "metadata.finalizers");
}
