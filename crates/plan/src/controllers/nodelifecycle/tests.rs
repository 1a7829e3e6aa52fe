//! Tables of node decisions.

use k8s_openapi::api::core::v1::{NodeSpec, NodeStatus, Toleration};

use super::*;
use crate::controllers::testing::{MakePod, at, meta};

fn node(ready: &str, taints: &[(&str, &str)]) -> Node {
    let condition = NodeCondition { type_: "Ready".into(), status: ready.into(), ..NodeCondition::default() };
    let taints: Vec<Taint> = taints
        .iter()
        .map(|(key, effect)| Taint {
            key: (*key).into(),
            effect: (*effect).into(),
            time_added: Some(Time(at(100))),
            value: None,
        })
        .collect();
    Node {
        metadata: meta("n"),
        spec: Some(NodeSpec { taints: Some(taints), ..NodeSpec::default() }),
        status: Some(NodeStatus { conditions: Some(vec![condition]), ..NodeStatus::default() }),
    }
}

fn snapshot(node: Node, heard_at: i64, pods: Vec<Arc<Pod>>) -> Snapshot {
    Snapshot { node: Arc::new(node), heard_at: at(heard_at), tainted_at: at(100), pods }
}

fn writes(plan: &Plan) -> Vec<String> {
    plan.writes().map(|write| format!("{} {}", write.verb(), write.name())).collect()
}

fn tolerating(name: &str, seconds: Option<i64>) -> Arc<Pod> {
    let toleration = Toleration {
        key: Some(UNREACHABLE.into()),
        operator: Some("Exists".into()),
        effect: Some(NO_EXECUTE.into()),
        toleration_seconds: seconds,
        value: None,
    };
    let pod = MakePod::new(name).node("n").phase("Running");
    pod.with(|pod| pod.spec.as_mut().unwrap().tolerations = Some(vec![toleration])).build()
}

#[test]
fn a_heard_node_is_looked_at_when_its_grace_ends() {
    let plan = plan(&snapshot(node("True", &[]), 90, vec![]), at(100));
    assert!(plan.actions.is_empty());
    assert_eq!(plan.requeue_at, Some(at(130)));
}

#[test]
fn a_silent_node_becomes_unknown_then_tainted_then_empty() {
    let first = plan(&snapshot(node("True", &[]), 50, vec![]), at(100));
    assert_eq!(writes(&first), ["update-status n"]);
    let Some(Write::Update { object, .. }) = first.writes().next() else { panic!() };
    let conditions = object["status"]["conditions"].as_array().unwrap();
    assert!(conditions.iter().all(|condition| condition["status"] == "Unknown"));
    assert_eq!(conditions.len(), 4);

    let silent: Node = serde_json::from_value(object.clone()).unwrap();
    let pod = MakePod::new("p").node("n").ready(1).build();
    let second = plan(&snapshot(silent.clone(), 50, vec![pod]), at(100));
    assert_eq!(writes(&second), ["patch p", "patch n"]);

    let mut tainted = silent;
    tainted.spec = node("", &[(UNREACHABLE, NO_SCHEDULE), (UNREACHABLE, NO_EXECUTE)]).spec;
    let pods = vec![
        MakePod::new("leaves").node("n").phase("Running").build(),
        tolerating("later", Some(300)),
        tolerating("stays", None),
    ];
    let third = plan(&snapshot(tainted.clone(), 50, pods.clone()), at(101));
    assert_eq!(writes(&third), ["patch leaves", "delete leaves"]);
    assert_eq!(third.requeue_at, Some(at(400)));
    let fourth = plan(&snapshot(tainted, 50, pods[1..].to_vec()), at(400));
    assert_eq!(writes(&fourth), ["patch later", "delete later"]);
}

#[test]
fn a_node_that_is_back_loses_the_taints_and_keeps_the_users() {
    let back = node("True", &[(UNREACHABLE, NO_EXECUTE), ("mine", NO_SCHEDULE)]);
    let plan = plan(&snapshot(back, 99, vec![]), at(100));
    let Some(Write::Patch { patch: Patch::Merge(patch), .. }) = plan.writes().next() else {
        panic!("{plan:?}")
    };
    let taints = patch["spec"]["taints"].as_array().unwrap();
    assert_eq!(taints.len(), 1);
    assert_eq!(taints[0]["key"], "mine");
}

#[test]
fn cordoning_and_pressure_become_taints() {
    let mut cordoned = node("True", &[]);
    cordoned.spec.as_mut().unwrap().unschedulable = Some(true);
    cordoned.status.as_mut().unwrap().conditions.as_mut().unwrap().push(NodeCondition {
        type_: "MemoryPressure".into(),
        status: "True".into(),
        ..NodeCondition::default()
    });
    let plan = plan(&snapshot(cordoned, 99, vec![]), at(100));
    let Some(Write::Patch { patch: Patch::Merge(patch), .. }) = plan.writes().next() else {
        panic!("{plan:?}")
    };
    let keys: Vec<&str> = patch["spec"]["taints"]
        .as_array()
        .unwrap()
        .iter()
        .map(|taint| taint["key"].as_str().unwrap())
        .collect();
    assert_eq!(keys, ["node.kubernetes.io/memory-pressure", UNSCHEDULABLE]);
}
