//! Scenarios of ownership.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

use super::*;
use crate::controllers::action::Kind;
use crate::controllers::testing::{at, meta};

fn kind() -> Arc<Kind> {
    Arc::new(Kind::of::<Pod>())
}

fn owned(name: &str, owners: &[(&str, bool)]) -> ObjectMeta {
    let owners = owners.iter().map(|(owner, block)| OwnerReference {
        api_version: "v1".into(),
        kind: "Pod".into(),
        name: (*owner).into(),
        uid: format!("uid-{owner}"),
        controller: None,
        block_owner_deletion: Some(*block),
    });
    ObjectMeta { owner_references: Some(owners.collect()), ..meta(name) }
}

fn deleting(meta: ObjectMeta, finalizer: &str) -> ObjectMeta {
    ObjectMeta { deletion_timestamp: Some(Time(at(1))), finalizers: Some(vec![finalizer.into()]), ..meta }
}

fn writes(decision: &Decision) -> Vec<String> {
    let writes = decision.plan.writes();
    writes.map(|write| format!("{} {}", write.verb(), write.name())).collect()
}

fn gone(uids: &[&str]) -> HashSet<String> {
    uids.iter().map(|uid| (*uid).to_owned()).collect()
}

#[test]
fn dependents_follow_their_last_owner() {
    let mut graph = Graph::default();
    assert!(graph.observe(&kind(), &meta("a")).is_empty());
    assert!(graph.observe(&kind(), &meta("b")).is_empty());
    assert!(graph.observe(&kind(), &owned("child", &[("a", false), ("b", false)])).is_empty());
    assert_eq!(graph.forget("uid-a"), ["uid-child"]);
    let first = plan(&graph, "uid-child", &gone(&["uid-a"]));
    assert_eq!(writes(&first), ["patch child"]);
    graph.observe(&kind(), &owned("child", &[("b", false)]));
    assert_eq!(graph.forget("uid-b"), ["uid-child"]);
    let second = plan(&graph, "uid-child", &gone(&["uid-a", "uid-b"]));
    assert_eq!(writes(&second), ["delete child"]);
}

#[test]
fn an_unknown_owner_is_asked_for_before_anything_is_deleted() {
    let mut graph = Graph::default();
    assert_eq!(graph.observe(&kind(), &owned("child", &[("late", false)])), ["uid-child"]);
    let unknown = graph.unknown_owners("uid-child", &gone(&[]));
    assert_eq!(unknown.len(), 1);
    assert!(writes(&plan(&graph, "uid-child", &gone(&[]))).is_empty());
    assert!(graph.unknown_owners("uid-child", &gone(&["uid-late"])).is_empty());
    assert_eq!(writes(&plan(&graph, "uid-child", &gone(&["uid-late"]))), ["delete child"]);
}

#[test]
fn orphaning_cuts_references_and_then_lets_go() {
    let mut graph = Graph::default();
    graph.observe(&kind(), &meta("owner"));
    graph.observe(&kind(), &owned("child", &[("owner", true)]));
    let look = graph.observe(&kind(), &deleting(meta("owner"), ORPHAN));
    assert!(look.contains(&"uid-owner".to_owned()));
    assert_eq!(writes(&plan(&graph, "uid-owner", &gone(&[]))), ["patch child"]);
    let look = graph.observe(&kind(), &meta("child"));
    assert_eq!(look, ["uid-owner"]);
    assert_eq!(writes(&plan(&graph, "uid-owner", &gone(&[]))), ["patch owner"]);
}

#[test]
fn foreground_deletion_waits_for_blocking_dependents() {
    let mut graph = Graph::default();
    graph.observe(&kind(), &meta("owner"));
    graph.observe(&kind(), &owned("child", &[("owner", true)]));
    graph.observe(&kind(), &owned("loose", &[("owner", false)]));
    let look = graph.observe(&kind(), &deleting(meta("owner"), FOREGROUND));
    assert_eq!(look, ["uid-child", "uid-loose", "uid-owner"]);
    let waiting = plan(&graph, "uid-owner", &gone(&[]));
    assert!(waiting.plan.actions.is_empty());
    assert_eq!(waiting.also, ["uid-child"]);
    assert_eq!(writes(&plan(&graph, "uid-child", &gone(&[]))), ["delete child"]);
    assert_eq!(graph.forget("uid-child"), ["uid-owner"]);
    assert_eq!(writes(&plan(&graph, "uid-owner", &gone(&[]))), ["patch owner"]);
}

#[test]
fn foreground_deletion_goes_down_the_tree() {
    let mut graph = Graph::default();
    graph.observe(&kind(), &deleting(meta("top"), FOREGROUND));
    graph.observe(&kind(), &owned("middle", &[("top", true)]));
    graph.observe(&kind(), &owned("leaf", &[("middle", true)]));
    let decision = plan(&graph, "uid-middle", &gone(&[]));
    let Some(Write::Delete { propagation, .. }) = decision.plan.writes().next() else { panic!() };
    assert_eq!(*propagation, Some(Propagation::Foreground));
}
