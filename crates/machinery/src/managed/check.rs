//! Whether an applied object can be laid over another at all: its fields are known, its values have
//! the types of the schema, and no item of a list is there twice.

use std::collections::BTreeSet;

use coracle_api::schema::{Schema, Type};
use serde_json::{Map, Value};

use super::form::{Form, Place, item_element, value_element};

/// Problems that are told; beyond that an object is only wrong.
const PROBLEMS_MAX: usize = 100;

/// What is wrong with an applied object, as `path: problem`.
pub(super) fn check(applied: &Value, schema: &Schema) -> Vec<String> {
    let mut check = Check { problems: Vec::new() };
    check.value(applied, Place::root(schema), "");
    check.problems
}

struct Check {
    problems: Vec<String>,
}

impl Check {
    fn problem(&mut self, path: &str, why: impl std::fmt::Display) {
        if self.problems.len() < PROBLEMS_MAX {
            let colon = if path.is_empty() { "" } else { ": " };
            self.problems.push(format!("{path}{colon}{why}"));
        }
    }

    fn value(&mut self, value: &Value, place: Place<'_>, path: &str) {
        let Some(schema) = place.schema() else { return };
        match (schema.ty, value) {
            (_, Value::Null) | (Type::Any, _) => {}
            (Type::Object, Value::Object(map)) => self.fields(map, schema, place, path),
            (Type::Object, other) => self.problem(path, format!("expected map, got {}", shown(other))),
            (Type::Array, Value::Array(items)) => self.items(value, items, place, path),
            (Type::Array, other) => self.problem(path, format!("expected list, got {}", shown(other))),
            (_, Value::Object(_) | Value::Array(_)) => {
                self.problem(path, format!("expected {}, got {}", name_of(schema.ty), shown(value)));
            }
            (Type::String, Value::Number(_) | Value::Bool(_))
            | (Type::Boolean, Value::Number(_) | Value::String(_))
            | (Type::Integer | Type::Number, Value::String(_) | Value::Bool(_)) => {
                self.problem(path, format!("expected {}, got {}", name_of(schema.ty), shown(value)));
            }
            _ => {}
        }
    }

    fn fields(&mut self, map: &Map<String, Value>, schema: &Schema, place: Place<'_>, path: &str) {
        for (name, value) in map {
            let path = format!("{path}.{name}");
            if schema.child(name).is_some() {
                self.value(value, place.child(name), &path);
            } else if !schema.preserve_unknown {
                self.problem(&path, "field not declared in schema");
            }
        }
    }

    fn items(&mut self, list: &Value, items: &[Value], place: Place<'_>, path: &str) {
        let form = place.form(list);
        let mut seen = BTreeSet::new();
        for (at, item) in items.iter().enumerate() {
            let element = match &form {
                Form::Items(keys, schema, _) => item_element(item, keys, schema),
                Form::Set => value_element(item),
                _ => {
                    self.value(item, place.item(), &format!("{path}[{at}]"));
                    continue;
                }
            };
            match element {
                Err(why) => self.problem(path, format!("element {at}: {why}")),
                Ok(element) => {
                    self.value(item, place.item(), &format!("{path}{element}"));
                    if seen.contains(&element) {
                        self.problem(path, format!("duplicate entries for key {element}"));
                    }
                    seen.insert(element);
                }
            }
        }
    }
}

fn name_of(ty: Type) -> &'static str {
    match ty {
        Type::Boolean => "boolean",
        Type::Integer | Type::Number => "numeric",
        Type::String => "string",
        _ => "scalar",
    }
}

fn shown(value: &Value) -> String {
    format!("&{{{value}}}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_api::schema;
    use serde_json::json;

    #[test]
    fn unknown_fields_wrong_types_and_doubles_are_told() {
        let schema = schema::builtin("io.k8s.api.core.v1.Pod").unwrap();
        let good = json!({"spec": {"containers": [{"name": "a", "resources": {"limits": {"cpu": 1}},
            "ports": [{"containerPort": 1}, {"containerPort": 1, "protocol": "UDP"}], "args": ["a", "a"]}]}});
        assert_eq!(check(&good, schema), Vec::<String>::new());
        let rows = [
            (json!({"spec": {"colour": 1}}), ".spec.colour: field not declared in schema"),
            (json!({"spec": {"hostname": 1}}), ".spec.hostname: expected string, got &{1}"),
            (json!({"spec": {"containers": {}}}), ".spec.containers: expected list, got &{{}}"),
            (
                json!({"spec": {"containers": [{"name": "a"}, {"name": "a"}]}}),
                ".spec.containers: duplicate entries for key [name=\"a\"]",
            ),
        ];
        for (object, want) in rows {
            assert_eq!(check(&object, schema), [want]);
        }
        assert!(
            check(&json!({"spec": {"containers": [{}]}}), schema)[0].contains("omits key field \"name\"")
        );
    }
}
