//! Carrying out a plan's actions against the API, and waiting to see them.
//!
//! After its writes a controller must not decide again on a view that lacks them, or it would
//! create twice. The [`Executor`] remembers what each write answered (the resourceVersion, or the
//! uid that was deleted), and [`Executor::observed`] waits until the informers of those kinds
//! have taken it in.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use coracle_plan::controllers::action::{
    Action, Kind, Narration, Part, Patch, Propagation, Severity, Target, Write,
};
use futures::future::join_all;
use http::{Method, Request};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::metrics::Metrics;
use crate::events::{Recorder, Type};
use crate::informer::{Informer, Object};

/// How long to wait for the informers to show what was written. Beyond it the watch is taken to
/// be broken, and the controller goes on with what it sees (client-go's expectations expire too).
const OBSERVE_MAX: Duration = Duration::from_secs(60);
/// How often the wait looks again although no event has arrived (a relist brings none).
const OBSERVE_POLL: Duration = Duration::from_secs(1);
/// How many writes of a batch are in flight at most.
const BATCH_WIDTH_MAX: usize = 64;

/// Why a plan's execution ended early.
#[derive(Debug, thiserror::Error)]
#[error("cannot {verb} {kind} {name}")]
pub struct Failure {
    /// What was tried.
    pub verb: &'static str,
    /// On which kind.
    pub kind: String,
    /// On which object.
    pub name: String,
    /// What the API answered.
    #[source]
    pub source: Box<kube::Error>,
}

impl Failure {
    /// Whether the plan was made from a stale view: trying again soon will do.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        matches!(&*self.source, kube::Error::Api(status)
            if status.code == 409 && status.reason != "AlreadyExists")
    }

    /// The message that the API answered with, or the transport's.
    #[must_use]
    pub fn message(&self) -> String {
        match &*self.source {
            kube::Error::Api(status) => status.message.clone(),
            other => other.to_string(),
        }
    }
}

/// What came of a plan.
#[derive(Debug, Default)]
pub struct Outcome {
    /// How many writes worked.
    pub written: usize,
    /// What ended it, if not its end.
    pub failure: Option<Failure>,
    pending: Vec<Pending>,
}

/// Something the informers have yet to show.
#[derive(Debug)]
enum Pending {
    Revision { kind: Kind, revision: u64 },
    Gone { kind: Kind, namespace: String, name: String, uid: String },
}

/// The part of an answer that matters here; the rest is not even parsed.
#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    metadata: AnswerMeta,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct AnswerMeta {
    #[serde(default)]
    name: String,
    #[serde(default)]
    resource_version: String,
}

/// An informer as a witness of writes.
trait Witness: Send + Sync {
    fn revision(&self) -> tokio::sync::watch::Receiver<u64>;
    /// Whether the object with this uid is stored and not being deleted.
    fn holds(&self, namespace: &str, name: &str, uid: &str) -> bool;
}

impl<K: Object> Witness for Informer<K> {
    fn revision(&self) -> tokio::sync::watch::Receiver<u64> {
        Informer::revision(self)
    }

    fn holds(&self, namespace: &str, name: &str, uid: &str) -> bool {
        self.get(Some(namespace), name).is_some_and(|object| {
            let meta = object.meta();
            meta.uid.as_deref() == Some(uid) && meta.deletion_timestamp.is_none()
        })
    }
}

/// Applies plans. Cheap to clone.
#[derive(Clone)]
pub struct Executor {
    client: kube::Client,
    recorder: Recorder,
    metrics: Arc<Metrics>,
    witnesses: HashMap<(String, String), Arc<dyn Witness>>,
}

impl Executor {
    /// An executor without witnesses: [`Self::observed`] returns at once.
    #[must_use]
    pub fn new(client: kube::Client, recorder: Recorder) -> Self {
        Executor { client, recorder, metrics: Arc::default(), witnesses: HashMap::new() }
    }

    /// Lets the informer witness writes of its kind. It must hold every object that is written.
    pub fn witness<K: Object>(&mut self, informer: &Informer<K>) {
        let resource = informer.resource();
        let kind = (resource.group.clone(), resource.kind.clone());
        self.witnesses.insert(kind, Arc::new(informer.clone()));
    }

    /// The counters that writes are counted in.
    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Carries out `actions` in order, up to the first failure.
    pub async fn apply(&self, actions: Vec<Action>) -> Outcome {
        let mut outcome = Outcome::default();
        for action in actions {
            match action {
                Action::Event { regarding, severity, reason, message } => {
                    self.recorder.event(&regarding, event_type(severity), reason, &message);
                }
                Action::Write(write) => {
                    let result = self.write(write).await;
                    outcome.take(result);
                }
                Action::Batch(writes) => self.batch(writes, &mut outcome).await,
            }
            if outcome.failure.is_some() {
                break;
            }
        }
        outcome
    }

    /// One write, then two at once, then four …: a refusal is met by few.
    async fn batch(&self, mut writes: Vec<Write>, outcome: &mut Outcome) {
        let mut width = 1;
        while !writes.is_empty() && outcome.failure.is_none() {
            let rest = writes.split_off(width.min(writes.len()));
            for result in join_all(writes.into_iter().map(|write| self.write(write))).await {
                outcome.take(result);
            }
            writes = rest;
            width = (width * 2).min(BATCH_WIDTH_MAX);
        }
    }

    async fn write(&self, mut write: Write) -> Result<Option<Pending>, Failure> {
        let story = match &mut write {
            Write::Create { narration, .. } | Write::Delete { narration, .. } => narration.take(),
            _ => None,
        };
        let failure = |source: kube::Error| Failure {
            verb: write.verb(),
            kind: write.kind().kind.to_string(),
            name: write.name().to_owned(),
            source: Box::new(source),
        };
        let result = match request(&write) {
            Ok(request) => self.client.request::<Answer>(request).await,
            Err(error) => Err(kube::Error::HttpError(error)),
        };
        match result {
            Ok(answer) => {
                self.metrics.wrote();
                let name = if answer.metadata.name.is_empty() || answer.kind == "Status" {
                    write.name()
                } else {
                    answer.metadata.name.as_str()
                };
                self.tell(story.as_deref(), None, name);
                Ok(pending(&write, &answer))
            }
            Err(error) if is_moot(&write, &error) => Ok(None),
            Err(error) => {
                let failure = failure(error);
                self.tell(story.as_deref(), Some(&failure.message()), &failure.name);
                Err(failure)
            }
        }
    }

    fn tell(&self, story: Option<&Narration>, error: Option<&str>, name: &str) {
        let Some(story) = story else { return };
        let (kind, (reason, text), rest) = match error {
            None => (Type::Normal, story.done, name),
            Some(error) => (Type::Warning, story.failed, error),
        };
        self.recorder.event(&story.regarding, kind, reason, &format!("{text}{rest}"));
    }

    /// Waits until the witnesses show every write of `outcome`, or too long.
    pub async fn observed(&self, outcome: &Outcome) {
        let deadline = Instant::now() + OBSERVE_MAX;
        for pending in &outcome.pending {
            let kind = match pending {
                Pending::Revision { kind, .. } | Pending::Gone { kind, .. } => kind,
            };
            let key = (kind.group.to_string(), kind.kind.to_string());
            let Some(witness) = self.witnesses.get(&key) else { continue };
            if tokio::time::timeout_at(deadline, seen(&**witness, pending)).await.is_err() {
                tracing::warn!(kind = %kind.kind, "own write not seen by the watch in time");
                return;
            }
        }
    }
}

impl Outcome {
    fn take(&mut self, result: Result<Option<Pending>, Failure>) {
        match result {
            Ok(pending) => {
                self.written += 1;
                self.pending.extend(pending);
            }
            // Of several failures in a batch the first is told.
            Err(failure) => {
                self.failure.get_or_insert(failure);
            }
        }
    }
}

async fn seen(witness: &dyn Witness, pending: &Pending) {
    let mut revision = witness.revision();
    loop {
        let known = *revision.borrow_and_update();
        let done = match pending {
            Pending::Revision { revision, .. } => known >= *revision,
            Pending::Gone { namespace, name, uid, .. } => !witness.holds(namespace, name, uid),
        };
        if done {
            return;
        }
        if let Ok(Err(_)) = tokio::time::timeout(OBSERVE_POLL, revision.changed()).await {
            return;
        }
    }
}

fn pending(write: &Write, answer: &Answer) -> Option<Pending> {
    match write {
        Write::Delete { target, uid, .. } => Some(Pending::Gone {
            kind: target.kind.clone(),
            namespace: target.namespace.clone().unwrap_or_default(),
            name: target.name.clone(),
            uid: uid.clone()?,
        }),
        Write::Evict { .. } => None,
        Write::Create { .. } | Write::Update { .. } | Write::Patch { .. } => {
            let revision = answer.metadata.resource_version.parse().ok()?;
            Some(Pending::Revision { kind: write.kind().clone(), revision })
        }
    }
}

/// Whether an error means that there is nothing left to do: the object to be deleted is gone (or
/// another has its name), or the namespace to create in is on its way out.
fn is_moot(write: &Write, error: &kube::Error) -> bool {
    let kube::Error::Api(status) = error else { return false };
    match write {
        Write::Delete { resource_version, .. } => {
            status.code == 404 || (status.code == 409 && resource_version.is_none())
        }
        Write::Evict { .. } => status.code == 404,
        Write::Create { .. } => {
            let mut causes = status.details.iter().flat_map(|details| &details.causes);
            causes.any(|cause| cause.reason == "NamespaceTerminating")
        }
        Write::Update { .. } | Write::Patch { .. } => false,
    }
}

fn event_type(severity: Severity) -> Type {
    match severity {
        Severity::Normal => Type::Normal,
        Severity::Warning => Type::Warning,
    }
}

/// The HTTP request of a write.
fn request(write: &Write) -> Result<Request<Vec<u8>>, http::Error> {
    const JSON: &str = "application/json";
    match write {
        Write::Create { kind, namespace, object, .. } => {
            let path = path(kind, namespace.as_deref(), None, None);
            build(Method::POST, &path, JSON, object)
        }
        Write::Update { target, part, object } => {
            build(Method::PUT, &target_path(target, part.subresource()), JSON, object)
        }
        Write::Patch { target, part, patch } => {
            let (form, body) = match patch {
                Patch::Json(body) => ("application/json-patch+json", body),
                Patch::Merge(body) => ("application/merge-patch+json", body),
                Patch::Strategic(body) => ("application/strategic-merge-patch+json", body),
            };
            build(Method::PATCH, &target_path(target, part.subresource()), form, body)
        }
        Write::Delete { target, uid, resource_version, propagation, grace_s, .. } => {
            let body = delete_options(uid.as_deref(), resource_version.as_deref(), *propagation, *grace_s);
            build(Method::DELETE, &target_path(target, Part::Main.subresource()), JSON, &body)
        }
        Write::Evict { target, uid } => {
            let body = json!({
                "apiVersion": "policy/v1",
                "kind": "Eviction",
                "metadata": { "name": target.name, "namespace": target.namespace },
                "deleteOptions": delete_options(uid.as_deref(), None, None, None),
            });
            build(Method::POST, &target_path(target, Some("eviction")), JSON, &body)
        }
    }
}

fn delete_options(
    uid: Option<&str>,
    resource_version: Option<&str>,
    propagation: Option<Propagation>,
    grace_s: Option<u32>,
) -> Value {
    let mut options = json!({ "apiVersion": "v1", "kind": "DeleteOptions" });
    let mut preconditions = json!({});
    if let Some(uid) = uid {
        preconditions["uid"] = uid.into();
    }
    if let Some(version) = resource_version {
        preconditions["resourceVersion"] = version.into();
    }
    if uid.is_some() || resource_version.is_some() {
        options["preconditions"] = preconditions;
    }
    if let Some(propagation) = propagation {
        options["propagationPolicy"] = match propagation {
            Propagation::Background => "Background",
            Propagation::Foreground => "Foreground",
            Propagation::Orphan => "Orphan",
        }
        .into();
    }
    if let Some(grace) = grace_s {
        options["gracePeriodSeconds"] = grace.into();
    }
    options
}

fn build(method: Method, path: &str, form: &str, body: &Value) -> Result<Request<Vec<u8>>, http::Error> {
    Request::builder()
        .method(method)
        .uri(path)
        .header(http::header::CONTENT_TYPE, form)
        .header(http::header::ACCEPT, "application/json")
        .body(body.to_string().into_bytes())
}

fn target_path(target: &Target, subresource: Option<&str>) -> String {
    path(&target.kind, target.namespace.as_deref(), Some(&target.name), subresource)
}

/// The path of a collection, an object or a subresource.
#[must_use]
pub fn path(kind: &Kind, namespace: Option<&str>, name: Option<&str>, subresource: Option<&str>) -> String {
    let mut path = if kind.group.is_empty() {
        format!("/api/{}", kind.version)
    } else {
        format!("/apis/{}/{}", kind.group, kind.version)
    };
    if let Some(namespace) = namespace.filter(|namespace| !namespace.is_empty()) {
        path.push_str("/namespaces/");
        escape(namespace, &mut path);
    }
    path.push('/');
    path.push_str(&kind.plural);
    for segment in [name, subresource].into_iter().flatten() {
        path.push('/');
        escape(segment, &mut path);
    }
    path
}

/// Appends a path segment with everything but RFC 3986's unreserved characters and `:` escaped.
fn escape(segment: &str, into: &mut String) {
    for byte in segment.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b':') {
            into.push(char::from(byte));
        } else {
            into.push_str(&format!("%{byte:02X}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::{Node, Pod};

    #[test]
    fn paths_follow_group_scope_and_subresource() {
        let pods = Kind::of::<Pod>();
        assert_eq!(path(&pods, Some("ns"), None, None), "/api/v1/namespaces/ns/pods");
        let status = path(&pods, Some("ns"), Some("a"), Some("status"));
        assert_eq!(status, "/api/v1/namespaces/ns/pods/a/status");
        assert_eq!(path(&Kind::of::<Node>(), None, Some("a b/c"), None), "/api/v1/nodes/a%20b%2Fc");
    }

    #[test]
    fn deletions_carry_their_preconditions() {
        let options = delete_options(Some("u"), None, Some(Propagation::Background), Some(0));
        assert_eq!(
            options,
            json!({
                "apiVersion": "v1", "kind": "DeleteOptions",
                "preconditions": { "uid": "u" },
                "propagationPolicy": "Background", "gracePeriodSeconds": 0,
            })
        );
    }
}
