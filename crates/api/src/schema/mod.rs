//! Schemas: what an object of a kind looks like, and how its parts merge.
//!
//! One model serves built-in kinds and custom resources. Decoding, pruning, defaulting, patches
//! and server-side apply all walk a [`Schema`]; none of them knows where it came from. Built-in
//! schemas are a table made at build time ([`builtin`]) that is decoded once, at first use; those
//! of CustomResourceDefinitions are read by [`from_crd`].

use serde_json::Value;

use crate::resource::Str;

mod crd;
pub mod openapi;
mod table;

pub use crd::from_crd;
pub use table::builtin;

/// The JSON type of a value, with the two unions that Kubernetes has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Type {
    /// Anything; never looked into.
    #[default]
    Any,
    /// An object: with fields, or a map if there is a schema for additional ones.
    Object,
    /// A list.
    Array,
    /// Text.
    String,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// `true` or `false`.
    Boolean,
    /// A whole number or text.
    IntOrString,
    /// A quantity: a number or text, kept canonical.
    Quantity,
}

/// What a text or a number holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Nothing in particular.
    #[default]
    None,
    /// A 32-bit integer.
    Int32,
    /// A 64-bit integer.
    Int64,
    /// A float.
    Double,
    /// Base64.
    Byte,
    /// RFC 3339 in seconds.
    Time,
    /// RFC 3339 in microseconds.
    MicroTime,
}

/// How a list merges under server-side apply.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ListType {
    /// It is replaced whole.
    #[default]
    Atomic,
    /// Its items are unique scalars.
    Set,
    /// Its items are objects with these keys.
    Map(Vec<Str>),
}

/// How an object merges under server-side apply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MapType {
    /// Field by field.
    #[default]
    Granular,
    /// It is replaced whole.
    Atomic,
}

/// The schema of a value.
#[derive(Clone, Debug, Default)]
pub struct Schema {
    /// The JSON type.
    pub ty: Type,
    /// What the scalar holds.
    pub format: Format,
    /// The definition's full name, such as `io.k8s.api.core.v1.PodSpec`; empty without one.
    pub definition: Str,
    /// The fields of an object, sorted by name.
    pub fields: Vec<Field>,
    /// The schema of a list's items.
    pub items: Option<Node>,
    /// The schema of values under names that are not fields.
    pub additional: Option<Node>,
    /// How a list merges.
    pub list_type: ListType,
    /// How an object merges.
    pub map_type: MapType,
    /// Whether `null` is a value of its own.
    pub nullable: bool,
    /// Whether unknown fields are kept.
    pub preserve_unknown: bool,
    /// Whether the value is a whole object with `apiVersion`, `kind` and `metadata`.
    pub embedded: bool,
    /// Whether the schema is a custom resource's: values are kept as given, and checked by rules.
    pub from_crd: bool,
    /// Whether a field in the object has a default, so that defaulting must look at it.
    pub has_defaults: bool,
    /// Value rules of custom resources.
    pub rules: Option<Box<Rules>>,
}

/// Value rules, as in an OpenAPI v3 schema. Built-in kinds have Rust rules instead.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// The values that are allowed; empty allows all.
    pub enums: Vec<Value>,
    /// The name of a string format, such as `uuid`.
    pub format: String,
    /// A regular expression.
    pub pattern: String,
    /// The least number allowed.
    pub minimum: Option<f64>,
    /// The greatest number allowed.
    pub maximum: Option<f64>,
    /// Whether `minimum` itself is refused.
    pub exclusive_minimum: bool,
    /// Whether `maximum` itself is refused.
    pub exclusive_maximum: bool,
    /// What a number must be a multiple of.
    pub multiple_of: Option<f64>,
    /// The least length in characters.
    pub min_length: Option<u64>,
    /// The greatest length in characters.
    pub max_length: Option<u64>,
    /// The least number of items.
    pub min_items: Option<u64>,
    /// The greatest number of items.
    pub max_items: Option<u64>,
    /// Whether items must differ.
    pub unique_items: bool,
    /// The least number of fields.
    pub min_properties: Option<u64>,
    /// The greatest number of fields.
    pub max_properties: Option<u64>,
    /// Rules of which all must hold; types are not repeated in them.
    pub all_of: Vec<Schema>,
    /// Rules of which one or more must hold.
    pub any_of: Vec<Schema>,
    /// Rules of which exactly one must hold.
    pub one_of: Vec<Schema>,
    /// A rule that must not hold.
    pub not: Option<Box<Schema>>,
    /// `x-kubernetes-validations`, as written.
    pub validations: Vec<Value>,
}

/// A schema in its place, with the default that the place gives.
#[derive(Clone, Debug, Default)]
pub struct Node {
    target: Target,
    /// What an absent value becomes.
    pub default: Option<Box<Value>>,
}

#[derive(Clone, Debug)]
enum Target {
    /// A scalar that many places share.
    Shared(&'static Schema),
    /// A schema of this place alone.
    Inline(Box<Schema>),
    /// A built-in definition, by number.
    Named(u32),
}

impl Default for Target {
    fn default() -> Self {
        Self::Shared(&table::ANY)
    }
}

impl Node {
    /// A node with a schema of its own.
    pub fn inline(schema: Schema) -> Self {
        Self { target: Target::Inline(Box::new(schema)), default: None }
    }

    /// The schema.
    pub fn schema(&self) -> &Schema {
        match &self.target {
            Target::Shared(schema) => schema,
            Target::Inline(schema) => schema,
            Target::Named(number) => table::by_number(*number),
        }
    }
}

/// A strategy of strategic merge patches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PatchStrategy {
    /// A list merges by key (or as a set, if its items are scalars).
    pub merge: bool,
    /// Fields that the patch does not name are removed if it says so with `$retainKeys`.
    pub retain_keys: bool,
    /// An object is replaced, not merged.
    pub replace: bool,
}

/// A field of an object.
#[derive(Clone, Debug, Default)]
pub struct Field {
    /// The name.
    pub name: Str,
    /// The schema.
    pub node: Node,
    /// Whether it must be there.
    pub required: bool,
    /// Whether `""`, `0` or `false` is as good as absent (Go's `omitempty` on a value).
    pub zero_is_absent: bool,
    /// How strategic merge patches treat it.
    pub patch: PatchStrategy,
    /// The key by which a strategic merge patch finds items.
    pub merge_key: Str,
}

impl Field {
    /// The schema of the field's value.
    pub fn schema(&self) -> &Schema {
        self.node.schema()
    }
}

impl Schema {
    /// The field called `name`.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.binary_search_by(|f| (*f.name).cmp(name)).ok().map(|i| &self.fields[i])
    }

    /// The schema of the value under `name`: a field's, or that of additional ones.
    pub fn child(&self, name: &str) -> Option<&Schema> {
        match self.field(name) {
            Some(field) => Some(field.schema()),
            None => self.additional.as_ref().map(Node::schema),
        }
    }

    /// The schema at a path of field names; lists and maps are stepped into on the way.
    pub fn at(&self, path: &[&str]) -> Option<&Schema> {
        let mut at = self;
        for name in path {
            while let (Type::Array, Some(items)) = (at.ty, &at.items) {
                at = items.schema();
            }
            at = at.child(name)?;
        }
        Some(at)
    }

    /// The schema of a list's items.
    pub fn item(&self) -> Option<&Schema> {
        self.items.as_ref().map(Node::schema)
    }

    /// Whether it is a map from any name to values of one schema.
    pub fn is_map(&self) -> bool {
        self.ty == Type::Object && self.fields.is_empty() && self.additional.is_some()
    }

    /// The last part of the definition's name: the Go struct's name for built-in kinds.
    pub fn short_definition(&self) -> &str {
        self.definition.rsplit('.').next().unwrap_or_default()
    }

    /// How Go names the type in messages: `[]v1.Container`, `map[string]string`, `int32`.
    pub fn go_type(&self) -> String {
        match self.ty {
            Type::Array => format!("[]{}", self.item().map(Self::go_type).unwrap_or_default()),
            Type::Object if self.is_map() => {
                format!(
                    "map[string]{}",
                    self.additional.as_ref().map(|n| n.schema().go_type()).unwrap_or_default()
                )
            }
            Type::Object if !self.definition.is_empty() => {
                let mut parts = self.definition.rsplitn(3, '.');
                let (kind, version) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
                format!("{version}.{kind}")
            }
            Type::Object => "map[string]interface {}".to_owned(),
            Type::String if self.format == Format::Byte => "[]uint8".to_owned(),
            Type::String => "string".to_owned(),
            Type::Integer if self.format == Format::Int32 => "int32".to_owned(),
            Type::Integer => "int64".to_owned(),
            Type::Number => "float64".to_owned(),
            Type::Boolean => "bool".to_owned(),
            Type::IntOrString => "intstr.IntOrString".to_owned(),
            Type::Quantity => "resource.Quantity".to_owned(),
            Type::Any => "interface {}".to_owned(),
        }
    }

    /// Sorts the fields and notes which have defaults; whoever builds a schema ends with this.
    fn finish(mut self) -> Self {
        self.fields.sort_by(|a, b| a.name.cmp(&b.name));
        self.has_defaults = self.fields.iter().any(|f| f.node.default.is_some());
        self
    }
}

#[cfg(test)]
mod tests;
