//! Tables of ReplicaSet decisions.

use std::sync::Arc;

use super::*;
use crate::controllers::action::Part;
use crate::controllers::testing::{MakePod, at, replica_set};

fn snapshot(set: ReplicaSet, pods: Vec<Arc<Pod>>) -> Snapshot {
    Snapshot { replica_set: Arc::new(set), pods, ..Snapshot::default() }
}

/// The writes in short: verb and name.
fn writes(plan: &Plan) -> Vec<String> {
    plan.writes().map(|write| format!("{} {}", write.verb(), write.name())).collect()
}

#[test]
fn the_missing_are_created_in_one_batch() {
    let plan = plan(&snapshot(replica_set("web", 3), vec![]), at(10));
    assert_eq!(writes(&plan), ["create web-", "create web-", "create web-"]);
    assert!(matches!(&plan.actions[..], [Action::Batch(batch)] if batch.len() == 3));
    let Some(Write::Create { object, .. }) = plan.writes().next() else { panic!("no creation") };
    assert_eq!(object["metadata"]["ownerReferences"][0]["uid"], "uid-web");
    assert_eq!(object["metadata"]["labels"]["app"], "web");
    assert_eq!(object["spec"]["containers"][0]["image"], "v1");
}

#[test]
fn a_burst_is_bounded() {
    let plan = plan(&snapshot(replica_set("web", 2000), vec![]), at(10));
    assert_eq!(plan.writes().count(), BURST_PODS_MAX);
}

#[test]
fn the_cheapest_pods_go_first() {
    let set = replica_set("web", 1);
    let pod = |name: &str| MakePod::new(name).owned_by(&set);
    let pods = vec![
        pod("ready").node("n").ready(5).build(),
        pod("unready").node("n").phase("Running").build(),
        pod("pending").node("n").build(),
        pod("unassigned").build(),
        pod("cheap")
            .node("n")
            .ready(5)
            .annotation("controller.kubernetes.io/pod-deletion-cost", "-1")
            .build(),
    ];
    let plan = plan(&snapshot(set.clone(), pods), at(10));
    assert_eq!(writes(&plan), ["delete unassigned", "delete pending", "delete unready", "delete cheap"]);
}

#[test]
fn orphans_are_adopted_and_strangers_released() {
    let set = replica_set("web", 2);
    let other = replica_set("other", 1);
    let pods = vec![
        MakePod::new("orphan").build(),
        MakePod::new("relabelled").owned_by(&set).label("app", "db").build(),
        MakePod::new("foreign").owned_by(&other).build(),
        MakePod::new("ended").phase("Failed").build(),
        MakePod::new("own").owned_by(&set).build(),
    ];
    let plan = plan(&snapshot(set, pods), at(10));
    assert_eq!(writes(&plan), ["patch orphan", "patch relabelled", "update-status web"]);
}

#[test]
fn a_set_that_is_being_deleted_only_reports() {
    let mut set = replica_set("web", 3);
    set.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(1)));
    let pods = vec![MakePod::new("orphan").build(), MakePod::new("own").owned_by(&set).build()];
    assert_eq!(writes(&plan(&snapshot(set, pods), at(10))), ["update-status web"]);
}

#[test]
fn the_status_counts_pods_and_waits_for_availability() {
    let mut set = replica_set("web", 3);
    if let Some(spec) = set.spec.as_mut() {
        spec.min_ready_seconds = Some(30);
    }
    let pod = |name: &str| MakePod::new(name).owned_by(&set);
    let pods = vec![
        pod("a").ready(0).build(),
        pod("b").ready(20).build(),
        pod("c").build(),
        pod("gone").deleting().build(),
        pod("ended").phase("Succeeded").build(),
    ];
    let plan = plan(&snapshot(set.clone(), pods.clone()), at(40));
    assert_eq!(plan.requeue_at, Some(at(50)));
    let Some(Write::Update { part: Part::Status, object, .. }) = plan.writes().next() else {
        panic!("no status: {plan:?}")
    };
    let status = &object["status"];
    assert_eq!(status["replicas"], 3);
    assert_eq!(status["readyReplicas"], 2);
    assert_eq!(status["availableReplicas"], 1);
    assert_eq!(status["terminatingReplicas"], 1);
    set.status = serde_json::from_value(status.clone()).unwrap();
    assert!(super::plan(&snapshot(set, pods), at(40)).actions.is_empty());
}

#[test]
fn a_failure_is_told_before_it_is_repeated() {
    let mut facts = snapshot(replica_set("web", 1), vec![]);
    facts.failure = Some(ManageFailure { creating: true, message: "exceeded quota".into() });
    let plan = plan(&facts, at(10));
    assert_eq!(writes(&plan), ["update-status web", "create web-"]);
    let Some(Write::Update { object, .. }) = plan.writes().next() else { panic!("no status") };
    assert_eq!(object["status"]["conditions"][0]["reason"], "FailedCreate");
}
