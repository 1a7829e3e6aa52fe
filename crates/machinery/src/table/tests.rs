//! Cells of kinds as kubectl prints them.

use super::*;
use coracle_api::resource;

fn now() -> Timestamp {
    coracle_api::time::parse("2024-01-01T00:10:00Z").unwrap()
}

fn row(group: &str, version: &str, plural: &str, object: Value) -> Value {
    let resource = resource::find(group, version, plural).unwrap();
    let table = render(resource, &[object], now(), Include::None);
    let (columns, cells) = (&table["columnDefinitions"], table["rows"][0]["cells"].clone());
    assert_eq!(columns.as_array().unwrap().len(), cells.as_array().unwrap().len(), "{plural}");
    cells
}

fn meta(name: &str) -> Value {
    json!({"name": name, "namespace": "d", "creationTimestamp": "2024-01-01T00:00:00Z"})
}

#[test]
fn every_kind_has_as_many_cells_as_columns() {
    for resource in resource::builtin().iter().filter(|r| r.has_verb("list")) {
        let object = json!({"kind": resource.kind, "metadata": meta("x")});
        row(&resource.group, &resource.version, &resource.plural, object);
    }
}

#[test]
fn pods() {
    let pod = |spec: Value, status: Value| {
        row("", "v1", "pods", json!({"metadata": meta("p"), "spec": spec, "status": status}))
    };
    let two =
        json!({"containers": [{"name": "a"}, {"name": "b"}], "readinessGates": [{"conditionType": "x/y"}]});
    assert_eq!(
        pod(two, json!({"phase": "Pending"})),
        json!(["p", "0/2", "Pending", "0", "10m", "<none>", "<none>", "<none>", "0/1"])
    );
    let one = json!({"containers": [{"name": "a"}], "nodeName": "n"});
    let rows = [
        (
            json!({"phase": "Running", "podIPs": [{"ip": "10.0.0.1"}], "containerStatuses": [{"ready": true, "restartCount": 0, "state": {"running": {}}}]}),
            json!(["p", "1/1", "Running", "0", "10m", "10.0.0.1", "n", "<none>", "<none>"]),
        ),
        (
            json!({"phase": "Running", "containerStatuses": [{"restartCount": 2, "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                "lastState": {"terminated": {"finishedAt": "2024-01-01T00:09:55Z"}}}]}),
            json!(["p", "0/1", "CrashLoopBackOff", "2 (5s ago)", "10m", "<none>", "n", "<none>", "<none>"]),
        ),
        (
            json!({"phase": "Failed", "containerStatuses": [{"restartCount": 0, "state": {"terminated": {"exitCode": 3}}}]}),
            json!(["p", "0/1", "ExitCode:3", "0", "10m", "<none>", "n", "<none>", "<none>"]),
        ),
    ];
    for (status, expected) in rows {
        assert_eq!(pod(one.clone(), status), expected);
    }
    let init = json!({"initContainers": [{"name": "i"}, {"name": "j"}], "containers": [{"name": "a"}]});
    let status = json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": {"terminated": {"exitCode": 0}}}, {"name": "j", "state": {"running": {}}}]});
    assert_eq!(pod(init, status)[2], "Init:1/2");
}

#[test]
fn a_deleted_pod_is_terminating() {
    let mut metadata = meta("p");
    metadata["deletionTimestamp"] = json!("2024-01-01T00:00:00Z");
    let cells = row("", "v1", "pods", json!({"metadata": metadata, "status": {"phase": "Running"}}));
    assert_eq!(cells[2], "Terminating");
}

#[test]
fn workloads() {
    let template =
        json!({"spec": {"containers": [{"name": "c1", "image": "a:1"}, {"name": "c2", "image": "b:2"}]}});
    let spec = json!({"replicas": 3, "selector": {"matchLabels": {"app": "x"}}, "template": template});
    let status = json!({"replicas": 3, "readyReplicas": 2, "updatedReplicas": 3, "availableReplicas": 1});
    let object = json!({"metadata": meta("d"), "spec": spec, "status": status});
    assert_eq!(
        row("apps", "v1", "deployments", object.clone()),
        json!(["d", "2/3", 3, 1, "10m", "c1,c2", "a:1,b:2", "app=x"])
    );
    assert_eq!(
        row("apps", "v1", "replicasets", object.clone()),
        json!(["d", 3, 3, 2, "10m", "c1,c2", "a:1,b:2", "app=x"])
    );
    assert_eq!(row("apps", "v1", "statefulsets", object), json!(["d", "2/3", "10m", "c1,c2", "a:1,b:2"]));
    let job = json!({"metadata": meta("j"), "spec": {"completions": 2, "selector": {"matchLabels": {"u": "1"}}, "template": {}},
        "status": {"succeeded": 1, "startTime": "2024-01-01T00:09:00Z"}});
    assert_eq!(row("batch", "v1", "jobs", job), json!(["j", "Running", "1/2", "60s", "10m", "", "", "u=1"]));
}

#[test]
fn network_kinds() {
    let service = |spec: Value| row("", "v1", "services", json!({"metadata": meta("s"), "spec": spec}));
    assert_eq!(
        service(json!({"type": "ExternalName", "externalName": "db.example.com"})),
        json!(["s", "ExternalName", "<none>", "db.example.com", "<none>", "10m", "<none>"])
    );
    let spec = json!({"type": "NodePort", "clusterIP": "10.0.0.5", "selector": {"a": "b", "c": "d"},
        "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}]});
    assert_eq!(
        service(spec),
        json!(["s", "NodePort", "10.0.0.5", "<none>", "80:30080/TCP,53/UDP", "10m", "a=b,c=d"])
    );
    let policy = json!({"metadata": meta("deny"), "spec": {"podSelector": {"matchLabels": {"role": "db"}, "matchExpressions": [{"key": "tier", "operator": "Exists"}]}}});
    assert_eq!(
        row("networking.k8s.io", "v1", "networkpolicies", policy),
        json!(["deny", "role=db,tier", "10m"])
    );
}

#[test]
fn nodes_and_events() {
    let node = json!({"metadata": {"name": "n", "labels": {"node-role.kubernetes.io/worker": "", "node-role.kubernetes.io/edge": ""}}, "spec": {"unschedulable": true}});
    assert_eq!(
        row("", "v1", "nodes", node),
        json!([
            "n",
            "Unknown,SchedulingDisabled",
            "edge,worker",
            "<unknown>",
            "",
            "<none>",
            "<none>",
            "<unknown>",
            "<unknown>",
            "<unknown>"
        ])
    );
    let event = json!({"metadata": {"name": "e"}, "involvedObject": {"kind": "Pod", "name": "p"}, "reason": "Pulled", "message": "it\n",
        "type": "Normal", "source": {"component": "recorder"}, "firstTimestamp": "2024-01-01T00:00:00Z", "lastTimestamp": "2024-01-01T00:09:00Z", "count": 4});
    assert_eq!(
        row("", "v1", "events", event),
        json!(["60s", "Normal", "Pulled", "pod/p", "", "recorder", "it", "10m", 4, "e"])
    );
}

#[test]
fn rows_carry_what_was_asked_for() {
    let secret = json!({"kind": "Secret", "metadata": meta("s"), "type": "Opaque", "data": {"k": "v"}});
    let resource = resource::find("", "v1", "secrets").unwrap();
    let shown = |include| {
        render(resource, std::slice::from_ref(&secret), now(), include)["rows"][0]["object"].clone()
    };
    assert_eq!(shown(Include::None), Value::Null);
    assert_eq!(shown(Include::Metadata)["kind"], "PartialObjectMetadata");
    assert_eq!(shown(Include::Object), secret);
}
