//! Bytes to values: JSON and YAML through one visitor that notes duplicate fields.
//!
//! The JSON parser is serde_json's, which bounds nesting at 128; the YAML parser is
//! serde-saphyr's, which bounds aliases and events. YAML is read as Kubernetes reads it, by the
//! rules of 1.1: `yes` and `on` are booleans, `0400` is octal.

use std::fmt;

use coracle_api::FieldPath;
use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Duplicate fields that are told; more are only counted as "more".
const DUPLICATES_MAX: usize = 100;
/// How deep YAML may nest; JSON's parser has the same bound of its own.
const DEPTH_MAX: usize = 128;

/// A parsed body.
#[derive(Debug, PartialEq)]
pub(super) struct Parsed {
    /// The value; of a duplicate field the last one counts, and duplicate objects are merged.
    pub(super) value: Value,
    /// The paths of the fields that were there more than once.
    pub(super) duplicates: Vec<String>,
}

/// Parses JSON. The error is worded as Go words it where that is possible.
pub(super) fn json(bytes: &[u8]) -> Result<Parsed, String> {
    let mut duplicates = Vec::new();
    let mut parser = serde_json::Deserializer::from_slice(bytes);
    let seed = Seed { duplicates: &mut duplicates, path: FieldPath::ROOT, depth: 0 };
    let value = seed.deserialize(&mut parser).and_then(|value| parser.end().map(|()| value));
    match value {
        Ok(value) => Ok(Parsed { value, duplicates }),
        Err(error) if error.is_eof() => Err("unexpected end of JSON input".to_owned()),
        Err(error) => Err(format!("invalid JSON: {error}")),
    }
}

/// Parses one YAML document.
pub(super) fn yaml(bytes: &[u8]) -> Result<Parsed, String> {
    let mut duplicates = Vec::new();
    let options = serde_saphyr::options! {
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::LastWins,
        legacy_octal_numbers: true,
        strict_booleans: false,
        with_snippet: false,
    };
    let parsed = serde_saphyr::with_deserializer_from_slice_with_options(bytes, options, |parser| {
        Seed { duplicates: &mut duplicates, path: FieldPath::ROOT, depth: 0 }.deserialize(parser)
    });
    match parsed {
        Ok(value) => Ok(Parsed { value, duplicates }),
        Err(error) => Err(format!("error converting YAML to JSON: {error}")),
    }
}

struct Seed<'a> {
    duplicates: &'a mut Vec<String>,
    path: FieldPath<'a>,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        if self.depth > DEPTH_MAX {
            return Err(D::Error::custom("nested too deeply"));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("not a finite number"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        loop {
            let path = self.path.index(items.len());
            let seed = Seed { duplicates: &mut *self.duplicates, path, depth: self.depth + 1 };
            match access.next_element_seed(seed)? {
                Some(item) => items.push(item),
                None => return Ok(Value::Array(items)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            let path = self.path.child(&key);
            let seed = Seed { duplicates: &mut *self.duplicates, path, depth: self.depth + 1 };
            let value = access.next_value_seed(seed)?;
            match map.get_mut(&key) {
                None => {
                    map.insert(key, value);
                }
                Some(first) => {
                    if self.duplicates.len() < DUPLICATES_MAX {
                        self.duplicates.push(self.path.child(&key).to_string());
                    }
                    merge(first, value);
                }
            }
        }
        Ok(Value::Object(map))
    }
}

/// A later duplicate wins; into an object it is decoded on top, as Go does.
fn merge(first: &mut Value, second: Value) {
    match (first, second) {
        (Value::Object(first), Value::Object(second)) => first.extend(second),
        (first, second) => *first = second,
    }
}
