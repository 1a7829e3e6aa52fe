//! One step of a path into an object: a field, an item by its keys, by its value or by its
//! place. The text forms are those of `FieldsV1` (`f:`, `k:`, `v:`, `i:`) and of conflict messages.

use std::cmp::Ordering;
use std::fmt;

use serde_json::{Map, Value};

/// One step of a path.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Element {
    /// A field of an object, or an entry of a map.
    Field(String),
    /// An item of a list of type map: its keys and their values, sorted by key.
    Key(Vec<(String, Value)>),
    /// An item of a list of type set.
    Value(Value),
    /// An item by its place. Nothing here makes them, but clients may send them.
    Index(i64),
}

impl Element {
    /// Reads the form that `FieldsV1` has.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_once(':')?;
        match kind {
            "f" => Some(Self::Field(rest.to_owned())),
            "k" => match serde_json::from_str(rest).ok()? {
                // The map is sorted by name.
                Value::Object(keys) => Some(Self::Key(keys.into_iter().collect())),
                _ => None,
            },
            "v" => serde_json::from_str(rest).ok().map(Self::Value),
            "i" => rest.parse().ok().map(Self::Index),
            _ => None,
        }
    }

    /// The form that `FieldsV1` has.
    pub(super) fn encode(&self) -> String {
        match self {
            Self::Field(name) => format!("f:{name}"),
            Self::Key(keys) => format!("k:{}", Value::Object(keys.iter().cloned().collect::<Map<_, _>>())),
            Self::Value(value) => format!("v:{value}"),
            Self::Index(index) => format!("i:{index}"),
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Field(_) => 0,
            Self::Key(_) => 1,
            Self::Value(_) => 2,
            Self::Index(_) => 3,
        }
    }
}

impl Eq for Element {}

impl PartialOrd for Element {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Element {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Field(a), Self::Field(b)) => a.cmp(b),
            (Self::Key(a), Self::Key(b)) => {
                for ((a_name, a_value), (b_name, b_value)) in a.iter().zip(b) {
                    let order = a_name.cmp(b_name).then_with(|| compare_values(a_value, b_value));
                    if order != Ordering::Equal {
                        return order;
                    }
                }
                a.len().cmp(&b.len())
            }
            (Self::Value(a), Self::Value(b)) => compare_values(a, b),
            (Self::Index(a), Self::Index(b)) => a.cmp(b),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => write!(f, ".{name}"),
            Self::Key(keys) => {
                f.write_str("[")?;
                for (at, (name, value)) in keys.iter().enumerate() {
                    let comma = if at == 0 { "" } else { "," };
                    write!(f, "{comma}{name}={value}")?;
                }
                f.write_str("]")
            }
            Self::Value(value) => write!(f, "[={value}]"),
            Self::Index(index) => write!(f, "[{index}]"),
        }
    }
}

/// A total order of scalars: numbers, texts, booleans, then the rest.
fn compare_values(a: &Value, b: &Value) -> Ordering {
    let rank = |value: &Value| match value {
        Value::Number(_) => 0,
        Value::String(_) => 1,
        Value::Bool(_) => 2,
        _ => 3,
    };
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => match (x.as_i64(), y.as_i64()) {
            (Some(x), Some(y)) => x.cmp(&y),
            _ => x.as_f64().unwrap_or_default().total_cmp(&y.as_f64().unwrap_or_default()),
        },
        (Value::String(x), Value::String(y)) => x.cmp(y),
        (Value::Bool(x), Value::Bool(y)) => x.cmp(y),
        _ => rank(a).cmp(&rank(b)).then_with(|| a.to_string().cmp(&b.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_survive_their_text_form() {
        for text in ["f:a.b/c", r#"k:{"containerPort":80,"protocol":"TCP"}"#, r#"v:"x""#, "v:3", "i:2"] {
            assert_eq!(Element::parse(text).unwrap().encode(), text);
        }
        for text in ["", ".", "f", "x:y", "k:3", "v:{", "i:x"] {
            assert_eq!(Element::parse(text), None, "{text}");
        }
    }

    #[test]
    fn elements_are_shown_as_in_conflicts() {
        let rows = [
            ("f:a", ".a"),
            (r#"k:{"protocol":"TCP","port":80}"#, r#"[port=80,protocol="TCP"]"#),
            (r#"v:"x""#, r#"[="x"]"#),
            ("i:2", "[2]"),
        ];
        for (text, shown) in rows {
            assert_eq!(Element::parse(text).unwrap().to_string(), shown);
        }
    }
}
