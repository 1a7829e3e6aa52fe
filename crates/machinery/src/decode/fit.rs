//! Making a parsed value fit its schema: one walk that checks types, removes unknown fields and
//! values that mean "not given", and brings scalars into their one form.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coracle_api::quantity::Quantity;
use coracle_api::schema::{Field, Format, Schema, Type};
use coracle_api::{FieldPath, time};
use serde_json::{Map, Value};

/// Unknown fields that are told; beyond that they are only removed.
const UNKNOWN_MAX: usize = 100;

/// Fits `value` to `schema`. Answers the unknown fields that were removed, or the first value
/// that does not fit, in the words of Go's decoder.
pub(super) fn fit(value: &mut Value, schema: &Schema) -> Result<Vec<String>, String> {
    let mut walk = Walk { unknown: Vec::new() };
    let place = Place { path: FieldPath::ROOT, owner: schema };
    walk.value(value, schema, &place)?;
    Ok(walk.unknown)
}

/// How Go names the JSON type of a value.
pub(super) fn go_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

struct Walk {
    unknown: Vec<String>,
}

/// Where a value is, and the struct whose field it is (Go's messages name both).
struct Place<'a> {
    path: FieldPath<'a>,
    owner: &'a Schema,
}

impl Place<'_> {
    fn refuse(&self, value: &Value, schema: &Schema) -> String {
        let number = match value {
            Value::Number(n) if matches!(schema.ty, Type::Integer | Type::Number) => format!(" {n}"),
            _ => String::new(),
        };
        let struct_name = self.owner.short_definition();
        let dot = if struct_name.is_empty() { "" } else { "." };
        format!(
            "json: cannot unmarshal {}{number} into Go struct field {struct_name}{dot}{} of type {}",
            go_name(value),
            self.path.names(),
            schema.go_type()
        )
    }
}

impl Walk {
    fn value(&mut self, value: &mut Value, schema: &Schema, place: &Place<'_>) -> Result<(), String> {
        match (schema.ty, &mut *value) {
            (Type::Any, _) => return Ok(()),
            (_, Value::Null) => return Ok(()),
            (Type::Object, Value::Object(map)) => return self.object(map, schema, place),
            (Type::Array, Value::Array(items)) => return self.array(items, schema, place),
            (Type::String, Value::String(text)) => return string(text, schema),
            (Type::Boolean, Value::Bool(_)) | (Type::Number, Value::Number(_)) => return Ok(()),
            (Type::Integer, Value::Number(number)) => {
                let fits = match schema.format {
                    Format::Int32 => number.as_i64().is_some_and(|n| i32::try_from(n).is_ok()),
                    _ => number.is_i64(),
                };
                if fits {
                    return Ok(());
                }
            }
            (Type::IntOrString, Value::String(_)) => return Ok(()),
            (Type::IntOrString, Value::Number(n)) if n.is_i64() => return Ok(()),
            (Type::Quantity, Value::String(_) | Value::Number(_)) => {
                let quantity = Quantity::from_value(value).map_err(|error| error.to_string())?;
                *value = Value::String(quantity.to_string());
                return Ok(());
            }
            _ => {}
        }
        // What a custom resource's values must be is a matter of validation, with all errors told.
        if schema.from_crd { Ok(()) } else { Err(place.refuse(value, schema)) }
    }

    fn array(&mut self, items: &mut [Value], schema: &Schema, place: &Place<'_>) -> Result<(), String> {
        let Some(of) = schema.item() else { return Ok(()) };
        for (i, item) in items.iter_mut().enumerate() {
            if item.is_null() {
                *item = zero(of);
            }
            let place = Place { path: place.path.index(i), owner: place.owner };
            self.value(item, of, &place)?;
        }
        Ok(())
    }

    fn object(
        &mut self,
        map: &mut Map<String, Value>,
        schema: &Schema,
        place: &Place<'_>,
    ) -> Result<(), String> {
        let owner = if schema.definition.is_empty() { place.owner } else { schema };
        if schema.is_map() {
            return self.entries(map, schema, place);
        }
        let mut drop: Vec<String> = Vec::new();
        for (name, value) in map.iter_mut() {
            let path = place.path.child(name);
            if let Some(field) = schema.field(name) {
                self.value(value, field.schema(), &Place { path, owner })?;
                if means_nothing(value, field) {
                    drop.push(name.clone());
                }
            } else if let Some(additional) = &schema.additional {
                self.value(value, additional.schema(), &Place { path, owner })?;
            } else if !schema.preserve_unknown {
                if self.unknown.len() < UNKNOWN_MAX {
                    self.unknown.push(format!("unknown field {:?}", path.to_string()));
                }
                drop.push(name.clone());
            }
        }
        for name in drop {
            map.remove(&name);
        }
        Ok(())
    }

    /// A map: any keys, values of one schema, where `null` is the value's zero.
    fn entries(
        &mut self,
        map: &mut Map<String, Value>,
        schema: &Schema,
        place: &Place<'_>,
    ) -> Result<(), String> {
        let Some(of) = schema.additional.as_ref().map(coracle_api::schema::Node::schema) else {
            return Ok(());
        };
        for (key, value) in map.iter_mut() {
            if value.is_null() && !of.nullable {
                *value = zero(of);
            }
            self.value(value, of, &Place { path: place.path.key(key), owner: place.owner })?;
        }
        Ok(())
    }
}

/// What a `null` in a list or map stands for.
fn zero(schema: &Schema) -> Value {
    match schema.ty {
        Type::Object if !schema.is_map() => Value::Object(Map::new()),
        Type::String => Value::String(String::new()),
        Type::Integer => 0.into(),
        Type::Boolean => false.into(),
        Type::Quantity => "0".into(),
        _ => Value::Null,
    }
}

/// Whether a field's value is one that Go does not write. Custom resources keep what they are
/// given: only Go structs have zero values.
fn means_nothing(value: &Value, field: &Field) -> bool {
    let schema = field.schema();
    if schema.from_crd {
        return false;
    }
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty() && !field.required && schema.ty != Type::Any,
        Value::Object(map) => map.is_empty() && !field.required && schema.is_map(),
        Value::String(text) => text.is_empty() && field.zero_is_absent,
        Value::Number(number) => field.zero_is_absent && number.as_i64() == Some(0),
        Value::Bool(flag) => field.zero_is_absent && !flag,
    }
}

fn string(text: &str, schema: &Schema) -> Result<(), String> {
    match schema.format {
        Format::Time | Format::MicroTime
            if !schema.from_crd && !text.is_empty() && time::parse(text).is_none() =>
        {
            let layout = "2006-01-02T15:04:05Z07:00";
            Err(format!("parsing time {text:?} as {layout:?}: cannot parse {text:?} as \"2006\""))
        }
        Format::Byte if !schema.from_crd => match STANDARD.decode(text) {
            Ok(_) => Ok(()),
            Err(base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _)) => {
                Err(format!("illegal base64 data at input byte {at}"))
            }
            Err(_) => Err(format!("illegal base64 data at input byte {}", text.len() / 4 * 4)),
        },
        _ => Ok(()),
    }
}
