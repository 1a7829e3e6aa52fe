//! `metadata.managedFields`: who owns what, as it is stored.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use coracle_api::{meta, time};
use serde_json::{Map, Value, json};

use super::set::Set;

/// Update entries that are kept apart; of more, the oldest become one.
const UPDATERS_MAX: usize = 10;
/// The manager that the oldest updates become.
const ANCIENT: &str = "ancient-changes";
/// The only form of fields there is.
const FIELDS_TYPE: &str = "FieldsV1";

/// How a manager writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Operation {
    Apply,
    Update,
}

impl Operation {
    fn as_str(self) -> &'static str {
        match self {
            Self::Apply => "Apply",
            Self::Update => "Update",
        }
    }
}

/// What makes an entry the same manager's. Appliers are the same in every version.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Id {
    pub(super) manager: String,
    pub(super) operation: Operation,
    /// The version for updates, empty for applies.
    version: String,
    pub(super) subresource: String,
}

impl Id {
    pub(super) fn new(manager: &str, operation: Operation, api_version: &str, subresource: &str) -> Self {
        let version = if operation == Operation::Apply { "" } else { api_version };
        Self {
            manager: if manager.is_empty() { "unknown" } else { manager }.to_owned(),
            operation,
            version: version.to_owned(),
            subresource: subresource.to_owned(),
        }
    }

    /// How conflicts name the manager; `api_version` is that of the entry.
    pub(super) fn shown(&self, api_version: &str) -> String {
        let mut shown = format!("{:?}", self.manager);
        if !self.subresource.is_empty() {
            shown.push_str(&format!(" with subresource {:?}", self.subresource));
        }
        if self.operation == Operation::Update {
            shown.push_str(&format!(" using {api_version}"));
        }
        shown
    }
}

/// What one manager owns.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Owner {
    pub(super) api_version: String,
    /// As stored; none for a manager that never changed anything.
    pub(super) time: Option<String>,
    pub(super) fields: Set,
}

/// All managers of an object.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Managers(pub(super) BTreeMap<Id, Owner>);

impl Managers {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Reads entries; `None` when one of them is not valid.
    pub(super) fn decode(entries: &Value) -> Option<Self> {
        let mut all = BTreeMap::new();
        for entry in entries.as_array().map(Vec::as_slice).unwrap_or_default() {
            let text = |key| meta::text(entry, key);
            let operation = match text("operation") {
                "Apply" => Operation::Apply,
                "Update" => Operation::Update,
                _ => return None,
            };
            let api_version = text("apiVersion");
            if api_version.is_empty() || text("fieldsType") != FIELDS_TYPE {
                return None;
            }
            let fields = match entry.get("fieldsV1") {
                None | Some(Value::Null) => Set::default(),
                Some(fields) if fields.as_object().is_some_and(Map::is_empty) => Set::default(),
                Some(fields) => Set::decode(fields)?,
            };
            let id = Id {
                manager: text("manager").to_owned(),
                ..Id::new("-", operation, api_version, text("subresource"))
            };
            let time = Some(text("time")).filter(|time| !time.is_empty()).map(str::to_owned);
            all.insert(id, Owner { api_version: api_version.to_owned(), time, fields });
        }
        Some(Self(all))
    }

    /// The managers of a stored object; what cannot be read is none.
    pub(super) fn of(object: &Value) -> Self {
        object.pointer("/metadata/managedFields").and_then(Self::decode).unwrap_or_default()
    }

    /// Writes the managers into an object.
    pub(super) fn put(&self, object: &mut Value) {
        meta::set(object, "managedFields", self.encode());
    }

    fn encode(&self) -> Value {
        if self.is_empty() {
            return Value::Null;
        }
        let mut entries: Vec<(&Id, &Owner)> = self.0.iter().collect();
        entries.sort_by(|a, b| order(*a, *b));
        entries.into_iter().map(|(id, owner)| encode(id, owner)).collect()
    }

    /// Forgets managers that own nothing.
    pub(super) fn drop_empty(&mut self) {
        self.0.retain(|_, owner| !owner.fields.is_empty());
    }

    /// Makes one of the oldest updaters when there are too many.
    pub(super) fn cap(&mut self) {
        let mut updaters: Vec<(i64, Id)> = self
            .0
            .iter()
            .filter(|(id, _)| id.operation == Operation::Update)
            .map(|(id, owner)| (seconds(owner), id.clone()))
            .collect();
        let mut left = updaters.len();
        if left <= UPDATERS_MAX {
            return;
        }
        updaters.sort();
        let mut first_of: BTreeMap<String, Id> = BTreeMap::new();
        for (_, id) in updaters {
            if left <= UPDATERS_MAX {
                return;
            }
            let Some(version) = self.0.get(&id).map(|owner| owner.api_version.clone()) else { continue };
            let Some(first) = first_of.get(&version) else {
                first_of.insert(version, id);
                continue;
            };
            let bucket = Id::new(ANCIENT, Operation::Update, &version, "");
            if !self.0.contains_key(&bucket)
                && let Some(owner) = self.0.remove(first)
            {
                self.0.insert(bucket.clone(), owner);
            }
            let Some(owner) = self.0.remove(&id) else { continue };
            if let Some(old) = self.0.get_mut(&bucket) {
                old.fields = old.fields.union(&owner.fields);
                old.time = owner.time;
            }
            left -= 1;
        }
    }
}

fn seconds(owner: &Owner) -> i64 {
    owner.time.as_deref().and_then(time::parse).map_or(i64::MIN, |time| time.as_second())
}

fn order((a, a_owner): (&Id, &Owner), (b, b_owner): (&Id, &Owner)) -> Ordering {
    a.operation
        .cmp(&b.operation)
        .then_with(|| seconds(a_owner).cmp(&seconds(b_owner)))
        .then_with(|| a.manager.cmp(&b.manager))
        .then_with(|| a_owner.api_version.cmp(&b_owner.api_version))
        .then_with(|| a.subresource.cmp(&b.subresource))
}

fn encode(id: &Id, owner: &Owner) -> Value {
    let mut entry = json!({
        "manager": id.manager,
        "operation": id.operation.as_str(),
        "apiVersion": owner.api_version,
        "fieldsType": FIELDS_TYPE,
        "fieldsV1": owner.fields.encode(),
    });
    if let Some(entry) = entry.as_object_mut() {
        if let Some(time) = &owner.time {
            entry.insert("time".to_owned(), json!(time));
        }
        if !id.subresource.is_empty() {
            entry.insert("subresource".to_owned(), json!(id.subresource));
        }
    }
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(manager: &str, operation: &str, time: &str) -> Value {
        json!({"manager": manager, "operation": operation, "apiVersion": "v1", "time": time, "fieldsType": "FieldsV1",
            "fieldsV1": {"f:data": {format!("f:{manager}"): {}}}})
    }

    #[test]
    fn entries_are_sorted_by_operation_time_and_name() {
        let late = "2024-05-06T07:08:09Z";
        let early = "2024-05-06T07:08:08Z";
        let mut timeless = entry("z", "Update", "");
        timeless.as_object_mut().unwrap().remove("time");
        let given = json!([
            entry("c", "Update", late),
            timeless,
            entry("b", "Update", early),
            entry("d", "Apply", late),
            entry("a", "Update", late)
        ]);
        let mut object = json!({});
        Managers::decode(&given).unwrap().put(&mut object);
        let names: Vec<&str> = object["metadata"]["managedFields"]
            .as_array()
            .unwrap()
            .iter()
            .map(|e| e["manager"].as_str().unwrap())
            .collect();
        assert_eq!(names, ["d", "z", "b", "a", "c"]);
        assert_eq!(Managers::of(&object), Managers::decode(&given).unwrap());
    }

    #[test]
    fn entries_that_are_not_valid_are_refused() {
        for (key, value) in
            [("operation", "Do"), ("apiVersion", ""), ("fieldsType", "FieldsV2"), ("fieldsV1", "x")]
        {
            let mut one = entry("a", "Apply", "");
            one[key] = json!(value);
            assert_eq!(Managers::decode(&json!([one])), None, "{key}");
        }
    }

    #[test]
    fn too_many_updaters_become_one() {
        let entries: Vec<Value> = (0..12)
            .map(|n| entry(&format!("m{n:02}"), "Update", &format!("2024-05-06T07:08:{n:02}Z")))
            .collect();
        let mut managers = Managers::decode(&json!(entries)).unwrap();
        managers.cap();
        assert_eq!(managers.0.len(), UPDATERS_MAX);
        let bucket = &managers.0[&Id::new(ANCIENT, Operation::Update, "v1", "")];
        assert_eq!(bucket.fields.encode(), json!({"f:data": {"f:m00": {}, "f:m01": {}, "f:m02": {}}}));
        assert_eq!(bucket.time.as_deref(), Some("2024-05-06T07:08:02Z"));
    }
}
