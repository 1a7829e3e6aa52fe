//! Server-side apply: PATCH with `application/apply-patch+yaml`, which creates what is not there.

use std::sync::Arc;

use coracle_api::Gvk;
use coracle_api::meta;
use coracle_api::schema::Schema;
use coracle_api::status::Status;
use coracle_machinery::decode::{self, FieldValidation};
use coracle_machinery::managed;
use serde_json::{Map, Value};

use crate::registry::fields::{self, Managers};
use crate::registry::index::Row;
use crate::registry::read::target;
use crate::registry::update::{Change, Part, Target, Wanted};
use crate::registry::{Registry, Reply, bodies, render};
use crate::request::Call;

/// How often an application tries to create what others create and delete meanwhile.
const ATTEMPTS_MAX: usize = 4;

/// What a manager states about an object.
struct ApplyObject<'a> {
    row: &'a Row,
    stated: &'a Value,
    schema: &'a Schema,
    gvk: Gvk,
    manager: &'a str,
    part: Part,
    force: bool,
    namespace: &'a str,
    name: &'a str,
}

impl ApplyObject<'_> {
    /// The object with the statement laid over it, fitted to its schema, with its managers.
    fn lay_over(&self, stored: Option<&Value>) -> Result<Value, Status> {
        let writer = fields::writer(self.row, self.manager, self.part.as_str());
        let mut object = managed::apply(stored, self.stated, self.schema, &self.gvk, &writer, self.force)?;
        bodies::settle_namespace(&mut object, self.namespace)?;
        bodies::check_name(&object, self.name)?;
        let managers = fields::take(&mut object);
        // Unknown fields were refused; this drops nulls and makes values canonical.
        decode::patched(&mut object, self.schema, FieldValidation::Ignore, &self.gvk, self.name)?;
        fields::put(&mut object, managers);
        Ok(object)
    }
}

impl Change for ApplyObject<'_> {
    fn apply(&self, stored: &Value) -> Result<Wanted, Status> {
        self.lay_over(Some(stored)).map(Wanted::from)
    }
}

impl Registry {
    /// Server-side apply of an object or of a part that speaks the object's own kind.
    pub(super) async fn apply(&self, row: &Arc<Row>, call: &Call, part: Part) -> Result<Reply, Status> {
        let key = target(row, call)?;
        let (stated, mut warnings) = statement(call)?;
        let namespace = if row.resource.is_namespaced() {
            call.info.namespace.as_deref().unwrap_or_default()
        } else {
            ""
        };
        let change = ApplyObject {
            row,
            stated: &stated,
            schema: row.schema.get()?,
            gvk: row.resource.gvk(),
            manager: &call.field_manager,
            part,
            force: is_forced(call),
            namespace,
            name: key.name(),
        };
        let managers = Managers::Settled;
        let target = Target { row, key: &key, part, dry_run: call.dry_run, demand_version: false, managers };
        for attempt in 1.. {
            let missing = match self.change(&target, &change).await {
                Ok(changed) => {
                    warnings.extend(changed.warnings);
                    return Ok(
                        render::object(row, 200, changed.body, call.format.shape)?.with_warnings(warnings)
                    );
                }
                Err(status) if status.code == 404 && part == Part::Object => status,
                Err(status) => return Err(status),
            };
            match self.apply_new(&change, row, call).await {
                Ok((body, more)) => {
                    warnings.extend(more);
                    return Ok(render::object(row, 201, body, call.format.shape)?.with_warnings(warnings));
                }
                Err(status) if status.reason == "AlreadyExists" && attempt < ATTEMPTS_MAX => {}
                Err(status) if status.reason == "AlreadyExists" => return Err(missing),
                Err(status) => return Err(status),
            }
        }
        Err(Status::internal("an application ended without an answer"))
    }

    /// Makes the object of what is stated and nothing else.
    async fn apply_new(
        &self,
        change: &ApplyObject<'_>,
        row: &Arc<Row>,
        call: &Call,
    ) -> Result<(bytes::Bytes, Vec<String>), Status> {
        let mut object = change.lay_over(None)?;
        let uid = meta::uid(&object);
        if !uid.is_empty() {
            let why = format!(
                "uid mismatch: the provided object specified uid {uid}, and no existing object was found"
            );
            return Err(Status::conflict(&row.resource.group, &row.resource.plural, change.name, why));
        }
        call.may_create()?;
        // A version that nothing has any more does not stop the creation.
        meta::set(&mut object, "resourceVersion", Value::Null);
        self.create_object(row, call, change.namespace, object, Managers::Settled).await
    }
}

/// Whether conflicts are to be won.
pub(super) fn is_forced(call: &Call) -> bool {
    call.info.query.flag("force").unwrap_or_default()
}

/// The statement in the body of an application, and warnings about it.
///
/// # Errors
/// 400 for what is no YAML, or says a field twice under strict validation.
pub(super) fn statement(call: &Call) -> Result<(Value, Vec<String>), Status> {
    let (value, duplicates) = decode::yaml_document(&call.body)
        .map_err(|why| Status::bad_request(format!("error decoding YAML: {why}")))?;
    let value = match value {
        Value::Null => Value::Object(Map::new()),
        value @ Value::Object(_) => value,
        _ => {
            let why = "json: cannot unmarshal into Go value of type map[string]interface {}";
            return Err(Status::bad_request(format!("error decoding YAML: error unmarshaling JSON: {why}")));
        }
    };
    let warnings: Vec<String> =
        duplicates.iter().map(|path| format!("key {path:?} already set in map")).collect();
    match call.field_validation {
        FieldValidation::Strict if !warnings.is_empty() => {
            Err(Status::bad_request(format!("error strict decoding YAML: {}", warnings.join(", "))))
        }
        FieldValidation::Ignore => Ok((value, Vec::new())),
        FieldValidation::Strict | FieldValidation::Warn => Ok((value, warnings)),
    }
}
