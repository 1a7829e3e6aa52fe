//! Namespace: empties a namespace that is being deleted, then lets it go.
//!
//! Everything in it is deleted, of every kind that the API server knows, custom ones too; what
//! stays (pods in their grace, objects with finalizers) is told in the namespace's conditions.
//! Once nothing is left the `kubernetes` finalizer is removed and the namespace is gone.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Namespace, NamespaceCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

use super::action::{Action, Kind, Part, Plan, Propagation, Target, Write};
use super::object;

/// The finalizer that this controller removes.
pub const FINALIZER: &str = "kubernetes";
/// How soon to look again at contents that take their time (changes of pods are noticed at once).
const LOOK_AGAIN: SignedDuration = SignedDuration::from_secs(1);

/// What is in a namespace that is being deleted.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The namespace.
    pub namespace: Arc<Namespace>,
    /// Its objects by kind; kinds without objects may be left out.
    pub contents: Vec<(Kind, Vec<ObjectMeta>)>,
    /// What could not be discovered.
    pub discovery_failures: Vec<String>,
    /// What could not be listed.
    pub list_failures: Vec<String>,
}

/// Decides; see the module.
#[must_use]
pub fn plan(snapshot: &Snapshot, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let namespace = &*snapshot.namespace;
    if !object::is_deleting(&namespace.metadata) {
        return plan;
    }
    let finalizers = namespace.spec.as_ref().and_then(|spec| spec.finalizers.as_deref());
    if !finalizers.unwrap_or_default().iter().any(|finalizer| finalizer == FINALIZER) {
        return plan;
    }
    let complete = snapshot.discovery_failures.is_empty() && snapshot.list_failures.is_empty();
    let empty = snapshot.contents.iter().all(|(_, objects)| objects.is_empty());
    if complete && empty {
        plan.note("empty: lets it go");
        plan.write(finalized(namespace));
        return plan;
    }
    let deletions = deletions(snapshot);
    let status = status(snapshot, now);
    let fresh = !deletions.is_empty();
    if fresh {
        plan.note(format!("deletes {} objects", deletions.len()));
        plan.actions.push(Action::Batch(deletions));
        // Most are gone at once; the conditions tell of those that are not.
        plan.requeue(now);
    } else {
        plan.requeue(now.checked_add(LOOK_AGAIN).unwrap_or(Timestamp::MAX));
        if namespace.status.as_ref() != Some(&status) {
            let mut changed = namespace.clone();
            changed.status = Some(status);
            plan.write(Write::update_status(&changed));
        }
    }
    plan
}

fn finalized(namespace: &Namespace) -> Write {
    let mut namespace = namespace.clone();
    if let Some(finalizers) = namespace.spec.as_mut().and_then(|spec| spec.finalizers.as_mut()) {
        finalizers.retain(|finalizer| finalizer != FINALIZER);
    }
    Write::update_part(&namespace, Part::Finalize)
}

fn deletions(snapshot: &Snapshot) -> Vec<Write> {
    let namespace = object::name(&snapshot.namespace.metadata);
    let all =
        snapshot.contents.iter().flat_map(|(kind, objects)| objects.iter().map(move |meta| (kind, meta)));
    all.filter(|(_, meta)| !object::is_deleting(meta))
        .map(|(kind, meta)| Write::Delete {
            target: Target {
                kind: kind.clone(),
                namespace: Some(namespace.to_owned()),
                name: object::name(meta).to_owned(),
            },
            uid: meta.uid.clone(),
            resource_version: None,
            propagation: Some(Propagation::Background),
            grace_s: None,
            narration: None,
        })
        .collect()
}

fn status(snapshot: &Snapshot, now: Timestamp) -> k8s_openapi::api::core::v1::NamespaceStatus {
    let mut status = snapshot.namespace.status.clone().unwrap_or_default();
    status.phase = Some("Terminating".to_owned());
    let conditions = status.conditions.get_or_insert_default();
    let mut set = |kind: &str, found: Option<(&'static str, String)>, fine: (&'static str, &'static str)| {
        let is = if found.is_some() { "True" } else { "False" };
        let (reason, message) = found.unwrap_or_else(|| (fine.0, fine.1.to_owned()));
        let known = conditions.iter_mut().find(|known| known.type_ == kind);
        let next = NamespaceCondition {
            type_: kind.to_owned(),
            status: is.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message),
            last_transition_time: Some(Time(now)),
        };
        match known {
            None => conditions.push(next),
            Some(known) => {
                let since =
                    (known.status == next.status).then(|| known.last_transition_time.clone()).flatten();
                *known = next;
                if since.is_some() {
                    known.last_transition_time = since;
                }
            }
        }
    };
    let failed = |failures: &[String]| (!failures.is_empty()).then(|| failures.join("; "));
    set(
        "NamespaceDeletionDiscoveryFailure",
        failed(&snapshot.discovery_failures).map(|why| ("DiscoveryFailed", why)),
        ("ResourcesDiscovered", "All resources successfully discovered"),
    );
    set(
        "NamespaceDeletionGroupVersionParsingFailure",
        None,
        ("ParsedGroupVersions", "All legacy kube types successfully parsed"),
    );
    set(
        "NamespaceDeletionContentFailure",
        failed(&snapshot.list_failures).map(|why| ("ContentDeletionFailed", why)),
        ("ContentDeleted", "All content successfully deleted, may be waiting on finalization"),
    );
    set(
        "NamespaceContentRemaining",
        remaining(snapshot).map(|what| ("SomeResourcesRemain", what)),
        ("ContentRemoved", "All content successfully removed"),
    );
    set(
        "NamespaceFinalizersRemaining",
        finalizers(snapshot).map(|what| ("SomeFinalizersRemain", what)),
        ("ContentHasNoFinalizers", "All content-preserving finalizers finished"),
    );
    status
}

fn remaining(snapshot: &Snapshot) -> Option<String> {
    let counts: Vec<String> = snapshot
        .contents
        .iter()
        .filter(|(_, objects)| !objects.is_empty())
        .map(|(kind, objects)| {
            format!("{}.{} has {} resource instances", kind.plural, kind.group, objects.len())
        })
        .collect();
    (!counts.is_empty()).then(|| format!("Some resources are remaining: {}", counts.join(", ")))
}

fn finalizers(snapshot: &Snapshot) -> Option<String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for meta in snapshot.contents.iter().flat_map(|(_, objects)| objects) {
        for finalizer in meta.finalizers.iter().flatten() {
            *counts.entry(finalizer).or_default() += 1;
        }
    }
    let counts: Vec<String> = counts
        .into_iter()
        .map(|(finalizer, count)| format!("{finalizer} in {count} resource instances"))
        .collect();
    let text = "Some content in the namespace has finalizers remaining: ";
    (!counts.is_empty()).then(|| format!("{text}{}", counts.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::testing::{at, meta};
    use k8s_openapi::api::core::v1::{NamespaceSpec, Pod, Secret};

    fn snapshot(contents: Vec<(Kind, Vec<ObjectMeta>)>) -> Snapshot {
        let mut namespace = Namespace { metadata: meta("team"), ..Namespace::default() };
        namespace.metadata.deletion_timestamp = Some(Time(at(1)));
        namespace.spec = Some(NamespaceSpec { finalizers: Some(vec![FINALIZER.into()]) });
        Snapshot { namespace: Arc::new(namespace), contents, ..Snapshot::default() }
    }

    #[test]
    fn contents_are_deleted_and_then_waited_for() {
        let mut going = meta("p");
        going.deletion_timestamp = Some(Time(at(2)));
        going.finalizers = Some(vec!["example.com/hold".into()]);
        let facts =
            snapshot(vec![(Kind::of::<Secret>(), vec![meta("s")]), (Kind::of::<Pod>(), vec![going.clone()])]);
        let first = plan(&facts, at(10));
        let names: Vec<&str> = first.writes().map(Write::name).collect();
        assert_eq!(names, ["s"]);
        assert_eq!(first.requeue_at, Some(at(10)));

        let second = plan(&snapshot(vec![(Kind::of::<Pod>(), vec![going])]), at(10));
        let Some(Write::Update { part: Part::Status, object, .. }) = second.writes().next() else {
            panic!("{second:?}")
        };
        let messages = object["status"]["conditions"].to_string();
        assert!(messages.contains("pods. has 1 resource instances"), "{messages}");
        assert!(messages.contains("example.com/hold in 1 resource instances"), "{messages}");
        assert_eq!(second.requeue_at, Some(at(11)));
    }

    #[test]
    fn an_empty_namespace_is_let_go_unless_something_is_unknown() {
        let mut facts = snapshot(vec![]);
        let Some(Write::Update { part: Part::Finalize, object, .. }) =
            plan(&facts, at(10)).writes().next().cloned()
        else {
            panic!("not finalized")
        };
        assert_eq!(object["spec"]["finalizers"], serde_json::json!([]));
        facts.list_failures.push("widgets: forbidden".into());
        let waits = plan(&facts, at(10));
        assert!(waits.writes().all(|write| write.verb() == "update-status"));
    }
}
