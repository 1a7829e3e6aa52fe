//! Delete: at once, or marked until grace has passed and finalizers are gone.

use std::sync::Arc;

use bytes::Bytes;
use coracle_api::meta;
use coracle_api::status::{Details, Status};
use coracle_api::time;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::admission::{Attributes, Operation};
use crate::cache::Object;
use crate::registry::index::Row;
use crate::registry::key::ObjectKey;
use crate::registry::options::{self, DeleteOptions, Propagation};
use crate::registry::read::{collection_namespace, key_of, target};
use crate::registry::render::{self, ListMeta};
use crate::registry::selection::Selection;
use crate::registry::storage::{self, Outcome};
use crate::registry::{Registry, Reply, Stored, custom, failure, metadata, namespaces};
use crate::request::Call;

/// How often a deletion that lost a race is tried again.
const ATTEMPTS_MAX: usize = 10;
/// Objects of a collection that are deleted at the same time.
const COLLECTION_WIDTH: usize = 16;
/// Finalizer that leaves dependents without owner.
const ORPHAN: &str = "orphan";
/// Finalizer that deletes dependents first.
const FOREGROUND: &str = "foregroundDeletion";

/// Kinds whose immediate deletion answers with the object instead of a Status.
const ANSWER_OBJECT: &[(&str, &str)] = &[
    ("", "pods"),
    ("", "services"),
    ("", "serviceaccounts"),
    ("", "persistentvolumes"),
    ("", "persistentvolumeclaims"),
    ("", "podtemplates"),
    ("", "resourcequotas"),
    ("storage.k8s.io", "storageclasses"),
    ("storage.k8s.io", "csidrivers"),
    ("storage.k8s.io", "csinodes"),
    ("storage.k8s.io", "volumeattachments"),
];

/// Kinds that leave their dependents alone unless told otherwise.
const ORPHAN_BY_DEFAULT: &[(&str, &str)] = &[("batch", "jobs"), ("", "replicationcontrollers")];

/// What deleting came to.
pub(super) struct Deleted {
    /// The object as it was left, with its version.
    pub(super) body: Bytes,
    /// Whether it is gone from the store.
    pub(super) gone: bool,
}

/// What is to be done with an object.
enum Step {
    /// Nothing: it is on its way already.
    Leave,
    /// Store this and wait.
    Mark(Value),
    /// Remove it; this is its last state.
    Remove(Value),
}

impl Registry {
    /// DELETE of one object.
    pub(super) async fn delete(&self, row: &Arc<Row>, call: &Call) -> Result<Reply, Status> {
        let key = target(row, call)?;
        let options = DeleteOptions::of_call(call)?;
        let namespace = if row.resource.is_namespaced() {
            call.info.namespace.as_deref().unwrap_or_default()
        } else {
            ""
        };
        let dry_run = options.dry_run || (call.dry_run && call.body.is_empty());
        let deleted = self.delete_object(row, &key, namespace, &options, dry_run).await?;
        let warnings = warnings(row, &options);
        if deleted.gone && !ANSWER_OBJECT.contains(&(&*row.resource.group, &*row.resource.plural)) {
            let details = Details {
                name: key.name().to_owned(),
                group: row.resource.group.to_string(),
                kind: row.resource.plural.to_string(),
                uid: meta::uid(&render::parse(&deleted.body)?).to_owned(),
                ..Details::default()
            };
            return Ok(render::value(200, &json!(Status::success(Some(details))))?.with_warnings(warnings));
        }
        Ok(render::object(row, 200, deleted.body, call.format.shape)?.with_warnings(warnings))
    }

    /// Deletes one object.
    ///
    /// # Errors
    /// 404, 409 for preconditions that do not hold, and refusals of admission.
    pub(super) async fn delete_object(
        &self,
        row: &Arc<Row>,
        key: &ObjectKey,
        namespace: &str,
        options: &DeleteOptions,
        dry_run: bool,
    ) -> Result<Deleted, Status> {
        let kv = &*self.0.kv;
        let mut found = storage::get(kv, key.bytes()).await.map_err(|e| failure::store(&e))?;
        for _ in 0..ATTEMPTS_MAX {
            let Some(current) = found else { return Err(failure::object_not_found(row, key.name())) };
            let (stored, _) = row.stored.decode(&current.value).map_err(|e| failure::envelope(&e))?;
            let mut object = stored.value().map_err(|e| failure::envelope(&e))?;
            check_preconditions(row, key.name(), &object, current.mod_revision, options)?;
            let attributes = Attributes {
                operation: Operation::Delete,
                row,
                subresource: "",
                namespace,
                name: key.name(),
            };
            self.0.admission.admit(&attributes, &mut object, self).await?;
            let before = object.clone();
            let outcome = match step(row, object, options, Timestamp::now()) {
                Step::Leave => {
                    return Ok(Deleted { body: stored.with_version(current.mod_revision), gone: false });
                }
                Step::Mark(marked) => {
                    let next = row.stored.encode(&marked);
                    if dry_run || marked == before {
                        return Ok(Deleted { body: next.with_version(current.mod_revision), gone: false });
                    }
                    self.put(row, key.bytes(), current.mod_revision, &next).await?.with(next, false)
                }
                Step::Remove(last) => {
                    let last = row.stored.encode(&last);
                    if dry_run {
                        return Ok(Deleted { body: last.with_version(current.mod_revision), gone: true });
                    }
                    self.remove(row, key, current.mod_revision, &before).await?.with(last, true)
                }
            };
            match outcome {
                Ok(deleted) => {
                    if !deleted.gone && row.is("apiextensions.k8s.io", "customresourcedefinitions") {
                        self.definition_changed(key.name()).await;
                    }
                    return Ok(deleted);
                }
                Err(newer) => found = newer,
            }
        }
        Err(failure::object_modified(row, key.name()))
    }

    /// DELETE of a collection: every object that the selectors take, each on its own.
    pub(super) async fn delete_collection(&self, row: &Arc<Row>, call: &Call) -> Result<Reply, Status> {
        if row.resource.is_namespaced() && call.info.namespace.is_none() {
            return Err(Status::method_unknown());
        }
        let list_options = call.info.list_options()?;
        options::check_list(&list_options, false)?;
        let selection = Selection::new(row, collection_namespace(row, call), None, &list_options)?;
        let options = DeleteOptions::of_call(call)?;
        let dry_run = options.dry_run || (call.dry_run && call.body.is_empty());
        let (objects, revision) = self.select(row, &selection).await?;
        for some in objects.chunks(COLLECTION_WIDTH) {
            let mut deletions = Vec::with_capacity(some.len());
            for object in some {
                deletions.push(self.delete_listed(row, object, &options, dry_run));
            }
            for result in futures::future::join_all(deletions).await {
                result?;
            }
        }
        let meta = ListMeta { revision, ..ListMeta::default() };
        let body = render::list(row, &objects, &meta, call.format.shape)?;
        Ok(Reply::Object { code: 200, body, warnings: warnings(row, &options) })
    }

    /// Deletes an object of a list; gone already is as good as deleted.
    async fn delete_listed(
        &self,
        row: &Arc<Row>,
        object: &Object,
        options: &DeleteOptions,
        dry_run: bool,
    ) -> Result<(), Status> {
        let key = key_of(row, object.namespace(), object.name())?;
        match self.delete_object(row, &key, object.namespace(), options, dry_run).await {
            Err(status) if status.code != 404 => Err(status),
            _ => Ok(()),
        }
    }
}

impl Outcome {
    /// The deletion that a successful write makes, or what was stored instead.
    fn with(self, stored: Stored, gone: bool) -> Result<Deleted, Option<coracle_store::KeyValue>> {
        match self {
            Self::Done(revision) => Ok(Deleted { body: stored.with_version(revision), gone }),
            Self::Differs(found) => Err(found),
        }
    }
}

fn warnings(row: &Row, options: &DeleteOptions) -> Vec<String> {
    if options.propagation.is_some() || !row.is("batch", "jobs") {
        return Vec::new();
    }
    vec![
        "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or \
         set propagationPolicy=Orphan to suppress this warning"
            .to_owned(),
    ]
}

fn check_preconditions(
    row: &Row,
    name: &str,
    object: &Value,
    revision: i64,
    options: &DeleteOptions,
) -> Result<(), Status> {
    let refuse = |why: String| Status::conflict(&row.resource.group, &row.resource.kind, name, why);
    let uid = meta::uid(object);
    if let Some(wanted) = options.uid.as_deref().filter(|wanted| *wanted != uid) {
        return Err(refuse(format!(
            "the UID in the precondition ({wanted}) does not match the UID in record ({uid}). The object might have \
             been deleted and then recreated"
        )));
    }
    if let Some(wanted) =
        options.resource_version.as_deref().filter(|wanted| **wanted != revision.to_string())
    {
        return Err(refuse(format!(
            "the ResourceVersion in the precondition ({wanted}) does not match the ResourceVersion in record \
             ({revision}). The object might have been modified"
        )));
    }
    Ok(())
}

/// Decides what deleting `object` means now.
fn step(row: &Row, mut object: Value, options: &DeleteOptions, now: Timestamp) -> Step {
    if row.is("", "namespaces")
        && let Some(step) = namespace_step(&mut object, now)
    {
        return step;
    }
    if row.is("apiextensions.k8s.io", "customresourcedefinitions") {
        custom::hold_for_cleanup(&mut object);
    }
    let grace = match graceful(row, &mut object, options, now) {
        Grace::Pending => return Step::Leave,
        Grace::None => None,
        Grace::Seconds(seconds) => Some(seconds),
    };
    set_propagation(row, &mut object, options);
    let held = !meta::finalizers(&object).is_empty();
    match grace {
        Some(seconds) if held || seconds > 0 => Step::Mark(object),
        None if held => {
            metadata::mark_deleting(&mut object, now);
            Step::Mark(object)
        }
        _ => Step::Remove(object),
    }
}

/// A namespace only turns Terminating; its controller empties it and takes the finalizers
/// off. `None` when nothing holds it any more.
fn namespace_step(object: &mut Value, now: Timestamp) -> Option<Step> {
    if namespaces::has_finalizers(object) {
        if meta::is_deleting(object) {
            return Some(Step::Leave);
        }
        meta::set(object, "deletionTimestamp", time::seconds(now));
        namespaces::set_phase(object, "Terminating");
        return Some(Step::Mark(object.take()));
    }
    None
}

enum Grace {
    /// The kind knows none.
    None,
    /// A deletion is under way already, and this one does not shorten it.
    Pending,
    /// The object is marked, and has so many seconds.
    Seconds(i64),
}

/// Only pods are deleted gracefully: the kubelet of their node finishes them.
fn graceful(row: &Row, object: &mut Value, options: &DeleteOptions, now: Timestamp) -> Grace {
    if !row.is("", "pods") {
        return Grace::None;
    }
    if let Some(at) = meta::deletion_timestamp(object).and_then(time::parse) {
        let Some(left) = meta::deletion_grace_period_seconds(object) else { return Grace::None };
        return match options.grace_period_s {
            Some(wanted) if wanted < left => {
                let wanted = if wanted < 0 { 1 } else { wanted };
                metadata::mark_graceful(object, metadata::shifted(at, wanted - left), wanted);
                Grace::Seconds(wanted)
            }
            _ => Grace::Pending,
        };
    }
    let seconds = pod_grace(object, options);
    metadata::mark_graceful(object, metadata::shifted(now, seconds), seconds);
    metadata::raise_generation(object);
    Grace::Seconds(seconds)
}

fn pod_grace(pod: &Value, options: &DeleteOptions) -> i64 {
    let own = pod.pointer("/spec/terminationGracePeriodSeconds").and_then(Value::as_i64).unwrap_or_default();
    let unplaced = pod.pointer("/spec/nodeName").and_then(Value::as_str).unwrap_or_default().is_empty();
    let phase = pod.pointer("/status/phase").and_then(Value::as_str).unwrap_or_default();
    match options.grace_period_s.unwrap_or(own) {
        _ if unplaced || matches!(phase, "Failed" | "Succeeded") => 0,
        seconds if seconds < 0 => 1,
        seconds => seconds,
    }
}

/// Writes down as finalizers what the garbage collector must do before the object goes.
fn set_propagation(row: &Row, object: &mut Value, options: &DeleteOptions) {
    let finalizers = meta::finalizers(object);
    let by_default = || {
        if finalizers.contains(&ORPHAN) {
            Propagation::Orphan
        } else if finalizers.contains(&FOREGROUND) {
            Propagation::Foreground
        } else if ORPHAN_BY_DEFAULT.contains(&(&*row.resource.group, &*row.resource.plural)) {
            Propagation::Orphan
        } else {
            Propagation::Background
        }
    };
    // Events own nothing, so nothing is collected for them.
    let policy = if row.is("", "events") {
        Propagation::Background
    } else {
        options.propagation.unwrap_or_else(by_default)
    };
    let mut next: Vec<String> =
        finalizers.iter().filter(|f| **f != ORPHAN && **f != FOREGROUND).map(|f| (*f).to_owned()).collect();
    match policy {
        Propagation::Orphan => next.push(ORPHAN.to_owned()),
        Propagation::Foreground => next.push(FOREGROUND.to_owned()),
        Propagation::Background => {}
    }
    let next = if next.is_empty() { Value::Null } else { json!(next) };
    meta::set(object, "finalizers", next);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::ResourceIndex;

    fn row(group: &str, plural: &str) -> Arc<Row> {
        ResourceIndex::builtin().find(group, "v1", plural).unwrap().clone()
    }

    fn pod(extra: Value) -> Value {
        let mut pod = json!({"metadata": {"name": "p", "generation": 1},
            "spec": {"nodeName": "n", "terminationGracePeriodSeconds": 45}, "status": {"phase": "Running"}});
        for (path, value) in extra.as_object().unwrap() {
            *pod.pointer_mut(path).unwrap() = value.clone();
        }
        pod
    }

    #[test]
    fn pods_on_a_node_are_marked_and_their_grace_only_shrinks() {
        let (pods, now) = (row("", "pods"), Timestamp::UNIX_EPOCH);
        let Step::Mark(marked) = step(&pods, pod(json!({})), &DeleteOptions::default(), now) else {
            panic!()
        };
        assert_eq!(meta::deletion_grace_period_seconds(&marked), Some(45));
        assert_eq!(
            (meta::generation(&marked), meta::deletion_timestamp(&marked)),
            (2, Some("1970-01-01T00:00:45Z"))
        );
        let longer = DeleteOptions { grace_period_s: Some(60), ..DeleteOptions::default() };
        assert!(matches!(step(&pods, marked.clone(), &longer, now), Step::Leave));
        let shorter = DeleteOptions { grace_period_s: Some(5), ..DeleteOptions::default() };
        let Step::Mark(shortened) = step(&pods, marked, &shorter, now) else { panic!() };
        assert_eq!(meta::deletion_timestamp(&shortened), Some("1970-01-01T00:00:05Z"));
        assert_eq!(meta::generation(&shortened), 2);
        let at_once = DeleteOptions { grace_period_s: Some(0), ..DeleteOptions::default() };
        assert!(matches!(step(&pods, shortened, &at_once, now), Step::Remove(_)));
    }

    #[test]
    fn pods_without_a_node_or_finished_go_at_once() {
        let (pods, now) = (row("", "pods"), Timestamp::UNIX_EPOCH);
        for extra in [json!({"/spec/nodeName": ""}), json!({"/status/phase": "Succeeded"})] {
            let Step::Remove(last) = step(&pods, pod(extra), &DeleteOptions::default(), now) else {
                panic!()
            };
            assert_eq!(meta::deletion_grace_period_seconds(&last), Some(0));
        }
    }

    #[test]
    fn propagation_is_written_as_a_finalizer() {
        let now = Timestamp::UNIX_EPOCH;
        let object = json!({"metadata": {"name": "j"}});
        let Step::Mark(job) = step(&row("batch", "jobs"), object.clone(), &DeleteOptions::default(), now)
        else {
            panic!()
        };
        assert_eq!(meta::finalizers(&job), [ORPHAN]);
        let foreground =
            DeleteOptions { propagation: Some(Propagation::Foreground), ..DeleteOptions::default() };
        let Step::Mark(map) = step(&row("", "configmaps"), object.clone(), &foreground, now) else {
            panic!()
        };
        assert_eq!(meta::finalizers(&map), [FOREGROUND]);
        assert_eq!(meta::deletion_grace_period_seconds(&map), Some(0));
        assert!(matches!(
            step(&row("", "configmaps"), object, &DeleteOptions::default(), now),
            Step::Remove(_)
        ));
    }

    #[test]
    fn namespaces_wait_for_their_finalizers() {
        let (namespaces, now) = (row("", "namespaces"), Timestamp::UNIX_EPOCH);
        let object = json!({"metadata": {"name": "n"}, "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}});
        let Step::Mark(marked) = step(&namespaces, object, &DeleteOptions::default(), now) else { panic!() };
        assert_eq!(marked["status"]["phase"], "Terminating");
        assert!(matches!(step(&namespaces, marked, &DeleteOptions::default(), now), Step::Leave));
    }
}
