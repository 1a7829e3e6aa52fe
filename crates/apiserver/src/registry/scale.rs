//! The scale subresource: `autoscaling/v1 Scale` as a view of a workload.

use std::sync::Arc;

use bytes::Bytes;
use coracle_api::Gvk;
use coracle_api::meta;
use coracle_api::schema::{self, Schema};
use coracle_api::status::Status;
use coracle_machinery::decode::{self, FieldValidation};
use coracle_machinery::{kinds, managed, patch};
use serde_json::{Value, json};

use crate::registry::fields::{self, Managers};
use crate::registry::index::{Row, ScalePaths};
use crate::registry::options::At;
use crate::registry::patch::{PatchKind, is_apply};
use crate::registry::read::target;
use crate::registry::update::{Change, Part, Target, Wanted};
use crate::registry::{Registry, Reply, apply, bodies, failure, render};
use crate::request::{Call, Verb};

/// The schema of a Scale.
const DEFINITION: &str = "io.k8s.api.autoscaling.v1.Scale";

/// What a request wants of the Scale.
enum Request {
    Replace(Value),
    Patch(PatchKind, Bytes),
    /// What is applied, and whether conflicts are to be won.
    Apply(Value, bool),
}

/// A write of the Scale as a change of the object behind it.
struct SetScale<'a> {
    row: &'a Row,
    request: Request,
    schema: &'a Schema,
    validation: FieldValidation,
    manager: &'a str,
    name: &'a str,
}

impl SetScale<'_> {
    /// Writes down who owns the replicas now.
    fn settle(&self, stored: &Value, object: &mut Value) -> Result<(), Status> {
        let own = ["spec".to_owned(), "replicas".to_owned()];
        let path = paths(self.row).map_or(&own[..], |paths| &paths.spec_replicas);
        let writer = fields::writer(self.row, self.manager, "scale");
        match &self.request {
            Request::Apply(stated, force) => {
                let states = stated.pointer("/spec/replicas").is_some_and(|replicas| !replicas.is_null());
                managed::apply_scale(stored, object, path, states, &writer, *force)
            }
            Request::Replace(_) | Request::Patch(..) => {
                managed::update_scale(stored, object, path, &writer);
                Ok(())
            }
        }
    }
}

impl Change for SetScale<'_> {
    fn apply(&self, stored: &Value) -> Result<Wanted, Status> {
        let mut warnings = Vec::new();
        let wanted = match &self.request {
            Request::Replace(scale) => scale.clone(),
            Request::Patch(kind, body) => {
                let mut scale = kind.apply(&scale_of(self.row, stored), body, self.schema)?;
                warnings = decode::patched(&mut scale, self.schema, self.validation, &gvk(), self.name)?;
                scale
            }
            Request::Apply(stated, _) => {
                managed::check_statement(stated, self.schema, &gvk())?;
                bodies::check_name(stated, self.name)?;
                let mut scale = patch::merge(&scale_of(self.row, stored), stated)?;
                decode::patched(&mut scale, self.schema, FieldValidation::Ignore, &gvk(), self.name)?;
                scale
            }
        };
        bodies::check_name(&wanted, self.name)?;
        let errors = kinds::validate_scale(&wanted);
        if !errors.is_empty() {
            return Err(Status::invalid("autoscaling", "Scale", self.name, errors));
        }
        let mut object = stored.clone();
        set_scale(self.row, &mut object, &wanted);
        self.settle(stored, &mut object)?;
        let version = meta::resource_version(&wanted);
        meta::set(
            &mut object,
            "resourceVersion",
            if version.is_empty() { Value::Null } else { json!(version) },
        );
        Ok(Wanted { object, warnings })
    }
}

impl Registry {
    /// GET, PUT or PATCH of a scale subresource.
    pub(super) async fn scale(&self, row: &Arc<Row>, call: &Call) -> Result<Reply, Status> {
        let key = target(row, call)?;
        if call.info.verb == Verb::Get {
            let object = self.read(row, &key, At::Newest).await?;
            let object = object.ok_or_else(|| failure::object_not_found(row, key.name()))?;
            return render::value(200, &scale_of(row, &bodies::value_as_row(row, object.json())?));
        }
        let part = row.resource.subresource("scale").ok_or_else(failure::resource_not_found)?;
        let mut warnings = Vec::new();
        let request = if is_apply(call) && call.info.verb == Verb::Patch {
            let (stated, told) = apply::statement(call)?;
            warnings = told;
            Request::Apply(stated, apply::is_forced(call))
        } else if call.info.verb == Verb::Patch {
            Request::Patch(PatchKind::of_call(row, call)?, call.body.clone())
        } else {
            let mut scale = bodies::part(row, part, DEFINITION, call)?;
            let namespace = if row.resource.is_namespaced() { call.info.namespace.as_deref() } else { None };
            bodies::settle_namespace(&mut scale, namespace.unwrap_or_default())?;
            Request::Replace(scale)
        };
        let schema = schema::builtin(DEFINITION)
            .ok_or_else(|| Status::internal(format!("there is no schema called {DEFINITION}")))?;
        let (validation, manager) = (call.field_validation, call.field_manager.as_str());
        let change = SetScale { row, request, schema, validation, manager, name: key.name() };
        let target = Target {
            row,
            key: &key,
            part: Part::Object,
            dry_run: call.dry_run,
            demand_version: false,
            managers: Managers::Settled,
        };
        let changed = self.change(&target, &change).await?;
        let object = bodies::value_as_row(row, &changed.body)?;
        warnings.extend(changed.warnings);
        Ok(render::value(200, &scale_of(row, &object))?.with_warnings(warnings))
    }
}

/// The kind that the subresource speaks.
fn gvk() -> Gvk {
    Gvk::new("autoscaling", "v1", "Scale")
}

fn at<'a>(object: &'a Value, path: &[String]) -> Option<&'a Value> {
    if path.is_empty() {
        return None;
    }
    path.iter().try_fold(object, |at, step| at.get(step))
}

/// Where a custom resource keeps what its Scale shows; `None` for built-in workloads.
fn paths(row: &Row) -> Option<&ScalePaths> {
    row.custom.as_ref()?.scale.as_ref()
}

/// The Scale of a workload.
fn scale_of(row: &Row, object: &Value) -> Value {
    let mut scale = kinds::scale_of(object);
    let Some(paths) = paths(row) else { return scale };
    let number = |path: &[String]| at(object, path).and_then(Value::as_i64).unwrap_or_default();
    let selector = at(object, &paths.label_selector).and_then(Value::as_str).unwrap_or_default();
    let wanted = number(&paths.spec_replicas);
    scale["spec"] = if wanted == 0 { json!({}) } else { json!({"replicas": wanted}) };
    scale["status"] = json!({"replicas": number(&paths.status_replicas)});
    if !selector.is_empty() {
        scale["status"]["selector"] = json!(selector);
    }
    scale
}

fn set_scale(row: &Row, object: &mut Value, scale: &Value) {
    let Some(paths) = paths(row) else { return kinds::set_scale(object, scale) };
    let mut at = object;
    for step in &paths.spec_replicas {
        if !at.is_object() {
            *at = json!({});
        }
        at = &mut at[step.as_str()];
    }
    *at = scale.pointer("/spec/replicas").cloned().unwrap_or_else(|| json!(0));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::ResourceIndex;

    #[test]
    fn a_deployment_shows_and_takes_its_replicas() {
        let index = ResourceIndex::builtin();
        let row = index.find("apps", "v1", "deployments").unwrap();
        let mut object = json!({"kind": "Deployment", "metadata": {"name": "d", "resourceVersion": "4"},
            "spec": {"replicas": 0, "selector": {"matchLabels": {"crew": "pump"},
                "matchExpressions": [{"key": "crew", "operator": "Exists"}, {"key": "old", "operator": "DoesNotExist"}]}}});
        let scale = scale_of(row, &object);
        assert_eq!(scale["spec"], json!({}));
        assert_eq!(scale["status"], json!({"replicas": 0, "selector": "crew=pump,crew,!old"}));
        set_scale(row, &mut object, &json!({"spec": {"replicas": 3}}));
        assert_eq!(scale_of(row, &object)["spec"]["replicas"], 3);
    }
}
