//! Tables of Deployment decisions.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{DeploymentStrategy, ReplicaSetStatus, RollingUpdateDeployment};

use super::*;
use crate::controllers::action::Action;
use crate::controllers::testing::{MakePod, at, meta, selector, template};

fn deployment(replicas: i32, image: &str) -> Deployment {
    Deployment {
        metadata: meta("web"),
        spec: Some(DeploymentSpec {
            replicas: Some(replicas),
            selector: selector(&[("app", "web")]),
            template: template(&[("app", "web")], image),
            strategy: Some(DeploymentStrategy {
                type_: Some("RollingUpdate".into()),
                rolling_update: Some(RollingUpdateDeployment::default()),
            }),
            progress_deadline_seconds: Some(600),
            revision_history_limit: Some(10),
            ..DeploymentSpec::default()
        }),
        status: None,
    }
}

/// A ReplicaSet of revision `number` with `size` pods of which `available` are.
fn set(of: &Deployment, image: &str, number: i64, size: i32, available: i32) -> Arc<ReplicaSet> {
    let mut of = of.clone();
    let spec = of.spec.as_mut().unwrap();
    let desired = spec.replicas.unwrap();
    spec.template = template(&[("app", "web")], image);
    let hash = revision::hash(&spec.template, 0);
    let mut made = revision::make(&of, of.spec.as_ref().unwrap(), &hash);
    let known = meta(&format!("web-{image}"));
    made.metadata.name = known.name;
    made.metadata.uid = known.uid;
    made.metadata.resource_version = known.resource_version;
    made.metadata.generation = Some(1);
    made.metadata.creation_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(number)));
    let mut member = Member { set: made, was: None, changed: false };
    member.annotate(REVISION, &number.to_string());
    member.annotate(DESIRED_REPLICAS, &desired.to_string());
    member.annotate(MAX_REPLICAS, &(desired + (desired + 3) / 4).to_string());
    member.set_size(size);
    member.set.status = Some(ReplicaSetStatus {
        replicas: size,
        available_replicas: Some(available),
        ready_replicas: Some(available),
        observed_generation: Some(1),
        ..ReplicaSetStatus::default()
    });
    Arc::new(member.set)
}

fn snapshot(deployment: Deployment, replica_sets: Vec<Arc<ReplicaSet>>) -> Snapshot {
    let deployment = Arc::new(deployment);
    Snapshot { deployment, replica_sets, ..Snapshot::default() }
}

/// The plan's changes of size: `name: size`.
fn sizes(plan: &Plan) -> Vec<String> {
    plan.writes()
        .filter_map(|write| match write {
            Write::Create { object, .. } => Some(("new", object)),
            Write::Update { target, object, .. } if target.kind.kind == "ReplicaSet" => {
                Some((target.name.as_str(), object))
            }
            _ => None,
        })
        .map(|(name, object)| format!("{name}: {}", object["spec"]["replicas"]))
        .collect()
}

fn condition(plan: &Plan, kind: &str) -> Option<String> {
    let status = plan.writes().find_map(|write| match write {
        Write::Update { target, object, .. } if target.kind.kind == "Deployment" => Some(object),
        _ => None,
    })?;
    let conditions = status["status"]["conditions"].as_array()?;
    let found = conditions.iter().find(|condition| condition["type"] == kind)?;
    Some(format!("{} {}", found["status"].as_str()?, found["reason"].as_str()?))
}

#[test]
fn the_first_revision_is_made_at_full_size() {
    let plan = plan(&snapshot(deployment(3, "v1"), vec![]), at(10));
    assert_eq!(sizes(&plan), ["new: 3"]);
    assert_eq!(condition(&plan, "Progressing").unwrap(), "True NewReplicaSetCreated");
    assert_eq!(condition(&plan, "Available").unwrap(), "False MinimumReplicasUnavailable");
    let said = plan.actions.iter().find_map(|action| match action {
        Action::Event { reason, message, .. } => Some(format!("{reason}: {message}")),
        _ => None,
    });
    let said = said.unwrap();
    assert!(said.starts_with("ScalingReplicaSet: Scaled up replica set web-"), "{said}");
    assert!(said.ends_with("from 0 to 3"), "{said}");
    let Some(Write::Patch { patch, .. }) = plan.writes().last() else { panic!("{plan:?}") };
    assert!(format!("{patch:?}").contains("deployment.kubernetes.io/revision"));
}

#[test]
fn a_rolling_update_stays_within_its_limits() {
    let four = deployment(4, "v2");
    // Old size and available, new size and available (-1: none yet), expected sizes.
    let rows: [(i32, i32, i32, i32, &[&str]); 6] = [
        (4, 4, -1, 0, &["new: 1"]),
        (4, 4, 1, 0, &["web-v1: 3"]),
        (3, 3, 1, 0, &["web-v2: 2"]),
        (3, 3, 2, 1, &["web-v1: 2"]),
        (0, 0, 4, 4, &[]),
        (4, 2, 1, 0, &["web-v1: 3"]),
    ];
    for (old, old_available, new, new_available, expected) in rows {
        let mut sets = vec![set(&four, "v1", 1, old, old_available)];
        if new >= 0 {
            sets.push(set(&four, "v2", 2, new, new_available));
        }
        let plan = plan(&snapshot(four.clone(), sets), at(100));
        assert_eq!(sizes(&plan), expected, "{old} old and {new} new");
    }
}

#[test]
fn recreate_empties_the_old_and_waits_for_its_pods() {
    let mut four = deployment(4, "v2");
    let spec = four.spec.as_mut().unwrap();
    spec.strategy = Some(DeploymentStrategy { type_: Some("Recreate".into()), rolling_update: None });
    let running = set(&four, "v1", 1, 4, 4);
    let first = plan(&snapshot(four.clone(), vec![running]), at(100));
    assert_eq!(sizes(&first), ["web-v1: 0"]);

    let emptied = set(&four, "v1", 1, 0, 0);
    let mut facts = snapshot(four, vec![Arc::clone(&emptied)]);
    facts.pods = vec![MakePod::new("last").owned_by(&*emptied).deleting().build()];
    assert!(sizes(&plan(&facts, at(100))).is_empty());
    facts.pods.clear();
    assert_eq!(sizes(&plan(&facts, at(100))), ["new: 4"]);
}

#[test]
fn a_paused_rollout_scales_in_proportion() {
    let mut ten = deployment(10, "v2");
    let sets = vec![set(&ten, "v1", 1, 8, 8), set(&ten, "v2", 2, 5, 2)];
    let spec = ten.spec.as_mut().unwrap();
    spec.paused = Some(true);
    spec.replicas = Some(20);
    let plan = plan(&snapshot(ten, sets), at(100));
    assert_eq!(sizes(&plan), ["web-v1: 15", "web-v2: 10"]);
    assert_eq!(condition(&plan, "Progressing").unwrap(), "Unknown DeploymentPaused");
}

#[test]
fn scaling_a_settled_deployment_touches_its_newest_set() {
    let three = deployment(3, "v2");
    let sets = vec![set(&three, "v1", 1, 0, 0), set(&three, "v2", 2, 3, 3)];
    let mut five = three;
    five.spec.as_mut().unwrap().replicas = Some(5);
    assert_eq!(sizes(&plan(&snapshot(five, sets), at(100))), ["web-v2: 5"]);
}

#[test]
fn rolling_back_renumbers_the_old_revision() {
    let back = deployment(3, "v1");
    let sets = vec![set(&back, "v1", 1, 0, 0), set(&back, "v2", 2, 3, 3)];
    let plan = plan(&snapshot(back, sets), at(100));
    let Some(Write::Update { object, .. }) = plan.writes().find(|write| write.name() == "web-v1") else {
        panic!("{plan:?}")
    };
    let annotations = &object["metadata"]["annotations"];
    assert_eq!(annotations[REVISION], "3");
    assert_eq!(annotations[REVISION_HISTORY], "1");
}

#[test]
fn a_complete_rollout_forgets_old_history_and_then_rests() {
    let mut three = deployment(3, "v9");
    three.spec.as_mut().unwrap().revision_history_limit = Some(1);
    three.metadata.annotations = Some([(REVISION.to_owned(), "9".to_owned())].into());
    let sets = vec![set(&three, "v7", 7, 0, 0), set(&three, "v8", 8, 0, 0), set(&three, "v9", 9, 3, 3)];
    let first = plan(&snapshot(three.clone(), sets.clone()), at(100));
    assert_eq!(condition(&first, "Progressing").unwrap(), "True NewReplicaSetAvailable");
    let names: Vec<&str> = first.writes().map(Write::name).collect();
    assert_eq!(names, ["web-v7", "web"]);
    let Some(Write::Update { object, .. }) = first.writes().last() else { panic!("{first:?}") };
    three.status = serde_json::from_value(object["status"].clone()).unwrap();
    let second = plan(&snapshot(three, sets[1..].to_vec()), at(200));
    assert!(second.actions.is_empty(), "{second:?}");
    assert_eq!(second.requeue_at, None);
}

#[test]
fn no_progress_within_the_deadline_is_told() {
    let mut three = deployment(3, "v1");
    let sets = vec![set(&three, "v1", 1, 3, 0)];
    let first = plan(&snapshot(three.clone(), sets.clone()), at(100));
    let Some(object) = first.writes().find_map(|write| match write {
        Write::Update { target, object, .. } if target.kind.kind == "Deployment" => Some(object),
        _ => None,
    }) else {
        panic!("{first:?}")
    };
    three.status = serde_json::from_value(object["status"].clone()).unwrap();
    let waiting = plan(&snapshot(three.clone(), sets.clone()), at(200));
    assert_eq!(waiting.requeue_at, Some(at(701)));
    let late = plan(&snapshot(three, sets), at(702));
    assert_eq!(condition(&late, "Progressing").unwrap(), "False ProgressDeadlineExceeded");
}

#[test]
fn a_taken_name_is_avoided() {
    let one = deployment(1, "v1");
    let hash = revision::hash(&one.spec.as_ref().unwrap().template, 0);
    let mut facts = snapshot(one, vec![]);
    facts.taken_names = [format!("web-{hash}")].into();
    let plan = plan(&facts, at(10));
    assert!(sizes(&plan).is_empty());
    let Some(Write::Update { object, .. }) = plan.writes().next() else { panic!("{plan:?}") };
    assert_eq!(object["status"]["collisionCount"], 1);
}
