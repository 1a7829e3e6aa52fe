//! Writes that are no applications: whoever changes a field owns it, and nobody else does.

use coracle_api::schema::Schema;
use coracle_api::{meta, time};
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::compare::{Comparison, compare};
use super::entries::{Id, Managers, Operation, Owner};
use super::form::Place;
use super::reset::{Reset, strip};

/// Who writes, and through what.
#[derive(Clone, Copy, Debug)]
pub struct Writer<'a> {
    /// The field manager; empty is `unknown`.
    pub manager: &'a str,
    /// The version in which the object is written.
    pub api_version: &'a str,
    /// The part that is written; empty for the object itself.
    pub subresource: &'a str,
    /// What the write leaves alone whatever it says.
    pub reset: Reset,
    /// The time of the write.
    pub now: Timestamp,
}

impl Writer<'_> {
    pub(super) fn id(&self, operation: Operation) -> Id {
        Id::new(self.manager, operation, self.api_version, self.subresource)
    }

    pub(super) fn time(&self) -> Option<String> {
        Some(time::seconds(self.now))
    }
}

/// Writes down in `new` who owns what after a create (`old` is `None`) or update that made `old`
/// into `new`. A list of managers in `new` takes the place of the stored one, unless it is empty or
/// not valid; one empty entry makes the object one whose managers are not tracked.
pub fn update(old: Option<&Value>, new: &mut Value, schema: &Schema, writer: &Writer<'_>) {
    let sent = new.get_mut("metadata").and_then(Value::as_object_mut).and_then(|m| m.remove("managedFields"));
    let stored = || old.map(Managers::of).unwrap_or_default();
    let mut managers = match sent {
        _ if !writer.subresource.is_empty() => stored(),
        Some(sent) if is_reset(&sent) => Managers::default(),
        Some(sent) => Managers::decode(&sent).filter(|m| !m.is_empty()).unwrap_or_else(stored),
        None => stored(),
    };
    if managers.is_empty() && old.is_some_and(|old| !meta::uid(old).is_empty()) {
        return;
    }
    let empty = Value::Object(Map::new());
    let old = old.unwrap_or(&empty);
    if old != &*new {
        track(&mut managers, old, new, schema, writer);
    }
    managers.cap();
    managers.put(new);
}

/// Gives the writer what it changed.
pub(super) fn track(managers: &mut Managers, old: &Value, new: &Value, schema: &Schema, writer: &Writer<'_>) {
    let changes = compare(old, new, Place::root(schema)).map(|set| writer.reset.filter(set));
    let taken = strip(changes.set());
    lose(managers, &changes);
    if !taken.is_empty() {
        let time = writer.time();
        let owner = managers.0.entry(writer.id(Operation::Update)).or_insert_with(|| Owner {
            api_version: writer.api_version.to_owned(),
            time: None,
            fields: super::set::Set::default(),
        });
        owner.fields = owner.fields.union(&taken);
        owner.time = time;
    }
}

/// Takes what changed from everybody.
pub(super) fn lose(managers: &mut Managers, changes: &Comparison) {
    let lost = changes.set().union(&changes.removed);
    if lost.is_empty() {
        return;
    }
    for owner in managers.0.values_mut() {
        owner.fields = owner.fields.difference(&lost);
    }
    managers.drop_empty();
}

/// Whether a client asks to forget the managers: one entry that says nothing.
fn is_reset(entries: &Value) -> bool {
    match entries.as_array().map(Vec::as_slice) {
        Some([one]) => {
            one.as_object().is_some_and(|e| e.values().all(|v| v.is_null() || v.as_str() == Some("")))
        }
        _ => false,
    }
}

/// Whether two objects differ in nothing but the times of their managers.
#[must_use]
pub fn same_but_times(new: &Value, old: &Value) -> bool {
    let (Some(a), Some(b)) = (new.as_object(), old.as_object()) else { return new == old };
    let apart = |name: &str| name != "metadata";
    let metadata = |map: &Map<String, Value>| map.get("metadata").and_then(Value::as_object).cloned();
    let entries = |object: &Value| {
        let mut entries = object.pointer("/metadata/managedFields").cloned().unwrap_or_default();
        for entry in entries.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
            entry.remove("time");
        }
        entries
    };
    let rest = |map: &Map<String, Value>| {
        let mut metadata = metadata(map).unwrap_or_default();
        metadata.remove("managedFields");
        metadata
    };
    a.len() == b.len()
        && a.iter().filter(|(name, _)| apart(name)).all(|(name, value)| b.get(name) == Some(value))
        && entries(new) == entries(old)
        && rest(a) == rest(b)
}
