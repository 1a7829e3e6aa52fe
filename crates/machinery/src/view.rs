//! Looking into JSON values without unwrapping at each step: what is not there, or has another
//! type, reads as nothing.

use serde_json::{Map, Value};

static NULL: Value = Value::Null;

/// The value at a dotted path of fields, or `Null`.
pub(crate) fn at<'a>(value: &'a Value, path: &str) -> &'a Value {
    path.split('.').try_fold(value, |v, name| v.get(name)).unwrap_or(&NULL)
}

/// The text at a dotted path, or `""`.
pub(crate) fn text<'a>(value: &'a Value, path: &str) -> &'a str {
    at(value, path).as_str().unwrap_or_default()
}

/// The whole number at a dotted path.
pub(crate) fn int(value: &Value, path: &str) -> Option<i64> {
    at(value, path).as_i64()
}

/// The flag at a dotted path, or `false`.
pub(crate) fn flag(value: &Value, path: &str) -> bool {
    at(value, path).as_bool().unwrap_or_default()
}

/// The list at a dotted path, or an empty one.
pub(crate) fn list<'a>(value: &'a Value, path: &str) -> &'a [Value] {
    at(value, path).as_array().map(Vec::as_slice).unwrap_or_default()
}

/// The object at a dotted path.
pub(crate) fn map<'a>(value: &'a Value, path: &str) -> Option<&'a Map<String, Value>> {
    at(value, path).as_object()
}

/// The entries of the object at a dotted path.
pub(crate) fn entries<'a>(value: &'a Value, path: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    map(value, path).into_iter().flatten()
}

/// Whether something other than `null` is at a dotted path.
pub(crate) fn has(value: &Value, path: &str) -> bool {
    !at(value, path).is_null()
}

/// The object at a dotted path for writing; objects on the way are made. `None` where something
/// that is no object is in the way.
pub(crate) fn object_mut<'a>(value: &'a mut Value, path: &str) -> Option<&'a mut Map<String, Value>> {
    let mut at = value;
    for name in path.split('.').filter(|n| !n.is_empty()) {
        at = at.as_object_mut()?.entry(name).or_insert_with(|| Value::Object(Map::new()));
        if at.is_null() {
            *at = Value::Object(Map::new());
        }
    }
    at.as_object_mut()
}

/// The value at a dotted path for writing, if it is there.
pub(crate) fn get_mut<'a>(value: &'a mut Value, path: &str) -> Option<&'a mut Value> {
    path.split('.').try_fold(value, |v, name| v.get_mut(name))
}

/// The items of the list at a dotted path for writing.
pub(crate) fn list_mut<'a>(value: &'a mut Value, path: &str) -> &'a mut [Value] {
    get_mut(value, path).and_then(Value::as_array_mut).map(Vec::as_mut_slice).unwrap_or_default()
}

/// Sets a field unless it has a value.
pub(crate) fn set_default(object: &mut Map<String, Value>, name: &str, default: impl FnOnce() -> Value) {
    match object.get_mut(name) {
        Some(Value::Null) | None => {
            object.insert(name.to_owned(), default());
        }
        Some(_) => {}
    }
}

/// Makes the field `name` of `new` what it is in `old`, absent or not.
pub(crate) fn keep(new: &mut Value, old: &Value, name: &str) {
    let Some(object) = new.as_object_mut() else { return };
    match old.get(name) {
        Some(value) => {
            object.insert(name.to_owned(), value.clone());
        }
        None => {
            object.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_lead_to_values_or_nothing() {
        let mut value = json!({"a": {"b": [1], "c": "x", "d": true, "e": null}});
        assert_eq!(int(&value, "a.b"), None);
        assert_eq!((list(&value, "a.b").len(), text(&value, "a.c"), flag(&value, "a.d")), (1, "x", true));
        assert!(!has(&value, "a.e") && !has(&value, "a.x.y"));
        object_mut(&mut value, "a.e.f").unwrap().insert("g".into(), json!(1));
        assert_eq!(int(&value, "a.e.f.g"), Some(1));
        assert!(object_mut(&mut value, "a.c.d").is_none());
        keep(&mut value, &json!({"z": 1}), "a");
        keep(&mut value, &json!({"z": 1}), "z");
        assert_eq!(value, json!({"z": 1}));
    }
}
