//! Garbage collector: deletes what lost its last owner, and carries out orphaning and foreground
//! deletion.
//!
//! The [`Graph`] knows of every object whether it exists, and of those with owners or with one of
//! the two finalizers who they are. An owner that the graph does not know may only not have been
//! seen yet: [`Graph::unknown_owners`] says which have to be asked for, and only those whom the
//! API server denies count as absent. Deletions carry the uid that was seen.

mod graph;
#[cfg(test)]
mod tests;

use std::collections::HashSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::{Value, json};

use super::action::{Part, Patch, Plan, Propagation, Target, Write};
pub use graph::{Graph, Object};

/// The finalizer of an object whose dependents are to be orphaned.
pub const ORPHAN: &str = "orphan";
/// The finalizer of an object that waits for its dependents' deletion.
pub const FOREGROUND: &str = "foregroundDeletion";

/// What to do about one object, and which others to look at next.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decision {
    /// What to do.
    pub plan: Plan,
    /// The uids of others that this concerns.
    pub also: Vec<String>,
}

/// The owners of an object by what they mean for its life.
struct Owners<'a> {
    /// There, and staying.
    solid: Vec<&'a OwnerReference>,
    /// There, but only until their dependents are gone.
    waiting: Vec<&'a OwnerReference>,
    /// Gone.
    dangling: Vec<&'a OwnerReference>,
}

/// Decides about the object with this uid. `absent` are the uids of owners that are certainly
/// gone; an unknown owner that is not among them is taken to be there.
#[must_use]
pub fn plan(graph: &Graph, uid: &str, absent: &HashSet<String>) -> Decision {
    let mut decision = Decision::default();
    let Some(object) = graph.object(uid) else { return decision };
    if object.deleting && object.orphan {
        orphan_dependents(graph, object, &mut decision.plan);
        return decision;
    }
    if object.deleting && object.foreground {
        wait_for_dependents(graph, object, &mut decision);
        return decision;
    }
    if object.deleting || object.owners.is_empty() {
        return decision;
    }
    let owners = classify(graph, object, absent);
    if !owners.solid.is_empty() {
        if !owners.waiting.is_empty() || !owners.dangling.is_empty() {
            let write = keep_owners(object, |owner| owners.solid.iter().any(|solid| solid.uid == owner.uid));
            decision.plan.note("loses owners that are gone");
            decision.plan.write(write);
        }
        return decision;
    }
    let with_dependents = !owners.waiting.is_empty() && graph.has_dependents(uid);
    let propagation = if with_dependents || object.foreground {
        Propagation::Foreground
    } else if object.orphan {
        Propagation::Orphan
    } else {
        Propagation::Background
    };
    if with_dependents {
        unblock_cycle(graph, object, &mut decision.plan);
    }
    decision.plan.note("has no owner left");
    decision.plan.write(delete(object, propagation));
    decision
}

fn classify<'a>(graph: &Graph, object: &'a Object, absent: &HashSet<String>) -> Owners<'a> {
    let mut owners = Owners { solid: Vec::new(), waiting: Vec::new(), dangling: Vec::new() };
    for owner in &object.owners {
        let known = graph.object(&owner.uid);
        if absent.contains(&owner.uid) && !graph.exists(&owner.uid) {
            owners.dangling.push(owner);
        } else if known.is_some_and(|known| known.deleting && known.foreground) {
            owners.waiting.push(owner);
        } else {
            owners.solid.push(owner);
        }
    }
    owners
}

/// Lets every dependent go, then the object itself.
fn orphan_dependents(graph: &Graph, object: &Object, plan: &mut Plan) {
    let mut left = false;
    for dependent in graph.dependents(&object.uid) {
        left = true;
        plan.write(keep_owners(dependent, |owner| owner.uid != object.uid));
    }
    if left {
        // The finalizer goes once the graph has seen that nobody depends on it any more.
        plan.note("lets its dependents go");
    } else {
        plan.write(without_finalizer(object, ORPHAN));
    }
}

/// An object in foreground deletion goes when no dependent blocks it any more.
fn wait_for_dependents(graph: &Graph, object: &Object, decision: &mut Decision) {
    let mut blocked = false;
    for dependent in graph.dependents(&object.uid) {
        let reference = dependent.owners.iter().find(|owner| owner.uid == object.uid);
        if reference.is_some_and(|owner| owner.block_owner_deletion == Some(true)) {
            blocked = true;
            if !dependent.deleting {
                decision.also.push(dependent.uid.clone());
            }
        }
    }
    if blocked {
        decision.plan.note("waits for its dependents");
    } else {
        decision.plan.write(without_finalizer(object, FOREGROUND));
    }
}

/// A dependent that itself waits for its dependents could wait for this object: in such a circle
/// nobody may block.
fn unblock_cycle(graph: &Graph, object: &Object, plan: &mut Plan) {
    let circular = graph.dependents(&object.uid).any(|other| other.deleting && other.foreground);
    if circular {
        let owners: Vec<OwnerReference> = object
            .owners
            .iter()
            .cloned()
            .map(|owner| OwnerReference { block_owner_deletion: Some(false), ..owner })
            .collect();
        plan.write(merge(object, json!({ "ownerReferences": owners })));
    }
}

fn keep_owners(object: &Object, keep: impl Fn(&OwnerReference) -> bool) -> Write {
    let owners: Vec<&OwnerReference> = object.owners.iter().filter(|owner| keep(owner)).collect();
    merge(object, json!({ "ownerReferences": owners, "resourceVersion": object.resource_version }))
}

fn without_finalizer(object: &Object, finalizer: &str) -> Write {
    let rest: Vec<&String> = object.finalizers.iter().filter(|one| *one != finalizer).collect();
    merge(object, json!({ "finalizers": rest, "resourceVersion": object.resource_version }))
}

/// A merge patch of metadata: the one form that custom resources take too.
fn merge(object: &Object, mut metadata: Value) -> Write {
    metadata["uid"] = object.uid.clone().into();
    Write::Patch {
        target: object.target(),
        part: Part::Main,
        patch: Patch::Merge(json!({ "metadata": metadata })),
    }
}

fn delete(object: &Object, propagation: Propagation) -> Write {
    Write::Delete {
        target: object.target(),
        uid: Some(object.uid.clone()),
        resource_version: None,
        propagation: Some(propagation),
        grace_s: None,
        narration: None,
    }
}

impl Object {
    fn target(&self) -> Target {
        Target { kind: (*self.kind).clone(), namespace: self.namespace.clone(), name: self.name.clone() }
    }
}
