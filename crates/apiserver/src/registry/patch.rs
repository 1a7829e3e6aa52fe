//! Patch: the request says how what is stored becomes something else.

use std::sync::Arc;

use bytes::Bytes;
use coracle_api::Gvk;
use coracle_api::schema::Schema;
use coracle_api::status::Status;
use coracle_machinery::decode::{self, FieldValidation};
use coracle_machinery::patch;
use serde_json::Value;

use crate::registry::bodies;
use crate::registry::fields::Managers;
use crate::registry::index::Row;
use crate::registry::read::target;
use crate::registry::render;
use crate::registry::update::{Change, Part, Target, Wanted};
use crate::registry::{Registry, Reply};
use crate::request::Call;

/// The patch types of built-in kinds.
const BUILTIN_TYPES: &[&str] = &[
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    APPLY,
];
/// Those of custom resources, whose schemas have no merge strategies.
const CUSTOM_TYPES: &[&str] = &["application/json-patch+json", "application/merge-patch+json", APPLY];
/// Server-side apply, of which CBOR is not read.
const APPLY: &str = "application/apply-patch+yaml";

/// How a patch body is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PatchKind {
    /// RFC 6902.
    Json,
    /// RFC 7396.
    Merge,
    /// Kubernetes' merge that knows lists.
    Strategic,
}

/// Whether a call is a server-side apply.
pub(super) fn is_apply(call: &Call) -> bool {
    call.content_type.as_deref() == Some(APPLY)
}

impl PatchKind {
    /// The kind that a call's content type names.
    ///
    /// # Errors
    /// 415 for types that are no patch, or no patch of this resource.
    pub(super) fn of_call(row: &Row, call: &Call) -> Result<Self, Status> {
        let offered = if row.is_custom() { CUSTOM_TYPES } else { BUILTIN_TYPES };
        match call.content_type.as_deref() {
            Some("application/json-patch+json") => Ok(Self::Json),
            Some("application/merge-patch+json") => Ok(Self::Merge),
            Some("application/strategic-merge-patch+json") if !row.is_custom() => Ok(Self::Strategic),
            Some("application/strategic-merge-patch+json" | "application/apply-patch+cbor") => {
                Err(Status::unsupported_media_type(offered))
            }
            _ => Err(Status::failure(415, "UnsupportedMediaType", "415: Unsupported Media Type")),
        }
    }

    /// Applies a patch body to an object.
    ///
    /// # Errors
    /// 400 for what is no patch, 422 for one that cannot be applied.
    pub(super) fn apply(self, object: &Value, body: &[u8], schema: &Schema) -> Result<Value, Status> {
        match self {
            Self::Json => patch::json(object, body),
            Self::Merge => patch::merge(object, &patch::parse(body)?),
            Self::Strategic => patch::strategic(object, &patch::parse(body)?, schema),
        }
    }
}

/// A patch of an object.
struct PatchObject<'a> {
    kind: PatchKind,
    body: Bytes,
    schema: &'a Schema,
    validation: FieldValidation,
    gvk: Gvk,
    namespace: &'a str,
    name: &'a str,
}

impl Change for PatchObject<'_> {
    fn apply(&self, stored: &Value) -> Result<Wanted, Status> {
        let mut object = self.kind.apply(stored, &self.body, self.schema)?;
        bodies::check_name(&object, self.name)?;
        bodies::settle_namespace(&mut object, self.namespace)?;
        let warnings = decode::patched(&mut object, self.schema, self.validation, &self.gvk, self.name)?;
        decode::check_type(&mut object, &self.gvk)?;
        Ok(Wanted { object, warnings })
    }
}

impl Registry {
    /// PATCH of an object or of a part that speaks the object's own kind.
    pub(super) async fn patch(&self, row: &Arc<Row>, call: &Call, part: Part) -> Result<Reply, Status> {
        if is_apply(call) {
            return self.apply(row, call, part).await;
        }
        let kind = PatchKind::of_call(row, call)?;
        let key = target(row, call)?;
        let namespace = if row.resource.is_namespaced() {
            call.info.namespace.as_deref().unwrap_or_default()
        } else {
            ""
        };
        let change = PatchObject {
            kind,
            body: call.body.clone(),
            schema: row.schema.get()?,
            validation: call.field_validation,
            gvk: row.resource.gvk(),
            namespace,
            name: key.name(),
        };
        let managers = Managers::Track(&call.field_manager);
        let target = Target { row, key: &key, part, dry_run: call.dry_run, demand_version: false, managers };
        let changed = self.change(&target, &change).await?;
        Ok(render::object(row, 200, changed.body, call.format.shape)?.with_warnings(changed.warnings))
    }
}
