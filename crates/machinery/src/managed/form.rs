//! How a value merges, by its schema: as one value, field by field, or item by item.
//!
//! Where a custom resource keeps unknown fields there is no schema; a value there merges by what it
//! is: objects field by field, everything else as one value.

use coracle_api::schema::{Field, ListType, MapType, Schema, Type};
use serde_json::{Map, Value};

use super::element::Element;

/// Fields that are objects by value in Go, whatever the kind: never absent.
const VALUES: &[&str] = &["metadata", "spec", "status"];
/// Further ones: the definition and the field.
const VALUES_OF: &[(&str, &str)] = &[
    ("Container", "resources"),
    ("ContainerStatus", "lastState"),
    ("ContainerStatus", "state"),
    ("DaemonSetSpec", "updateStrategy"),
    ("DeploymentSpec", "strategy"),
    ("Endpoint", "conditions"),
    ("EphemeralContainer", "resources"),
    ("Event", "source"),
    ("IngressStatus", "loadBalancer"),
    ("NetworkPolicySpec", "podSelector"),
    ("NodeDaemonEndpoints", "kubeletEndpoint"),
    ("NodeStatus", "daemonEndpoints"),
    ("NodeStatus", "nodeInfo"),
    ("PersistentVolumeClaimSpec", "resources"),
    ("ServiceStatus", "loadBalancer"),
    ("StatefulSetSpec", "updateStrategy"),
];
/// Selectors are pointers in Go even where they are required.
const SELECTOR: &str = "LabelSelector";

static EMPTY: std::sync::LazyLock<Value> = std::sync::LazyLock::new(|| Value::Object(Map::new()));
static NOTHING: Value = Value::Null;

/// The type of a place.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    /// The schema; `None` where there is none.
    schema: Option<&'a Schema>,
    /// Whether it is inside of a custom resource.
    custom: bool,
}

/// How a value merges.
pub(super) enum Form<'a> {
    /// As one value.
    Leaf,
    /// Field by field.
    Fields(Place<'a>),
    /// A list of items that are unique scalars.
    Set,
    /// A list of objects with keys.
    Items(&'a [std::borrow::Cow<'static, str>], &'a Schema, Place<'a>),
}

impl<'a> Place<'a> {
    /// The place of a whole object.
    pub(super) fn root(schema: &'a Schema) -> Self {
        Self { schema: Some(schema), custom: schema.from_crd }
    }

    /// How `value` merges here.
    pub(super) fn form(self, value: &Value) -> Form<'a> {
        let Some(schema) = self.schema else {
            return if value.is_object() { Form::Fields(self) } else { Form::Leaf };
        };
        match schema.ty {
            Type::Object if schema.map_type == MapType::Granular => Form::Fields(self),
            Type::Array => match (&schema.list_type, schema.item()) {
                (ListType::Set, _) => Form::Set,
                (ListType::Map(keys), Some(item)) => Form::Items(keys, item, self.at(item)),
                _ => Form::Leaf,
            },
            Type::Any if self.custom && value.is_object() => {
                Form::Fields(Self { schema: None, custom: true })
            }
            _ => Form::Leaf,
        }
    }

    fn at(self, schema: &'a Schema) -> Self {
        Self { schema: Some(schema), custom: self.custom || schema.from_crd }
    }

    /// The place of a field.
    pub(super) fn child(self, name: &str) -> Self {
        match self.schema.and_then(|schema| schema.child(name)) {
            Some(schema) => self.at(schema),
            None => Self { schema: None, custom: self.custom },
        }
    }

    /// The place of a list's items.
    pub(super) fn item(self) -> Self {
        match self.schema.and_then(Schema::item) {
            Some(schema) => self.at(schema),
            None => Self { schema: None, custom: self.custom },
        }
    }

    /// Whether `name` is a field that the schema names, not an entry of a map.
    pub(super) fn names(self, name: &str) -> bool {
        self.schema.is_some_and(|schema| schema.field(name).is_some())
    }

    /// What an absent field of an object that is there counts as: Go has values where JSON may
    /// leave a field out.
    pub(super) fn absent(self, name: &str, other: &Value) -> Option<&'static Value> {
        let schema = self.schema.filter(|_| !self.custom)?;
        let field = schema.field(name)?;
        match field.schema().ty {
            Type::Object if is_value(schema, field) => Some(&EMPTY),
            Type::Array if field.required => Some(&NOTHING),
            Type::String | Type::Integer | Type::Boolean if field.required => zero(other),
            _ => None,
        }
    }

    /// The schema, where there is one.
    pub(super) fn schema(self) -> Option<&'a Schema> {
        self.schema
    }
}

/// Whether Go has an object there even when it is empty.
fn is_value(schema: &Schema, field: &Field) -> bool {
    !field.schema().is_map()
        && ((field.required && field.schema().short_definition() != SELECTOR)
            || VALUES.contains(&&*field.name)
            || VALUES_OF.contains(&(schema.short_definition(), &*field.name)))
}

fn zero(value: &Value) -> Option<&'static Value> {
    static ZEROS: std::sync::LazyLock<[Value; 3]> =
        std::sync::LazyLock::new(|| [Value::String(String::new()), 0.into(), false.into()]);
    ZEROS.iter().find(|zero| *zero == value)
}

/// The element of an item in a list of type map; a missing key has its default.
///
/// # Errors
/// Why the item has no element.
pub(super) fn item_element(
    item: &Value,
    keys: &[std::borrow::Cow<'static, str>],
    schema: &Schema,
) -> Result<Element, String> {
    let Some(map) = item.as_object() else {
        return Err(match item {
            Value::Null => "associative list with keys may not have a null element".to_owned(),
            _ => "associative list with keys may not have non-map elements".to_owned(),
        });
    };
    let mut found = Vec::with_capacity(keys.len());
    for key in keys {
        let default = || schema.field(key).and_then(|field| field.node.default.as_deref());
        match map.get(&**key).or_else(default) {
            Some(value) => found.push((key.to_string(), value.clone())),
            None => {
                return Err(format!(
                    "associative list with keys has an element that omits key field {key:?} (and doesn't have default value)"
                ));
            }
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(Element::Key(found))
}

/// The element of an item in a list of type set.
///
/// # Errors
/// Why the item has no element.
pub(super) fn value_element(item: &Value) -> Result<Element, String> {
    match item {
        Value::Object(_) => Err("associative list without keys has an element that's a map type".to_owned()),
        Value::Array(_) => Err("not supported: associative list with lists as elements".to_owned()),
        Value::Null => Err("associative list without keys has an element that's an explicit null".to_owned()),
        scalar => Ok(Element::Value(scalar.clone())),
    }
}

/// The items of a list of type map or set with their elements; those without one are left out.
pub(super) fn elements<'v>(list: Option<&'v Value>, form: &Form<'_>) -> Vec<(Element, &'v Value)> {
    let items = list.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let of = |item: &Value| match form {
        Form::Items(keys, schema, _) => item_element(item, keys, schema),
        _ => value_element(item),
    };
    items.iter().filter_map(|item| Some((of(item).ok()?, item))).collect()
}

/// Whether a value is nothing or an empty list or object.
pub(super) fn is_hollow(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::Object(map)) => map.is_empty(),
        Some(Value::Array(items)) => items.is_empty(),
        Some(_) => false,
    }
}

/// The fields of an object; none for anything else.
pub(super) fn fields(value: Option<&Value>) -> Option<&Map<String, Value>> {
    value.and_then(Value::as_object)
}
