//! Strategic merge patch: a merge patch that knows which lists have keys.
//!
//! Lists whose field has the strategy `merge` are merged by key, or as sets of scalars. The
//! directives are `$patch: delete|replace|merge` in objects and list items,
//! `$deleteFromPrimitiveList/<field>`, `$setElementOrder/<field>` and `$retainKeys`. The order of
//! a merged list is that of the patch (or of its `$setElementOrder`), with items that only the
//! object has placed among them by the object's own order.

use coracle_api::Status;
use coracle_api::schema::{Field, Schema};
use serde_json::{Map, Value};

use super::unprocessable;

const DIRECTIVE: &str = "$patch";
const RETAIN: &str = "$retainKeys";
const DELETE_FROM: &str = "$deleteFromPrimitiveList/";
const SET_ORDER: &str = "$setElementOrder/";
/// How deep patches may nest; JSON bodies cannot be deeper than this anyway.
const DEPTH_MAX: usize = 128;

/// Applies a strategic merge patch to an object of `schema`.
pub fn strategic(object: &Value, patch: &Value, schema: &Schema) -> Result<Value, Status> {
    let (Value::Object(original), Value::Object(patch)) = (object, patch) else {
        return Err(Status::bad_request(
            "json: cannot unmarshal array into Go value of type map[string]interface {}",
        ));
    };
    merge_objects(original.clone(), patch, Some(schema), 0).map(Value::Object)
}

type Object = Map<String, Value>;

fn merge_objects(
    mut original: Object,
    patch: &Object,
    schema: Option<&Schema>,
    depth: usize,
) -> Result<Object, Status> {
    if depth > DEPTH_MAX {
        return Err(Status::bad_request("the patch is nested too deeply"));
    }
    match patch.get(DIRECTIVE) {
        None => {}
        Some(Value::String(directive)) => match directive.as_str() {
            "merge" => {}
            "delete" => return Ok(Object::new()),
            "replace" => return Ok(patch.iter().filter(|(k, _)| *k != DIRECTIVE).map(owned).collect()),
            other => return Err(unknown_directive(other)),
        },
        Some(other) => return Err(unknown_directive(&other.to_string())),
    }
    retain_keys(&mut original, patch)?;
    for (name, values) in patch {
        if let Some(field) = name.strip_prefix(DELETE_FROM) {
            delete_from_list(&mut original, field, values)?;
        }
    }
    for (name, value) in patch.iter().filter(|(name, _)| !is_directive(name)) {
        let field = schema.and_then(|s| s.field(name));
        let child = schema.and_then(|s| s.child(name));
        let order = patch.get(&format!("{SET_ORDER}{name}"));
        if value.is_null() {
            original.remove(name);
            continue;
        }
        let before = original.remove(name);
        let after = merge_values(before, value, Place { field, schema: child, order }, depth)?;
        original.insert(name.clone(), after);
    }
    for (name, order) in patch {
        let Some(name) = name.strip_prefix(SET_ORDER).filter(|n| !patch.contains_key(*n)) else { continue };
        let key = schema.and_then(|s| s.field(name)).map(|f| &*f.merge_key).unwrap_or_default();
        if let Some(Value::Array(items)) = original.get_mut(name) {
            let live = items.clone();
            *items = ordered(std::mem::take(items), as_list(order)?, &live, key);
        }
    }
    Ok(original)
}

/// What is known about the value under a name.
#[derive(Clone, Copy)]
struct Place<'a> {
    field: Option<&'a Field>,
    schema: Option<&'a Schema>,
    order: Option<&'a Value>,
}

fn merge_values(
    before: Option<Value>,
    patch: &Value,
    place: Place<'_>,
    depth: usize,
) -> Result<Value, Status> {
    let strategy = place.field.map(|f| f.patch).unwrap_or_default();
    match (before, patch) {
        (Some(Value::Object(_)), Value::Object(patch)) if strategy.replace => {
            Ok(Value::Object(patch.clone()))
        }
        (Some(Value::Object(original)), Value::Object(patch)) => {
            merge_objects(original, patch, place.schema, depth + 1).map(Value::Object)
        }
        // Onto nothing, so that directives take effect and nulls vanish.
        (_, Value::Object(patch)) => {
            merge_objects(Object::new(), patch, place.schema, depth + 1).map(Value::Object)
        }
        (before, Value::Array(items)) if strategy.merge => {
            let original = match before {
                Some(Value::Array(original)) => original,
                _ => Vec::new(),
            };
            merge_lists(original, items, &place, depth + 1).map(Value::Array)
        }
        (_, other) => Ok(other.clone()),
    }
}

fn merge_lists(
    original: Vec<Value>,
    patch: &[Value],
    place: &Place<'_>,
    depth: usize,
) -> Result<Vec<Value>, Status> {
    let key = place.field.map(|f| &*f.merge_key).unwrap_or_default();
    let schema = place.schema.and_then(Schema::item);
    let live = original.clone();
    if key.is_empty() {
        let mut merged = original;
        for item in patch {
            if !merged.contains(item) {
                merged.push(item.clone());
            }
        }
        let order = place.order.map(as_list).transpose()?.unwrap_or(patch);
        return Ok(ordered(merged, order, &live, key));
    }
    let mut merged = original;
    let mut plain: Vec<&Object> = Vec::new();
    let mut replace = false;
    for item in patch {
        let Some(object) = item.as_object() else {
            return Err(Status::bad_request(format!("list items must be objects with key {key:?}")));
        };
        match object.get(DIRECTIVE).and_then(Value::as_str) {
            None => plain.push(object),
            Some("replace") => replace = true,
            Some("delete") => {
                let wanted = object.get(key).ok_or_else(|| no_merge_key(item, key))?;
                merged.retain(|i| i.get(key) != Some(wanted));
            }
            Some(other) => return Err(unknown_directive(other)),
        }
    }
    if replace {
        merged.clear();
    }
    for object in &plain {
        let wanted = object.get(key).ok_or_else(|| no_merge_key(&Value::Object((*object).clone()), key))?;
        match merged.iter_mut().find(|i| i.get(key) == Some(wanted)) {
            Some(Value::Object(found)) => {
                *found = merge_objects(std::mem::take(found), object, schema, depth)?;
            }
            _ => merged.push(Value::Object(merge_objects(Object::new(), object, schema, depth)?)),
        }
    }
    let named: Vec<Value> = plain.iter().map(|o| Value::Object((*o).clone())).collect();
    let order = place.order.map(as_list).transpose()?.unwrap_or(&named);
    Ok(ordered(merged, order, &live, key))
}

/// Puts `items` into order: those in `order` as it says; the others, which only the live list
/// has, before the first of them that the live list has behind them.
fn ordered(items: Vec<Value>, order: &[Value], live: &[Value], key: &str) -> Vec<Value> {
    let place = |list: &[Value], item: &Value| list.iter().position(|other| same(other, item, key));
    let (mut named, others): (Vec<Value>, Vec<Value>) =
        items.into_iter().partition(|i| place(order, i).is_some());
    named.sort_by_key(|item| place(order, item));
    let mut out = Vec::with_capacity(named.len() + others.len());
    let mut named = named.into_iter().peekable();
    for other in others {
        while let Some(next) = named.peek() {
            let before = matches!((place(live, &other), place(live, next)), (Some(a), Some(b)) if a < b);
            if before {
                break;
            }
            out.extend(named.next());
        }
        out.push(other);
    }
    out.extend(named);
    out
}

fn same(a: &Value, b: &Value, key: &str) -> bool {
    if key.is_empty() { a == b } else { a.get(key).is_some() && a.get(key) == b.get(key) }
}

fn retain_keys(original: &mut Object, patch: &Object) -> Result<(), Status> {
    let Some(keys) = patch.get(RETAIN) else { return Ok(()) };
    let keys = as_list(keys)?;
    let kept = |name: &str| keys.iter().any(|k| k.as_str() == Some(name));
    if let Some(stray) =
        patch.iter().find(|(name, value)| !is_directive(name) && !value.is_null() && !kept(name))
    {
        return Err(Status::bad_request(format!(
            "the values of retainKeys directive must be a list of all the fields in the patch: {} is missing",
            stray.0
        )));
    }
    original.retain(|name, _| kept(name));
    Ok(())
}

fn delete_from_list(original: &mut Object, field: &str, values: &Value) -> Result<(), Status> {
    let values = as_list(values)?;
    if let Some(Value::Array(items)) = original.get_mut(field) {
        items.retain(|item| !values.contains(item));
    }
    Ok(())
}

fn is_directive(name: &str) -> bool {
    name == DIRECTIVE || name == RETAIN || name.starts_with(DELETE_FROM) || name.starts_with(SET_ORDER)
}

fn owned((name, value): (&String, &Value)) -> (String, Value) {
    (name.clone(), value.clone())
}

fn as_list(value: &Value) -> Result<&[Value], Status> {
    value
        .as_array()
        .map(Vec::as_slice)
        .ok_or_else(|| Status::bad_request("the value of a list directive must be a list"))
}

fn unknown_directive(directive: &str) -> Status {
    Status::bad_request(format!("Unknown patch type found: {directive}"))
}

fn no_merge_key(item: &Value, key: &str) -> Status {
    unprocessable(format!("map: {item} does not contain declared merge key: {key}"))
}
