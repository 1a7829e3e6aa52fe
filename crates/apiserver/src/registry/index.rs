//! [`ResourceIndex`]: what is served, built-in kinds and custom ones alike.
//!
//! The index is immutable; a change of the custom resource definitions makes a new one. A
//! [`Row`] is a resource in one version; rows of the same objects in several versions share
//! one [`StoredKind`], which says how they lie in the store.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use coracle_api::resource::{self, Resource};
use coracle_api::schema::{self, Schema};
use coracle_api::status::Status;
use coracle_machinery::kinds::Kind;
use coracle_machinery::{defaults, kinds};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::cache::Facts;
use crate::registry::envelope::{EnvelopeError, Stored};
use crate::registry::key;

/// Version of the built-in schemas that is written beside objects. Raise it when a default
/// is added that older objects must get when they are read.
const BUILTIN_SCHEMA_VERSION: u32 = 1;

/// Built-in rows that show an object stored in another version or group, with different
/// fields. They are not served until there is a conversion.
const UNCONVERTED: &[(&str, &str, &str)] =
    &[("autoscaling", "v1", "horizontalpodautoscalers"), ("events.k8s.io", "v1", "events")];

/// Where a row's schema lives.
#[derive(Clone)]
pub(crate) enum SchemaRef {
    /// By the name of its definition; decoded when first needed.
    Builtin(Cow<'static, str>),
    /// Of a custom resource.
    Custom(Arc<Schema>),
}

impl SchemaRef {
    /// The schema.
    ///
    /// # Errors
    /// 500 when a built-in definition is missing.
    pub(crate) fn get(&self) -> Result<&Schema, Status> {
        match self {
            Self::Builtin(name) => schema::builtin(name)
                .ok_or_else(|| Status::internal(format!("there is no schema called {name}"))),
            Self::Custom(schema) => Ok(schema),
        }
    }
}

/// The parts of a custom resource's scale subresource, as paths of member names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ScalePaths {
    /// Of the wanted number.
    pub(crate) spec_replicas: Vec<String>,
    /// Of the present number.
    pub(crate) status_replicas: Vec<String>,
    /// Of the selector, as text; may be missing.
    pub(crate) label_selector: Vec<String>,
}

/// What only custom resources have.
#[derive(Debug, Clone, Default)]
pub(crate) struct Custom {
    /// Name of the definition.
    pub(crate) definition: String,
    /// Where its scale subresource looks.
    pub(crate) scale: Option<ScalePaths>,
    /// Whether more objects may be created: not while the definition is being deleted.
    pub(crate) terminating: bool,
}

/// How the objects of a kind are stored: shared by all rows that show them.
pub(crate) struct StoredKind {
    path: String,
    prefix: String,
    /// The group, as in keys.
    pub(crate) group: Cow<'static, str>,
    /// The plural, as in keys.
    pub(crate) plural: Cow<'static, str>,
    /// The kind.
    pub(crate) kind: Cow<'static, str>,
    /// The `apiVersion` that objects are stored with.
    pub(crate) api_version: String,
    schema: SchemaRef,
    schema_version: u32,
    rules: &'static dyn Kind,
    /// Selectable fields of custom resources: name and path.
    custom_fields: Vec<(String, Vec<String>)>,
    field_names: Vec<Cow<'static, str>>,
}

#[derive(Deserialize)]
struct LabelsOnly {
    #[serde(default)]
    metadata: LabelsOfMetadata,
}

#[derive(Deserialize, Default)]
struct LabelsOfMetadata {
    #[serde(default)]
    labels: Option<Map<String, Value>>,
}

impl StoredKind {
    fn builtin(row: &Resource, rules: &'static dyn Kind) -> Self {
        Self {
            path: key::kind_path(row.storage_group(), &row.plural),
            prefix: key::prefix(row.storage_group(), &row.plural),
            group: Cow::Owned(row.storage_group().to_owned()),
            plural: row.plural.clone(),
            kind: row.kind.clone(),
            api_version: row.api_version(),
            schema: SchemaRef::Builtin(row.schema.clone()),
            schema_version: BUILTIN_SCHEMA_VERSION,
            rules,
            custom_fields: Vec::new(),
            field_names: rules.field_names().iter().copied().map(Cow::Borrowed).collect(),
        }
    }

    /// How custom objects are stored. `schema_version` must differ whenever `schema` does,
    /// so that objects get new defaults when they are read.
    pub(crate) fn custom(
        row: &Resource,
        schema: Arc<Schema>,
        schema_version: u32,
        fields: Vec<(String, Vec<String>)>,
    ) -> Self {
        Self {
            path: key::kind_path(&row.group, &row.plural),
            prefix: key::prefix(&row.group, &row.plural),
            group: row.group.clone(),
            plural: row.plural.clone(),
            kind: row.kind.clone(),
            api_version: row.api_version(),
            schema: SchemaRef::Custom(schema),
            schema_version,
            rules: kinds::rules(&row.group, &row.kind),
            field_names: fields.iter().map(|(name, _)| Cow::Owned(name.clone())).collect(),
            custom_fields: fields,
        }
    }

    /// `<group>/<plural>`: the kind's name among the caches.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// What the keys of its objects begin with.
    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Whether objects are stored and read in the same way.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.schema_version == other.schema_version
            && self.api_version == other.api_version
            && self.kind == other.kind
            && self.custom_fields == other.custom_fields
    }

    /// The fields that field selectors may name, besides `metadata.name` and
    /// `metadata.namespace`.
    pub(crate) fn field_names(&self) -> &[Cow<'static, str>] {
        &self.field_names
    }

    /// Writes an object down for the store.
    pub(crate) fn encode(&self, value: &Value) -> Stored {
        Stored::from_value(value, self.schema_version)
    }

    /// Reads a value of the store: the object with today's defaults, and what selectors
    /// look at. Objects of the current schema are parsed no further than that needs.
    ///
    /// # Errors
    /// [`EnvelopeError`].
    pub(crate) fn decode(&self, value: &Bytes) -> Result<(Stored, Facts), EnvelopeError> {
        let stored = Stored::decode(value)?;
        let current = stored.schema_version == self.schema_version;
        if current && self.field_names.is_empty() {
            let labels: LabelsOnly =
                serde_json::from_slice(&stored.json).map_err(|e| EnvelopeError::Json(e.to_string()))?;
            let facts = Facts { labels: labels.metadata.labels.unwrap_or_default(), fields: Vec::new() };
            return Ok((stored, facts));
        }
        let mut object = stored.value()?;
        if current {
            return Ok((stored, self.facts(&object)));
        }
        if let Ok(schema) = self.schema.get() {
            defaults::apply(&mut object, schema);
        }
        self.rules.default(&mut object);
        let facts = self.facts(&object);
        Ok((self.encode(&object), facts))
    }

    fn facts(&self, object: &Value) -> Facts {
        let mut fields: Vec<(Cow<'static, str>, String)> = self
            .rules
            .selectable_fields(object)
            .into_iter()
            .map(|(name, value)| (Cow::Borrowed(name), value))
            .collect();
        for (name, path) in &self.custom_fields {
            let found = path.iter().try_fold(object, |at, step| at.get(step));
            let text = match found {
                Some(Value::String(text)) => text.clone(),
                Some(Value::Null) | None => String::new(),
                Some(other) => other.to_string(),
            };
            fields.push((Cow::Owned(name.clone()), text));
        }
        Facts { labels: coracle_api::meta::labels(object).cloned().unwrap_or_default(), fields }
    }
}

/// A resource in one version, as it is served.
pub struct Row {
    /// Its row of the resource table.
    pub resource: Resource,
    pub(crate) schema: SchemaRef,
    pub(crate) rules: &'static dyn Kind,
    pub(crate) stored: Arc<StoredKind>,
    pub(crate) custom: Option<Custom>,
    pub(crate) api_version: String,
}

impl Row {
    fn builtin(resource: &Resource) -> Self {
        let rules = kinds::rules(&resource.group, &resource.kind);
        Self {
            api_version: resource.api_version(),
            schema: SchemaRef::Builtin(resource.schema.clone()),
            rules,
            stored: Arc::new(StoredKind::builtin(resource, rules)),
            custom: None,
            resource: resource.clone(),
        }
    }

    /// A row of a custom resource.
    pub(crate) fn custom(
        resource: Resource,
        schema: Arc<Schema>,
        stored: Arc<StoredKind>,
        custom: Custom,
    ) -> Self {
        Self {
            api_version: resource.api_version(),
            schema: SchemaRef::Custom(schema),
            rules: kinds::rules(&resource.group, &resource.kind),
            stored,
            custom: Some(custom),
            resource,
        }
    }

    /// Whether it comes from a CustomResourceDefinition.
    #[must_use]
    pub fn is_custom(&self) -> bool {
        self.custom.is_some()
    }

    /// The schema of its objects, for /openapi and explain.
    #[must_use]
    pub fn schema(&self) -> Option<&Schema> {
        self.schema.get().ok()
    }

    /// Whether this is the resource `plural` of `group`.
    pub(crate) fn is(&self, group: &str, plural: &str) -> bool {
        self.resource.plural == plural && self.resource.group == group
    }

    /// Whether the row shows objects under the apiVersion that they are stored with.
    pub(crate) fn is_storage_version(&self) -> bool {
        self.api_version == self.stored.api_version
    }

    /// Writes an object of this version down for the store.
    pub(crate) fn encode(&self, value: &Value) -> Stored {
        if self.is_storage_version() {
            return self.stored.encode(value);
        }
        let mut value = value.clone();
        coracle_api::meta::set_type(&mut value, &self.stored.api_version, &self.resource.kind);
        self.stored.encode(&value)
    }

    /// Whether status is written through a subresource of its own.
    pub(crate) fn has_status(&self) -> bool {
        self.resource.subresource("status").is_some()
    }
}

/// What is served at one moment.
pub struct ResourceIndex {
    rows: Vec<Arc<Row>>,
    by_plural: HashMap<String, Vec<usize>>,
    generation: u64,
}

impl ResourceIndex {
    /// The built-in kinds.
    #[must_use]
    pub fn builtin() -> Self {
        let rows = resource::builtin()
            .iter()
            .filter(|row| !UNCONVERTED.contains(&(&*row.group, &*row.version, &*row.plural)))
            .map(|row| Arc::new(Row::builtin(row)))
            .collect();
        Self::of(rows, 1)
    }

    fn of(rows: Vec<Arc<Row>>, generation: u64) -> Self {
        let mut by_plural: HashMap<String, Vec<usize>> = HashMap::new();
        for (at, row) in rows.iter().enumerate() {
            by_plural.entry(row.resource.plural.to_string()).or_default().push(at);
        }
        Self { rows, by_plural, generation }
    }

    /// This index with the rows of one definition put in the place of those it had.
    pub(crate) fn with_definition(&self, definition: &str, rows: Vec<Arc<Row>>) -> Self {
        let belongs = |row: &Row| row.custom.as_ref().is_some_and(|custom| custom.definition == definition);
        let mut all: Vec<Arc<Row>> = self.rows.iter().filter(|row| !belongs(row)).cloned().collect();
        all.extend(rows);
        Self::of(all, self.generation + 1)
    }

    /// The rows of one definition.
    pub(crate) fn of_definition<'a>(&'a self, definition: &'a str) -> impl Iterator<Item = &'a Arc<Row>> {
        self.rows
            .iter()
            .filter(move |row| row.custom.as_ref().is_some_and(|custom| custom.definition == definition))
    }

    /// Rises with every change of what is served; equal generations are equal indexes.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Every row: the built-in ones in discovery's order, then custom ones in the order in
    /// which they were established.
    pub fn rows(&self) -> impl Iterator<Item = &Arc<Row>> {
        self.rows.iter()
    }

    /// The row of a resource.
    #[must_use]
    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Row>> {
        self.by_plural
            .get(plural)?
            .iter()
            .filter_map(|at| self.rows.get(*at))
            .find(|row| row.resource.group == group && row.resource.version == version)
    }

    /// The row that shows a resource of `group` as it is stored.
    pub(crate) fn find_stored(&self, group: &str, plural: &str) -> Option<&Arc<Row>> {
        self.by_plural
            .get(plural)?
            .iter()
            .filter_map(|at| self.rows.get(*at))
            .find(|row| row.resource.group == group && row.is_storage_version())
    }

    /// The row of a kind.
    #[must_use]
    pub fn by_kind(&self, group: &str, version: &str, kind: &str) -> Option<&Arc<Row>> {
        self.rows.iter().find(|row| {
            row.resource.kind == kind && row.resource.group == group && row.resource.version == version
        })
    }

    /// Whether any resource of the group and version is served.
    #[must_use]
    pub fn serves(&self, group: &str, version: &str) -> bool {
        self.rows.iter().any(|row| row.resource.group == group && row.resource.version == version)
    }
}
