//! Kinds without cells of their own: custom resources, whose columns name where their cells come
//! from, and built-in ones of which only what every object has is shown.

use coracle_api::resource::Column;
use coracle_api::{Resource, meta};
use jiff::Timestamp;
use serde_json::Value;

use super::age::{age, since};

/// The cells of an object by its resource's columns.
pub(super) fn cells(resource: &Resource, object: &Value, now: Timestamp) -> Vec<Value> {
    resource.columns.iter().map(|column| cell(column, object, now)).collect()
}

fn cell(column: &Column, object: &Value, now: Timestamp) -> Value {
    if column.format == "name" {
        return meta::name(object).into();
    }
    if column.name == "Age" && matches!(column.json_path.as_ref(), "" | ".metadata.creationTimestamp") {
        return age(object, now).into();
    }
    if column.name == "Created At" {
        return meta::creation_timestamp(object).unwrap_or_default().into();
    }
    let found = match column.json_path.as_ref() {
        "" => None,
        path => lookup(object, path),
    };
    match (column.ty.as_ref(), found) {
        (_, None | Some(Value::Null)) => Value::Null,
        ("date", Some(Value::String(text))) => since(text, now).into(),
        ("string", Some(value @ (Value::String(_) | Value::Object(_) | Value::Array(_)))) => match value {
            Value::String(text) => text.as_str().into(),
            other => other.to_string().into(),
        },
        ("string", Some(value)) => value.to_string().into(),
        ("integer", Some(value @ Value::Number(number))) => match number.as_f64() {
            Some(float) if !value.is_i64() => (float as i64).into(),
            _ => value.clone(),
        },
        ("integer" | "number" | "boolean", Some(value @ (Value::Number(_) | Value::Bool(_)))) => {
            value.clone()
        }
        _ => Value::Null,
    }
}

/// The value at a simple JSON path: `.spec.a.b`, `.spec.list[0].x`, `.metadata.labels.a\.b`.
fn lookup<'a>(object: &'a Value, path: &str) -> Option<&'a Value> {
    let mut at = object;
    for step in steps(path) {
        at = match step.strip_prefix('[').and_then(|s| s.strip_suffix(']')) {
            Some(inner) => match inner.parse::<usize>() {
                Ok(index) => at.get(index)?,
                Err(_) => at.get(inner.trim_matches(|c| c == '\'' || c == '"'))?,
            },
            None => at.get(step.as_str())?,
        };
    }
    Some(at)
}

/// Splits at dots and before brackets; a backslash takes the next character as it is.
fn steps(path: &str) -> Vec<String> {
    let (mut out, mut step) = (Vec::new(), String::new());
    let mut chars = path.chars();
    let mut inside = false;
    while let Some(c) = chars.next() {
        match c {
            '\\' => step.extend(chars.next()),
            '.' if !inside => {
                if !step.is_empty() {
                    out.push(std::mem::take(&mut step));
                }
            }
            '[' => {
                if !step.is_empty() {
                    out.push(std::mem::take(&mut step));
                }
                inside = true;
                step.push(c);
            }
            ']' => {
                inside = false;
                step.push(c);
                out.push(std::mem::take(&mut step));
            }
            c => step.push(c),
        }
    }
    if !step.is_empty() {
        out.push(step);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_of_columns() {
        let object =
            json!({"spec": {"a": {"b": 1}, "l": [{"x": "y"}]}, "metadata": {"labels": {"a.b/c": "d"}}});
        let rows = [
            (".spec.a.b", Some(json!(1))),
            (".spec.l[0].x", Some(json!("y"))),
            (r".metadata.labels.a\.b/c", Some(json!("d"))),
            (".metadata.labels['a.b/c']", Some(json!("d"))),
            (".spec.none", None),
        ];
        for (path, expected) in rows {
            assert_eq!(lookup(&object, path), expected.as_ref(), "{path}");
        }
    }
}
