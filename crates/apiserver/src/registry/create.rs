//! Create: a body becomes a stored object.

use std::sync::Arc;

use coracle_api::meta;
use coracle_api::status::Status;
use coracle_machinery::{defaults, kinds, managed};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::admission::{Attributes, Operation};
use crate::registry::fields::{self, Managers};
use crate::registry::index::Row;
use crate::registry::read::key_of;
use crate::registry::services::Reservation;
use crate::registry::storage::{self, Outcome};
use crate::registry::{Registry, Reply, Stored, bodies, csr, custom, failure, metadata, render};
use crate::request::Call;

/// How often a generated name that is taken is generated anew.
const NAME_ATTEMPTS_MAX: usize = 8;

impl Registry {
    /// POST of an object to its collection.
    pub(super) async fn create(&self, row: &Arc<Row>, call: &Call) -> Result<Reply, Status> {
        let namespace = match (row.resource.is_namespaced(), call.info.namespace.as_deref()) {
            (true, Some(namespace)) => namespace,
            (false, None) => "",
            (true, None) => return Err(Status::method_unknown()),
            (false, Some(_)) => return Err(failure::resource_not_found()),
        };
        let decoded = bodies::object(row, call)?;
        let managers = Managers::Track(&call.field_manager);
        let (body, mut warnings) = self.create_object(row, call, namespace, decoded.value, managers).await?;
        let mut all = decoded.warnings;
        all.append(&mut warnings);
        Ok(render::object(row, 201, body, call.format.shape)?.with_warnings(all))
    }

    /// Stores a decoded object; answers its JSON and warnings.
    pub(super) async fn create_object(
        &self,
        row: &Arc<Row>,
        call: &Call,
        namespace: &str,
        mut object: Value,
        managers: Managers<'_>,
    ) -> Result<(bytes::Bytes, Vec<String>), Status> {
        if row.custom.as_ref().is_some_and(|custom| custom.terminating) {
            return Err(Status::method_not_allowed(&row.resource.group, &row.resource.plural, "create"));
        }
        bodies::settle_namespace(&mut object, namespace)?;
        let version = meta::resource_version(&object);
        if !matches!(version, "" | "0") && !call.dry_run {
            return Err(failure::without_reason(
                "resourceVersion should not be set on objects to be created",
            ));
        }
        let prefix = meta::generate_name(&object).to_owned();
        let generated = meta::name(&object).is_empty() && !prefix.is_empty();
        let mut attempts = if generated { NAME_ATTEMPTS_MAX } else { 1 };
        loop {
            let mut candidate = if generated { object.clone() } else { std::mem::take(&mut object) };
            if generated {
                meta::set(&mut candidate, "name", metadata::generated_name(&prefix));
            }
            attempts -= 1;
            let (candidate, warnings, reservation) =
                self.admit_new(row, call, namespace, candidate, managers).await?;
            let name = meta::name(&candidate).to_owned();
            match self.store_new(row, call, namespace, &candidate, reservation).await? {
                Ok(body) => return Ok((body, warnings)),
                Err(_) if attempts > 0 => {}
                Err(existing) => return Err(taken(row, &name, existing.as_ref())),
            }
        }
    }

    /// Defaults, admission and validation of a new object, and what it reserves.
    async fn admit_new(
        &self,
        row: &Arc<Row>,
        call: &Call,
        namespace: &str,
        mut object: Value,
        managers: Managers<'_>,
    ) -> Result<(Value, Vec<String>, Option<Reservation>), Status> {
        let schema = row.schema.get()?;
        defaults::apply(&mut object, schema);
        row.rules.default(&mut object);
        if let Managers::Track(manager) = managers {
            managed::update(None, &mut object, schema, &fields::writer(row, manager, ""));
        }
        let managers = fields::take(&mut object);
        let name = meta::name(&object).to_owned();
        let attributes =
            Attributes { operation: Operation::Create, row, subresource: "", namespace, name: &name };
        self.0.admission.admit(&attributes, &mut object, self).await?;
        kinds::create(row.rules, schema, &mut object);
        metadata::begin(&mut object, namespace, Timestamp::now());
        row.rules.identify(&mut object);
        if row.is_custom() {
            custom::prepare_create(row, &mut object);
        }
        if row.is("certificates.k8s.io", "certificatesigningrequests") {
            csr::record_requester(&mut object, &call.user);
        }
        let mut warnings = repeated_owners(&mut object);
        let mut errors = kinds::validate_create(row.rules, &row.resource, &object);
        if row.is("apiextensions.k8s.io", "customresourcedefinitions") {
            custom::prepare_definition(&mut object, None, &mut errors);
        }
        let reservation = if errors.is_empty() && row.is("", "services") {
            match self.0.services.reserve(&mut object, None) {
                Ok(reservation) => Some(reservation),
                Err(refused) => {
                    errors.extend(refused);
                    None
                }
            }
        } else {
            None
        };
        if !errors.is_empty() {
            return Err(Status::invalid(&row.resource.group, &row.resource.kind, &name, errors));
        }
        warnings.extend(row.rules.warnings(&object));
        fields::put(&mut object, managers);
        Ok((object, warnings, reservation))
    }

    /// Writes a new object down; `Err` inside when the name is taken.
    async fn store_new(
        &self,
        row: &Arc<Row>,
        call: &Call,
        namespace: &str,
        object: &Value,
        reservation: Option<Reservation>,
    ) -> Result<Result<bytes::Bytes, Option<Value>>, Status> {
        let key = key_of(row, namespace, meta::name(object))?;
        let stored = row.encode(object);
        if call.dry_run {
            let found = storage::get(&*self.0.kv, key.bytes()).await.map_err(|e| failure::store(&e))?;
            return Ok(match found {
                None => Ok(without_version(&stored)),
                Some(kv) => Err(Stored::decode(&kv.value).ok().and_then(|stored| stored.value().ok())),
            });
        }
        match self.put(row, key.bytes(), 0, &stored).await? {
            Outcome::Done(revision) => {
                if let Some(reservation) = reservation {
                    reservation.commit();
                }
                if row.is("apiextensions.k8s.io", "customresourcedefinitions") {
                    self.definition_changed(meta::name(object)).await;
                }
                Ok(Ok(stored.with_version(revision)))
            }
            Outcome::Differs(found) => {
                let existing = found
                    .and_then(|kv| Stored::decode(&kv.value).ok())
                    .and_then(|stored| stored.value().ok());
                Ok(Err(existing))
            }
        }
    }

    /// Writes one object if its last change was `expected`; events get a lease.
    pub(super) async fn put(
        &self,
        row: &Row,
        key: bytes::Bytes,
        expected: i64,
        stored: &Stored,
    ) -> Result<Outcome, Status> {
        let kv = &*self.0.kv;
        if !row.is("", "events") {
            return storage::put(kv, key, expected, stored.encode(), 0).await.map_err(|e| failure::store(&e));
        }
        let lease = self.0.event_leases.lease(kv).await.map_err(|e| failure::store(&e))?;
        match storage::put(kv, key.clone(), expected, stored.encode(), lease).await {
            Err(coracle_store::Error::LeaseNotFound) => {
                self.0.event_leases.forget(lease).await;
                let lease = self.0.event_leases.lease(kv).await.map_err(|e| failure::store(&e))?;
                storage::put(kv, key, expected, stored.encode(), lease).await.map_err(|e| failure::store(&e))
            }
            other => other.map_err(|e| failure::store(&e)),
        }
    }
}

/// The JSON of what would be stored: a dry run has no resourceVersion to show.
fn without_version(stored: &Stored) -> bytes::Bytes {
    stored.json.clone()
}

fn taken(row: &Row, name: &str, existing: Option<&Value>) -> Status {
    let mut status = Status::already_exists(&row.resource.group, &row.resource.plural, name);
    if existing.is_some_and(meta::is_deleting) {
        status.message = format!("object is being deleted: {}", status.message);
    }
    status
}

/// Drops owner references that repeat one before them; answers a warning when there were.
pub(super) fn repeated_owners(object: &mut Value) -> Vec<String> {
    let Some(owners) = object.pointer_mut("/metadata/ownerReferences").and_then(Value::as_array_mut) else {
        return Vec::new();
    };
    let mut kept: Vec<Value> = Vec::with_capacity(owners.len());
    let mut repeated: Vec<String> = Vec::new();
    for owner in owners.drain(..) {
        if kept.contains(&owner) {
            repeated.push(meta::text(&owner, "uid").to_owned());
        } else {
            kept.push(owner);
        }
    }
    *owners = kept;
    if repeated.is_empty() {
        return Vec::new();
    }
    vec![format!(
        ".metadata.ownerReferences contains duplicate entries; API server dedups owner references in 1.20+, and may \
         reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: {}",
        repeated.join(", ")
    )]
}

/// The Status that answers a subresource which only acts.
pub(super) fn created_status() -> Result<Reply, Status> {
    let mut status = Status::success(None);
    status.code = 201;
    render::value(201, &json!(status))
}
