//! Custom resources: from a CustomResourceDefinition to rows of the index.
//!
//! Names are accepted, conditions written and rows put in or taken out by the server that
//! carries out the write, before it answers: what was created can be used at once. A
//! definition that is deleted first loses its objects, then its finalizer.

use std::sync::Arc;
use std::time::Duration;

use coracle_api::field::{FieldError, FieldErrors};
use coracle_api::meta::{self, text};
use coracle_api::schema;
use coracle_api::status::Status;
use coracle_api::time;
use coracle_machinery::managed;
use futures::future::BoxFuture;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::cache::{Place, ReadError};
use crate::registry::definition::rows_of;
use crate::registry::index::{ResourceIndex, Row};
use crate::registry::options::DeleteOptions;
use crate::registry::read::key_of;
use crate::registry::selection::Selection;
use crate::registry::storage::{self, Outcome};
use crate::registry::{Registry, StartError, failure, fields};

const GROUP: &str = "apiextensions.k8s.io";
const PLURAL: &str = "customresourcedefinitions";
/// Who owns the status of definitions: the server that puts them into effect.
const SERVER: &str = "kube-apiserver";
/// Holds a definition until its objects are gone.
const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";
/// How often the objects of a deleted definition are looked for until none is left.
const CLEANUP_ATTEMPTS_MAX: u32 = 3_600;
/// The pause in between, in milliseconds: objects with finalizers take their time.
const CLEANUP_PAUSE_MS: u64 = 500;
/// How often writing the status of a definition is tried when others write it too.
const STATUS_ATTEMPTS_MAX: usize = 10;

/// Brings a new custom object into the form that is stored.
pub(super) fn prepare_create(row: &Row, object: &mut Value) {
    if row.has_status()
        && let Some(object) = object.as_object_mut()
    {
        object.remove("status");
    }
    meta::set(object, "generation", 1);
}

/// Keeps the status, where it is a part of its own, and counts changes.
pub(super) fn prepare_update(row: &Row, new: &mut Value, old: &Value) {
    if row.has_status() {
        keep(new, old, "status");
    }
    let changed = |object: &Value| -> Map<String, Value> {
        let mut rest = object.as_object().cloned().unwrap_or_default();
        rest.remove("metadata");
        rest
    };
    if changed(new) != changed(old) {
        meta::set(new, "generation", meta::generation(old) + 1);
    }
}

/// Leaves of a write of the status nothing but the status.
pub(super) fn prepare_status(new: &mut Value, old: &Value) {
    let status = new.get("status").cloned();
    *new = old.clone();
    if let Some(object) = new.as_object_mut() {
        match status {
            Some(status) => object.insert("status".to_owned(), status),
            None => object.remove("status"),
        };
    }
}

fn keep(new: &mut Value, old: &Value, key: &str) {
    let Some(new) = new.as_object_mut() else { return };
    match old.get(key) {
        Some(value) => new.insert(key.to_owned(), value.clone()),
        None => new.remove(key),
    };
}

/// Holds a definition that is being deleted until its objects are gone.
pub(super) fn hold_for_cleanup(definition: &mut Value) {
    let mut finalizers: Vec<String> = meta::finalizers(definition).into_iter().map(str::to_owned).collect();
    // The second deletion of a definition that nobody cleans up any more must not hang.
    if !meta::is_deleting(definition) && !finalizers.iter().any(|f| f == CLEANUP) {
        finalizers.push(CLEANUP.to_owned());
        meta::set(definition, "finalizers", json!(finalizers));
    }
}

/// Defaults and rules of a definition that no schema can say.
pub(super) fn prepare_definition(definition: &mut Value, old: Option<&Value>, errors: &mut FieldErrors) {
    let kind = definition.pointer("/spec/names/kind").and_then(Value::as_str).unwrap_or_default().to_owned();
    if let Some(names) = definition.pointer_mut("/spec/names").and_then(Value::as_object_mut) {
        names.entry("singular").or_insert_with(|| json!(kind.to_lowercase()));
        names.entry("listKind").or_insert_with(|| json!(format!("{kind}List")));
    }
    if let Some(spec) = definition.get_mut("spec").and_then(Value::as_object_mut) {
        spec.entry("conversion").or_insert_with(|| json!({"strategy": "None"}));
    }
    check_definition(definition, old, errors);
    if old.is_none() {
        let storage: Vec<&str> =
            versions(definition).iter().filter(|v| flag(v, "storage")).map(|v| text(v, "name")).collect();
        let status = json!({"conditions": null, "acceptedNames": {"plural": "", "kind": ""}, "storedVersions": storage});
        definition["status"] = status;
    }
}

fn check_definition(definition: &Value, old: Option<&Value>, errors: &mut FieldErrors) {
    let spec = definition.get("spec").unwrap_or(&Value::Null);
    let (group, plural) = (
        text(spec, "group"),
        definition.pointer("/spec/names/plural").and_then(Value::as_str).unwrap_or_default(),
    );
    let name = meta::name(definition);
    if name != format!("{plural}.{group}") {
        let why = "must be spec.names.plural+\".\"+spec.group";
        errors.push(FieldError::invalid("metadata.name", name, why));
    }
    if !group.contains('.') {
        errors.push(FieldError::invalid("spec.group", group, "should be a domain with at least one dot"));
    }
    if versions(definition).iter().filter(|version| flag(version, "storage")).count() != 1 {
        let shown = spec.get("versions").cloned().unwrap_or_default();
        errors.push(FieldError::invalid(
            "spec.versions",
            shown,
            "must have exactly one version marked as storage version",
        ));
    }
    for (at, version) in versions(definition).iter().enumerate() {
        match version.pointer("/schema/openAPIV3Schema") {
            Some(schema) => {
                if let Err(found) = schema::from_crd(schema) {
                    errors.extend(found.into_iter().map(|mut error| {
                        error.path = format!("spec.versions[{at}].schema.{}", error.path);
                        error
                    }));
                }
            }
            None => errors.push(FieldError::required(
                format!("spec.versions[{at}].schema.openAPIV3Schema"),
                "schemas are required",
            )),
        }
    }
    let established = old.is_some_and(|old| condition(old, "Established") == Some("True"));
    if let (true, Some(old)) = (established, old) {
        for path in ["/spec/group", "/spec/scope", "/spec/names/plural", "/spec/names/kind"] {
            let (new, old) = (definition.pointer(path), old.pointer(path));
            if new != old {
                let field = path.trim_start_matches('/').replace('/', ".");
                errors.push(FieldError::invalid(
                    field,
                    new.cloned().unwrap_or_default(),
                    "field is immutable",
                ));
            }
        }
    }
}

/// The versions that a definition lists.
pub(super) fn versions(definition: &Value) -> &[Value] {
    definition.pointer("/spec/versions").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// A boolean member; absent is false.
pub(super) fn flag(object: &Value, key: &str) -> bool {
    object.get(key).and_then(Value::as_bool).unwrap_or_default()
}

fn condition<'a>(definition: &'a Value, kind: &str) -> Option<&'a str> {
    let conditions = definition.pointer("/status/conditions")?.as_array()?;
    conditions
        .iter()
        .find(|condition| text(condition, "type") == kind)
        .map(|condition| text(condition, "status"))
}

impl Registry {
    /// Puts the stored definitions into the index.
    pub(super) async fn load_custom_resources(&self) -> Result<(), StartError> {
        let index = self.resources();
        let Some(row) = index.find(GROUP, "v1", PLURAL) else { return Ok(()) };
        let cache = self.0.caches.kind(&row.stored).await.map_err(|error| match error {
            ReadError::Store(source) => StartError::Store { what: "CustomResourceDefinitions", source },
        })?;
        for object in cache.snapshot(&Place::All, None).objects {
            self.definition_changed(object.name()).await;
        }
        Ok(())
    }

    /// Brings index, conditions and clean-up in line with a definition that was written or
    /// deleted. Failures are logged: the next write or start does it again.
    pub(super) async fn definition_changed(&self, name: &str) {
        let _one_at_a_time = self.0.crd_writes.lock().await;
        for _ in 0..STATUS_ATTEMPTS_MAX {
            match self.settle_definition(name).await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => {
                    tracing::error!(definition = name, %error, "a custom resource definition could not be put into effect");
                    return;
                }
            }
        }
        tracing::error!(definition = name, "the status of a custom resource definition keeps changing");
    }

    /// One attempt; false when somebody else wrote the definition meanwhile.
    async fn settle_definition(&self, name: &str) -> Result<bool, coracle_store::Error> {
        let index = self.resources();
        let Some(row) = index.find(GROUP, "v1", PLURAL) else { return Ok(true) };
        let Ok(key) = key_of(row, "", name) else { return Ok(true) };
        let stored = storage::get(&*self.0.kv, key.bytes()).await?;
        let Some((kv, mut definition)) =
            stored.and_then(|kv| Some((kv.mod_revision, row.stored.decode(&kv.value).ok()?.0.value().ok()?)))
        else {
            self.replace_rows(name, Vec::new());
            return Ok(true);
        };
        if meta::is_deleting(&definition) {
            let rows = rows_of(&definition, true);
            self.replace_rows(name, rows);
            tokio::spawn(self.clone().clean_up(name.to_owned()));
            return Ok(true);
        }
        let before = definition.clone();
        let accepted = accept_names(&mut definition, &index, Timestamp::now());
        if let Ok(schema) = row.schema.get() {
            managed::update(Some(&before), &mut definition, schema, &fields::writer(row, SERVER, "status"));
        }
        if definition != before {
            let written =
                storage::put(&*self.0.kv, key.bytes(), kv, row.stored.encode(&definition).encode(), 0)
                    .await?;
            if matches!(written, Outcome::Differs(_)) {
                return Ok(false);
            }
        }
        self.replace_rows(name, if accepted { rows_of(&definition, false) } else { Vec::new() });
        Ok(true)
    }

    /// Puts rows in the place of those that a definition had. Caches whose schema changed
    /// start afresh.
    fn replace_rows(&self, definition: &str, rows: Vec<Arc<Row>>) {
        let index = self.resources();
        for old in index.of_definition(definition) {
            let same = rows.iter().any(|new| new.stored.is_same(&old.stored));
            if !same {
                self.0.caches.forget(old.stored.path());
            }
        }
        if rows.is_empty() && index.of_definition(definition).next().is_none() {
            return;
        }
        self.0.index.store(Arc::new(index.with_definition(definition, rows)));
    }

    /// Deletes the objects of a definition, then the definition.
    fn clean_up(self, definition: String) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            for _ in 0..CLEANUP_ATTEMPTS_MAX {
                match self.clean_up_once(&definition).await {
                    Ok(true) => return,
                    Ok(false) => {}
                    Err(status) => {
                        tracing::warn!(definition, error = %status, "clean-up of a custom resource")
                    }
                }
                tokio::time::sleep(Duration::from_millis(CLEANUP_PAUSE_MS)).await;
            }
        })
    }

    /// Deletes what objects there are; when there were none the definition goes, and true is
    /// answered.
    async fn clean_up_once(&self, definition: &str) -> Result<bool, Status> {
        let index = self.resources();
        let row = index.of_definition(definition).find(|row| row.is_storage_version()).cloned();
        if let Some(row) = row {
            for _ in 0..2 {
                let (objects, _) = self.select(&row, &Selection::everything(Place::All)).await?;
                if objects.is_empty() {
                    return self.release_definition(definition).await;
                }
                for object in objects {
                    let key = key_of(&row, object.namespace(), object.name())?;
                    match self
                        .delete_object(&row, &key, object.namespace(), &DeleteOptions::default(), false)
                        .await
                    {
                        Err(status) if status.code != 404 => return Err(status),
                        _ => {}
                    }
                }
            }
            return Ok(false);
        }
        self.release_definition(definition).await
    }

    /// Takes the clean-up finalizer off, and the definition away when it was the last.
    async fn release_definition(&self, name: &str) -> Result<bool, Status> {
        let index = self.resources();
        let Some(row) = index.find(GROUP, "v1", PLURAL) else { return Ok(true) };
        let key = key_of(row, "", name)?;
        let kv = &*self.0.kv;
        let Some(found) = storage::get(kv, key.bytes()).await.map_err(|e| failure::store(&e))? else {
            return Ok(true);
        };
        let (stored, _) = row.stored.decode(&found.value).map_err(|e| failure::envelope(&e))?;
        let mut definition = stored.value().map_err(|e| failure::envelope(&e))?;
        if !meta::is_deleting(&definition) {
            return Ok(true);
        }
        let left: Vec<String> =
            meta::finalizers(&definition).into_iter().filter(|f| *f != CLEANUP).map(str::to_owned).collect();
        let gone = left.is_empty();
        meta::set(&mut definition, "finalizers", if gone { Value::Null } else { json!(left) });
        let outcome = if gone {
            storage::delete(kv, key.bytes(), found.mod_revision).await
        } else {
            storage::put(kv, key.bytes(), found.mod_revision, row.stored.encode(&definition).encode(), 0)
                .await
        };
        let done = matches!(outcome.map_err(|e| failure::store(&e))?, Outcome::Done(_));
        if done {
            let _one_at_a_time = self.0.crd_writes.lock().await;
            self.replace_rows(name, Vec::new());
        }
        Ok(done)
    }
}

/// Decides which names a definition gets and writes that into its status; true when it is
/// established. Names once accepted stay accepted.
fn accept_names(definition: &mut Value, index: &ResourceIndex, now: Timestamp) -> bool {
    let name = meta::name(definition).to_owned();
    let group = definition.pointer("/spec/group").and_then(Value::as_str).unwrap_or_default().to_owned();
    let others: Vec<&Arc<Row>> = index
        .rows()
        .filter(|row| {
            row.resource.group == group && row.custom.as_ref().is_none_or(|custom| custom.definition != name)
        })
        .collect();
    let resource_taken = |wanted: &str| {
        others.iter().any(|row| {
            let row = &row.resource;
            row.plural == wanted
                || row.singular == wanted
                || row.short_names.iter().any(|short| short == wanted)
        })
    };
    let kind_taken = |wanted: &str| {
        others.iter().any(|row| row.resource.kind == wanted || row.resource.list_kind == wanted)
    };
    let names = definition.pointer("/spec/names").cloned().unwrap_or_else(|| json!({}));
    let mut accepted = json!({"plural": "", "kind": ""});
    let mut refusal: Option<(&str, String)> = None;
    for (key, reason) in [("plural", "PluralConflict"), ("singular", "SingularConflict")] {
        match text(&names, key) {
            "" => {}
            wanted if resource_taken(wanted) => refusal = Some((reason, wanted.to_owned())),
            wanted => accepted[key] = json!(wanted),
        }
    }
    let shorts: Vec<&str> = names
        .get("shortNames")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    match shorts.iter().find(|short| resource_taken(short)) {
        Some(short) => refusal = Some(("ShortNamesConflict", (*short).to_owned())),
        None if !shorts.is_empty() => accepted["shortNames"] = json!(shorts),
        None => {}
    }
    for (key, reason) in [("kind", "KindConflict"), ("listKind", "ListKindConflict")] {
        match text(&names, key) {
            "" => {}
            wanted if kind_taken(wanted) => refusal = Some((reason, wanted.to_owned())),
            wanted => accepted[key] = json!(wanted),
        }
    }
    if let Some(categories) = names.get("categories") {
        accepted["categories"] = categories.clone();
    }
    let was = condition(definition, "Established") == Some("True");
    let established = refusal.is_none() || was;
    let now = time::seconds(now);
    let Some(status) = definition_status(definition) else { return false };
    status.insert("acceptedNames".to_owned(), accepted);
    match &refusal {
        None => set_condition(status, "NamesAccepted", "True", "NoConflicts", "no conflicts found", &now),
        Some((reason, taken)) => {
            set_condition(
                status,
                "NamesAccepted",
                "False",
                reason,
                &format!("{taken:?} is already in use"),
                &now,
            );
        }
    }
    if established {
        let why = "the initial names have been accepted";
        set_condition(status, "Established", "True", "InitialNamesAccepted", why, &now);
    } else {
        set_condition(status, "Established", "False", "NotAccepted", "not all names are accepted", &now);
    }
    note_stored_version(definition);
    established
}

fn definition_status(definition: &mut Value) -> Option<&mut Map<String, Value>> {
    let status = crate::admission::member(definition, "status", json!({}))?;
    if !status.is_object() {
        *status = json!({});
    }
    status.as_object_mut()
}

fn set_condition(
    status: &mut Map<String, Value>,
    kind: &str,
    value: &str,
    reason: &str,
    message: &str,
    now: &str,
) {
    let conditions = status.entry("conditions").or_insert_with(|| json!([]));
    if !conditions.is_array() {
        *conditions = json!([]);
    }
    let Some(list) = conditions.as_array_mut() else { return };
    let mut condition = json!({"type": kind, "status": value, "lastTransitionTime": now, "reason": reason, "message": message});
    match list.iter_mut().find(|other| text(other, "type") == kind) {
        Some(other) => {
            if text(other, "status") == value {
                condition["lastTransitionTime"] =
                    other.get("lastTransitionTime").cloned().unwrap_or_else(|| json!(now));
            }
            *other = condition;
        }
        None => list.push(condition),
    }
}

fn note_stored_version(definition: &mut Value) {
    let Some(storage) =
        versions(definition).iter().find(|v| flag(v, "storage")).map(|v| text(v, "name").to_owned())
    else {
        return;
    };
    let Some(status) = definition_status(definition) else { return };
    let stored = status.entry("storedVersions").or_insert_with(|| json!([]));
    if let Some(list) = stored.as_array_mut()
        && !list.iter().any(|known| *known == json!(storage))
    {
        list.push(json!(storage));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lamps(plural: &str, kind: &str) -> Value {
        json!({"metadata": {"name": format!("{plural}.gold.test")}, "spec": {"group": "gold.test", "scope": "Namespaced",
            "names": {"plural": plural, "kind": kind},
            "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "object"}}}}}]}})
    }

    #[test]
    fn a_definition_is_defaulted_accepted_and_becomes_rows() {
        let index = ResourceIndex::builtin();
        let mut definition = lamps("lamps", "Lamp");
        let mut errors = FieldErrors::new();
        prepare_definition(&mut definition, None, &mut errors);
        assert!(errors.is_empty(), "{errors:?}");
        assert_eq!(definition["spec"]["names"]["listKind"], "LampList");
        assert!(accept_names(&mut definition, &index, Timestamp::UNIX_EPOCH));
        assert_eq!(condition(&definition, "Established"), Some("True"));
        let rows = rows_of(&definition, false);
        assert!(rows[0].has_status() && rows[0].is_storage_version());

        let index = index.with_definition("lamps.gold.test", rows);
        assert!(index.find("gold.test", "v1", "lamps").is_some());
        let mut second = lamps("lampions", "Lamp");
        prepare_definition(&mut second, None, &mut errors);
        assert!(!accept_names(&mut second, &index, Timestamp::UNIX_EPOCH));
        assert_eq!(second["status"]["acceptedNames"]["kind"], "");
        let index = index.with_definition("lamps.gold.test", Vec::new());
        assert!(index.find("gold.test", "v1", "lamps").is_none());
    }

    #[test]
    fn bad_definitions_are_told() {
        let mut definition = lamps("lamps", "Lamp");
        definition["metadata"]["name"] = json!("other");
        definition["spec"]["versions"][0]["storage"] = json!(false);
        let mut errors = FieldErrors::new();
        prepare_definition(&mut definition, None, &mut errors);
        let paths: Vec<&str> = errors.iter().map(|error| error.path.as_str()).collect();
        assert_eq!(paths, ["metadata.name", "spec.versions"]);
    }

    #[test]
    fn status_and_object_are_written_apart() {
        let old = json!({"metadata": {"generation": 1}, "spec": {"a": 1}, "status": {"b": 1}});
        let mut new =
            json!({"metadata": {"generation": 1, "labels": {}}, "spec": {"a": 9}, "status": {"b": 2}});
        prepare_status(&mut new, &old);
        assert_eq!((&new["spec"]["a"], &new["status"]["b"]), (&json!(1), &json!(2)));
    }
}
