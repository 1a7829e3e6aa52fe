//! Who owns the replicas of a workload whose Scale is written.
//!
//! The Scale has one field that anybody can own, and it is a field of the workload. Its entries
//! are in the workload's version, of subresource `scale`, and have no time: that is what
//! kube-apiserver leaves there.

use coracle_api::Status;
use serde_json::Value;

use super::conflict::{Conflict, refusal};
use super::entries::{Managers, Operation, Owner};
use super::set::Set;
use super::update::Writer;

/// The path in a Scale, as conflicts name it.
const IN_SCALE: &[&str] = &["spec", "replicas"];
/// The version that conflicts name.
const SCALE_VERSION: &str = "autoscaling/v1";

/// Writes down in `new` who owns the replicas at `path` after a plain write of the Scale made
/// `old` into `new`.
pub fn update_scale(old: &Value, new: &mut Value, path: &[String], writer: &Writer<'_>) {
    let mut managers = Managers::of(old);
    if !managers.is_empty() && at(old, path) != at(new, path) {
        take(&mut managers, path);
        give(&mut managers, path, writer, Operation::Update);
    }
    managers.put(new);
}

/// Writes down in `new` who owns the replicas at `path` after the Scale was applied. `stated` is
/// whether the application said a number.
///
/// # Errors
/// 409 when others own another number.
pub fn apply_scale(
    old: &Value,
    new: &mut Value,
    path: &[String],
    stated: bool,
    writer: &Writer<'_>,
    force: bool,
) -> Result<(), Status> {
    let mut managers = Managers::of(old);
    let id = writer.id(Operation::Apply);
    if let Some(own) = managers.0.get_mut(&id) {
        own.fields.remove(path);
        managers.drop_empty();
    }
    if at(old, path) != at(new, path) {
        let conflicts: Vec<Conflict> = managers
            .0
            .iter()
            .filter(|(_, owner)| owner.fields.has_fields(path))
            .map(|(id, _)| Conflict { manager: id.shown(SCALE_VERSION), fields: Set::of_fields(IN_SCALE) })
            .collect();
        if !force && !conflicts.is_empty() {
            return Err(refusal(&conflicts));
        }
        take(&mut managers, path);
    }
    if stated {
        give(&mut managers, path, writer, Operation::Apply);
    }
    managers.put(new);
    Ok(())
}

fn at<'a>(object: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter().try_fold(object, |at, step| at.get(step))
}

fn take(managers: &mut Managers, path: &[String]) {
    managers.0.values_mut().for_each(|owner| owner.fields.remove(path));
    managers.drop_empty();
}

fn give(managers: &mut Managers, path: &[String], writer: &Writer<'_>, operation: Operation) {
    let owner =
        Owner { api_version: writer.api_version.to_owned(), time: None, fields: Set::of_fields(path) };
    managers.0.insert(writer.id(operation), owner);
}
