//! Update: what is stored becomes something else, under optimistic concurrency.
//!
//! Every change of an object goes through [`Registry::change`], whatever asked for it: read
//! (from the cache, where that is enough), make the new object, admit and validate it, and
//! write it if nobody was faster; otherwise once more with what the other left. Errors and
//! no-ops that were computed from the cache are confirmed with the store's state before they
//! are answered.

use std::sync::Arc;

use bytes::Bytes;
use coracle_api::field::{FieldError, FieldErrors};
use coracle_api::meta;
use coracle_api::status::Status;
use coracle_machinery::{defaults, kinds, managed};
use coracle_store::KeyValue;
use serde_json::Value;

use crate::admission::{Attributes, Operation};
use crate::registry::fields::{self, Managers};
use crate::registry::index::Row;
use crate::registry::key::ObjectKey;
use crate::registry::read::target;
use crate::registry::services::{self, Reservation};
use crate::registry::storage::{self, Outcome};
use crate::registry::{Registry, Reply, bodies, create, csr, custom, failure, metadata, namespaces, render};
use crate::request::Call;

/// How often a change that lost a race is tried again.
const ATTEMPTS_MAX: usize = 10;

/// Kinds whose update must say which version it replaces, besides all custom resources.
const CONDITIONAL: &[(&str, &str)] = &[
    ("coordination.k8s.io", "leases"),
    ("policy", "poddisruptionbudgets"),
    ("admissionregistration.k8s.io", "validatingwebhookconfigurations"),
    ("admissionregistration.k8s.io", "mutatingwebhookconfigurations"),
    ("apiextensions.k8s.io", "customresourcedefinitions"),
    ("apiregistration.k8s.io", "apiservices"),
    ("node.k8s.io", "runtimeclasses"),
    ("storage.k8s.io", "csidrivers"),
    ("storage.k8s.io", "csinodes"),
    ("storage.k8s.io", "volumeattachments"),
];

/// Kinds that a PUT creates when they are not there.
const CREATED_ON_UPDATE: &[(&str, &str)] = &[
    ("", "endpoints"),
    ("", "events"),
    ("", "limitranges"),
    ("", "services"),
    ("coordination.k8s.io", "leases"),
    ("rbac.authorization.k8s.io", "roles"),
    ("rbac.authorization.k8s.io", "rolebindings"),
    ("rbac.authorization.k8s.io", "clusterroles"),
    ("rbac.authorization.k8s.io", "clusterrolebindings"),
];

/// Which part of an object a change is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Everything but the status.
    Object,
    /// The status.
    Status,
    /// The approval of a CSR.
    Approval,
    /// The finalizers in a namespace's spec.
    Finalize,
    /// What the server itself sets (bindings, deletion marks): taken as it is.
    Server,
}

impl Part {
    /// The name of the subresource.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Object | Self::Server => "",
            Self::Status => "status",
            Self::Approval => "approval",
            Self::Finalize => "finalize",
        }
    }
}

/// What a request makes of the stored object. Called again when a race was lost.
pub(super) trait Change: Send + Sync {
    /// The object as the request wants it, from the one stored (with resourceVersion).
    fn apply(&self, stored: &Value) -> Result<Wanted, Status>;
}

/// An object that a request wants, and warnings about it.
pub(super) struct Wanted {
    /// The object.
    pub(super) object: Value,
    /// What the client is to be told.
    pub(super) warnings: Vec<String>,
}

impl From<Value> for Wanted {
    fn from(object: Value) -> Self {
        Self { object, warnings: Vec::new() }
    }
}

/// Where and how a change is made.
pub(super) struct Target<'a> {
    /// The resource.
    pub(super) row: &'a Arc<Row>,
    /// The object.
    pub(super) key: &'a ObjectKey,
    /// Which part of it.
    pub(super) part: Part,
    /// Whether to only pretend.
    pub(super) dry_run: bool,
    /// Whether the object is the client's own whole: one without resourceVersion is refused for
    /// kinds that demand one, and another uid is a precondition.
    pub(super) demand_version: bool,
    /// Who finds out about the managers.
    pub(super) managers: Managers<'a>,
}

/// How a change ended.
pub(super) struct Changed {
    /// The object as it is now (or would be, or last was), as JSON with its version.
    pub(super) body: Bytes,
    /// What the client is to be told.
    pub(super) warnings: Vec<String>,
}

/// What is stored, as far as is known.
struct Current {
    revision: i64,
    body: Bytes,
    value: Value,
    /// Read from the store, not from the cache.
    confirmed: bool,
}

/// What a change comes to.
enum Revision {
    /// Nothing differs.
    Same,
    /// This is to be stored.
    Write(Value, Option<Reservation>),
    /// The object is released, and goes; this is its last state.
    Remove(Value),
}

/// PUT: the body takes the place of what is stored.
struct Replace(Value);

impl Change for Replace {
    fn apply(&self, _: &Value) -> Result<Wanted, Status> {
        Ok(self.0.clone().into())
    }
}

impl Registry {
    /// PUT of an object.
    pub(super) async fn update(&self, row: &Arc<Row>, call: &Call, part: Part) -> Result<Reply, Status> {
        let key = target(row, call)?;
        let decoded = bodies::object(row, call)?;
        let mut object = decoded.value;
        let namespace = if row.resource.is_namespaced() {
            call.info.namespace.as_deref().unwrap_or_default()
        } else {
            ""
        };
        bodies::check_name(&object, key.name())?;
        bodies::settle_namespace(&mut object, namespace)?;
        let target = Target {
            row,
            key: &key,
            part,
            dry_run: call.dry_run,
            demand_version: true,
            managers: Managers::Track(&call.field_manager),
        };
        let replace = Replace(object);
        match self.change(&target, &replace).await {
            Ok(changed) => {
                let mut warnings = decoded.warnings;
                warnings.extend(changed.warnings);
                Ok(render::object(row, 200, changed.body, call.format.shape)?.with_warnings(warnings))
            }
            Err(status) if status.code == 404 && part == Part::Object && creates(row) => {
                call.may_create()?;
                let mut object = replace.0;
                meta::set(&mut object, "resourceVersion", Value::Null);
                let (body, warnings) =
                    self.create_object(row, call, namespace, object, target.managers).await?;
                Ok(render::object(row, 201, body, call.format.shape)?.with_warnings(warnings))
            }
            Err(status) => Err(status),
        }
    }

    /// Changes one object.
    ///
    /// # Errors
    /// 404, 409 and whatever the change, admission and validation refuse.
    pub(super) async fn change(&self, target: &Target<'_>, change: &dyn Change) -> Result<Changed, Status> {
        let mut current = self.current(target).await?;
        for _ in 0..ATTEMPTS_MAX {
            let revised = self.revise(target, change, &current).await;
            let (revision, warnings) = match revised {
                Ok((Revision::Same, warnings)) if current.confirmed => {
                    return Ok(Changed { body: current.body, warnings });
                }
                Err(status) if current.confirmed => return Err(status),
                Ok((Revision::Same, _)) | Err(_) => {
                    current = self.confirm(target).await?;
                    continue;
                }
                Ok(other) => other,
            };
            match self.carry_out(target, &current, revision).await? {
                Ok(body) => return Ok(Changed { body, warnings }),
                Err(Some(found)) => current = self.stored(target, &found)?,
                Err(None) => return Err(failure::object_not_found(target.row, target.key.name())),
            }
        }
        Err(failure::object_modified(target.row, target.key.name()))
    }

    /// Writes a revision; `Err` inside with what is stored when somebody was faster.
    async fn carry_out(
        &self,
        target: &Target<'_>,
        current: &Current,
        revision: Revision,
    ) -> Result<Result<Bytes, Option<KeyValue>>, Status> {
        let row = target.row;
        match revision {
            Revision::Same => Ok(Ok(current.body.clone())),
            Revision::Write(value, reservation) => {
                let stored = row.encode(&value);
                if target.dry_run {
                    return Ok(Ok(stored.with_version(current.revision)));
                }
                match self.put(row, target.key.bytes(), current.revision, &stored).await? {
                    Outcome::Differs(found) => Ok(Err(found)),
                    Outcome::Done(revision) => {
                        if let Some(reservation) = reservation {
                            reservation.commit();
                        }
                        if row.is("apiextensions.k8s.io", "customresourcedefinitions") {
                            self.definition_changed(target.key.name()).await;
                        }
                        Ok(Ok(stored.with_version(revision)))
                    }
                }
            }
            Revision::Remove(value) => {
                let last = row.encode(&value);
                if target.dry_run {
                    return Ok(Ok(last.with_version(current.revision)));
                }
                match self.remove(row, target.key, current.revision, &current.value).await? {
                    Outcome::Differs(found) => Ok(Err(found)),
                    Outcome::Done(revision) => Ok(Ok(last.with_version(revision))),
                }
            }
        }
    }

    /// Deletes one object whose last change was `expected`, and frees what it had.
    pub(super) async fn remove(
        &self,
        row: &Row,
        key: &ObjectKey,
        expected: i64,
        last: &Value,
    ) -> Result<Outcome, Status> {
        let outcome =
            storage::delete(&*self.0.kv, key.bytes(), expected).await.map_err(|e| failure::store(&e))?;
        if matches!(outcome, Outcome::Done(_)) {
            if row.is("", "services") {
                self.0.services.forget(last);
            }
            if row.is("apiextensions.k8s.io", "customresourcedefinitions") {
                self.definition_changed(key.name()).await;
            }
        }
        Ok(outcome)
    }

    /// What the cache knows, or else the store.
    async fn current(&self, target: &Target<'_>) -> Result<Current, Status> {
        if let Some(object) =
            self.0.caches.ready(target.row.stored.path()).and_then(|c| c.get(target.key.tail()))
        {
            let value = bodies::value_as_row(target.row, object.json())?;
            return Ok(Current { revision: object.revision, body: object.body(), value, confirmed: false });
        }
        self.confirm(target).await
    }

    /// What the store holds.
    async fn confirm(&self, target: &Target<'_>) -> Result<Current, Status> {
        let found = storage::get(&*self.0.kv, target.key.bytes()).await.map_err(|e| failure::store(&e))?;
        match found {
            Some(kv) => self.stored(target, &kv),
            None => Err(failure::object_not_found(target.row, target.key.name())),
        }
    }

    fn stored(&self, target: &Target<'_>, kv: &KeyValue) -> Result<Current, Status> {
        let (stored, _) = target.row.stored.decode(&kv.value).map_err(|e| failure::envelope(&e))?;
        let body = stored.with_version(kv.mod_revision);
        let value = bodies::value_as_row(target.row, &body)?;
        Ok(Current { revision: kv.mod_revision, body, value, confirmed: true })
    }

    /// The new object, admitted and validated.
    async fn revise(
        &self,
        target: &Target<'_>,
        change: &dyn Change,
        current: &Current,
    ) -> Result<(Revision, Vec<String>), Status> {
        let (row, old) = (target.row, &current.value);
        let Wanted { object: mut new, mut warnings } = change.apply(old)?;
        check_conditions(target, &new, old)?;
        metadata::keep(&mut new, old);
        if target.part == Part::Server {
            return Ok((outcome(new, old, row, None), warnings));
        }
        let managers = settle(target, &mut new, old)?;
        prepare(target, &mut new, old)?;
        let namespace = meta::namespace(old).to_owned();
        let attributes = Attributes {
            operation: Operation::Update,
            row,
            subresource: target.part.as_str(),
            namespace: &namespace,
            name: target.key.name(),
        };
        self.0.admission.admit(&attributes, &mut new, self).await?;
        warnings.append(&mut create::repeated_owners(&mut new));
        let mut errors = validate(target, &new, old);
        if row.is("apiextensions.k8s.io", "customresourcedefinitions") && target.part == Part::Object {
            custom::prepare_definition(&mut new, Some(old), &mut errors);
        }
        let mut reservation = None;
        if errors.is_empty() && row.is("", "services") && target.part == Part::Object {
            match self.0.services.reserve(&mut new, Some(old)) {
                Ok(reserved) => reservation = Some(reserved),
                Err(refused) => errors = refused,
            }
        }
        if !errors.is_empty() {
            return Err(Status::invalid(&row.resource.group, &row.resource.kind, target.key.name(), errors));
        }
        warnings.extend(row.rules.warnings(&new));
        fields::put(&mut new, managers);
        Ok((outcome(new, old, row, reservation), warnings))
    }
}

/// Whether a PUT makes an object of this kind.
fn creates(row: &Row) -> bool {
    CREATED_ON_UPDATE.contains(&(&*row.resource.group, &*row.resource.plural))
}

/// The uid and resourceVersion that the new object names must be those of the old one.
fn check_conditions(target: &Target<'_>, new: &Value, old: &Value) -> Result<(), Status> {
    let (row, name) = (target.row, target.key.name());
    let (group, plural) = (&*row.resource.group, &*row.resource.plural);
    let (version, stored) = (meta::resource_version(new), meta::resource_version(old));
    let unconditional = matches!(version, "" | "0");
    if unconditional && target.demand_version && (row.is_custom() || CONDITIONAL.contains(&(group, plural))) {
        let error = FieldError::invalid("metadata.resourceVersion", 0, "must be specified for an update");
        return Err(Status::invalid(group, plural, name, vec![error]));
    }
    let uid = meta::uid(new);
    if !uid.is_empty() && uid != meta::uid(old) && !target.demand_version {
        let error = FieldError::invalid("metadata.uid", uid, "field is immutable");
        return Err(Status::invalid(group, &row.resource.kind, name, vec![error]));
    }
    if !uid.is_empty() && uid != meta::uid(old) {
        return Err(Status::conflict(
            group,
            plural,
            name,
            format!(
                "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
                meta::uid(old)
            ),
        ));
    }
    if !unconditional && version != stored {
        return Err(failure::object_modified(row, name));
    }
    Ok(())
}

/// Defaults the object and finds out who owns its fields; answers the managers, which are kept
/// apart from now on.
fn settle(target: &Target<'_>, new: &mut Value, old: &Value) -> Result<Value, Status> {
    let row = target.row;
    if let Managers::Track(manager) = target.managers {
        let schema = row.schema.get()?;
        defaults::apply(new, schema);
        row.rules.default(new);
        managed::update(Some(old), new, schema, &fields::writer(row, manager, target.part.as_str()));
    }
    Ok(fields::take(new))
}

/// Takes from the request what its part may change, and leaves the rest as it was.
fn prepare(target: &Target<'_>, new: &mut Value, old: &Value) -> Result<(), Status> {
    let row = target.row;
    let schema = row.schema.get()?;
    match target.part {
        Part::Object if row.is_custom() => {
            defaults::apply(new, schema);
            custom::prepare_update(row, new, old);
        }
        Part::Object => {
            if row.is("", "services") {
                services::carry_over(new, old);
            }
            kinds::update(row.rules, schema, new, old);
        }
        Part::Status if row.is_custom() => {
            custom::prepare_status(new, old);
            defaults::apply(new, schema);
        }
        Part::Status => kinds::update_status(row.rules, schema, new, old),
        Part::Approval => csr::prepare_approval(new, old),
        Part::Finalize => namespaces::prepare_finalize(new, old),
        Part::Server => {}
    }
    Ok(())
}

fn validate(target: &Target<'_>, new: &Value, old: &Value) -> FieldErrors {
    let (row, resource) = (target.row, &target.row.resource);
    match target.part {
        Part::Object => kinds::validate_update(row.rules, resource, new, old),
        Part::Status | Part::Finalize => kinds::validate_status(row.rules, resource, new, old),
        Part::Approval => csr::validate_approval(new, old),
        Part::Server => FieldErrors::new(),
    }
}

fn outcome(new: Value, old: &Value, row: &Row, reservation: Option<Reservation>) -> Revision {
    if metadata::is_released(&new) && namespaces::is_released(row, &new) {
        Revision::Remove(new)
    } else if new == *old || managed::same_but_times(&new, old) {
        Revision::Same
    } else {
        Revision::Write(new, reservation)
    }
}
