//! Server-side apply (KEP-555): a manager states the fields that it cares about.
//!
//! The statement is laid over the live object; what the manager stated last time and nobody else
//! owns goes; fields that others own with another value are conflicts, unless they are forced. Two
//! managers may own a field that both state with one value.

use coracle_api::schema::Schema;
use coracle_api::{Gvk, Status, meta};
use serde_json::{Map, Value};

use super::check::check;
use super::compare::compare;
use super::conflict::{Conflict, refusal};
use super::entries::{Managers, Operation, Owner};
use super::form::Place;
use super::last_applied;
use super::merge::merge;
use super::owned::owned;
use super::prune::prune;
use super::reset::strip;
use super::set::Set;
use super::update::{Writer, lose, track};

/// The manager of what was there before the first application.
const BEFORE: &str = "before-first-apply";
/// The manager whose applications take over from `kubectl apply` without `--server-side`.
const KUBECTL: &str = "kubectl";

/// Applies `applied` to `live`, or to nothing. Answers the object with its managers; it is as the
/// client wrote it in parts, and must still be fitted, defaulted and validated.
///
/// # Errors
/// 400 when the statement is of another kind or names managers, 500 when it does not fit the
/// schema, 409 with a cause for each field that others own with another value.
pub fn apply(
    live: Option<&Value>,
    applied: &Value,
    schema: &Schema,
    gvk: &Gvk,
    writer: &Writer<'_>,
    force: bool,
) -> Result<Value, Status> {
    check_statement(applied, schema, gvk)?;
    let mut bare = live.cloned().unwrap_or_else(|| Value::Object(Map::new()));
    let mut managers = Managers::of(&bare);
    meta::set(&mut bare, "managedFields", Value::Null);
    if managers.is_empty() && live.is_some() {
        let before = Writer { manager: BEFORE, ..*writer };
        track(&mut managers, &Value::Object(Map::new()), &bare, schema, &before);
    }
    let application = Application { live: &bare, applied, schema, managers: &managers, writer };
    let outcome = match application.run(force) {
        Err(conflicts) if writer.manager == KUBECTL => {
            let allowed = last_applied::owned_by_annotation(&bare, schema, writer.api_version);
            let left = allowed.map(|allowed| conflicts.iter().filter_map(|c| c.without(&allowed)).collect());
            match left {
                Some(left) if Vec::is_empty(&left) => application.run(true),
                Some(left) => Err(left),
                None => Err(conflicts),
            }
        }
        other => other,
    };
    let (mut object, managers) = outcome.map_err(|conflicts| refusal(&conflicts))?;
    if writer.manager == KUBECTL {
        last_applied::refresh(&mut object, applied);
    }
    managers.put(&mut object);
    Ok(object)
}

/// Checks that a statement is of the kind, names no managers and fits the schema.
///
/// # Errors
/// 400 for the first two, 500 for the last.
pub fn check_statement(applied: &Value, schema: &Schema, gvk: &Gvk) -> Result<(), Status> {
    let (api_version, kind) = (meta::api_version(applied), meta::kind(applied));
    if api_version != gvk.api_version() || kind != gvk.kind {
        // Go prints a group and version, of which the core group leaves the first part out.
        let slash = if api_version.contains('/') { "" } else { "/" };
        return Err(Status::bad_request(format!("invalid object type: {slash}{api_version}, Kind={kind}")));
    }
    if applied.pointer("/metadata/managedFields").is_some_and(|fields| !fields.is_null()) {
        return Err(Status::bad_request("metadata.managedFields must be nil"));
    }
    let problems = check(applied, schema);
    if problems.is_empty() {
        return Ok(());
    }
    let problems = match problems.as_slice() {
        [one] => one.clone(),
        all => format!("errors:\n{}", all.iter().map(|p| format!("  {p}")).collect::<Vec<_>>().join("\n")),
    };
    let namespace = match meta::namespace(applied) {
        "" => String::new(),
        namespace => format!("{namespace}/"),
    };
    let name = meta::name(applied);
    Err(Status::failure(
        500,
        "",
        format!(
            "failed to create typed patch object ({namespace}{name}; {api_version}, Kind={kind}): {problems}"
        ),
    ))
}

struct Application<'a> {
    live: &'a Value,
    applied: &'a Value,
    schema: &'a Schema,
    managers: &'a Managers,
    writer: &'a Writer<'a>,
}

impl Application<'_> {
    fn run(&self, force: bool) -> Result<(Value, Managers), Vec<Conflict>> {
        let place = Place::root(self.schema);
        let id = self.writer.id(Operation::Apply);
        let mut managers = self.managers.clone();
        let stated = self.writer.reset.filter(owned(self.applied, place));
        let last = managers.0.remove(&id);
        let last_set = last.as_ref().map(|owner| owner.fields.clone()).unwrap_or_default();
        let everybody = managers.0.values().fold(stated.clone(), |all, owner| all.union(&owner.fields));
        let merged = merge(self.live, self.applied, place);
        let object = prune(merged, &last_set, &everybody, place);

        let changes = compare(self.live, &object, place).map(|set| self.writer.reset.filter(set));
        let conflicts = self.conflicts(&managers, &changes.set());
        if !force && !conflicts.is_empty() {
            return Err(conflicts);
        }
        lose(&mut managers, &changes);
        let fields = strip(stated);
        // An application that changes nothing leaves no time behind.
        let time = if object == *self.live { last.and_then(|owner| owner.time) } else { self.writer.time() };
        if !fields.is_empty() {
            let api_version = self.writer.api_version.to_owned();
            managers.0.insert(id, Owner { api_version, time, fields });
        }
        Ok((object, managers))
    }

    fn conflicts(&self, managers: &Managers, changed: &Set) -> Vec<Conflict> {
        let mut conflicts = Vec::new();
        for (id, owner) in &managers.0 {
            let fields = owner.fields.intersection(changed);
            if !fields.is_empty() {
                conflicts.push(Conflict { manager: id.shown(&owner.api_version), fields });
            }
        }
        conflicts
    }
}
