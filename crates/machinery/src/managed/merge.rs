//! Laying an applied object over a live one.
//!
//! Where both say something the applied one counts; lists of type map and set merge item by item.
//! The applied items come in the order of the application, and live items that it does not name
//! keep their place among their neighbours.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::{Map, Value};

use super::element::Element;
use super::form::{Form, Place, elements, fields, is_hollow};

/// The live object with the applied one laid over it.
pub(super) fn merge(live: &Value, applied: &Value, place: Place<'_>) -> Value {
    walk(Some(live), Some(applied), place).unwrap_or_default()
}

fn walk(live: Option<&Value>, applied: Option<&Value>, place: Place<'_>) -> Option<Value> {
    let applied_or_live = || applied.or(live).cloned();
    let shown = applied.filter(|v| !v.is_null()).or(live.filter(|v| !v.is_null()))?;
    match place.form(shown) {
        Form::Leaf => applied_or_live(),
        _ if is_hollow(live) && is_hollow(applied) => applied_or_live(),
        Form::Fields(place) => {
            let (live, applied) = (fields(live), fields(applied));
            let mut out = Map::new();
            for (name, value) in live.into_iter().flatten() {
                let merged = match applied.and_then(|map| map.get(name)) {
                    None => Some(value.clone()),
                    // Both are nothing: it stays what it is.
                    Some(Value::Null) if value.is_null() => Some(Value::Null),
                    found => walk(Some(value), found, place.child(name)),
                };
                out.extend(merged.map(|merged| (name.clone(), merged)));
            }
            for (name, value) in applied.into_iter().flatten() {
                if !live.is_some_and(|live| live.contains_key(name)) {
                    let merged = if value.is_null() {
                        Some(Value::Null)
                    } else {
                        walk(None, Some(value), place.child(name))
                    };
                    out.extend(merged.map(|merged| (name.clone(), merged)));
                }
            }
            Some(Value::Object(out))
        }
        form @ (Form::Set | Form::Items(..)) => {
            let items = walk_items(&elements(live, &form), &elements(applied, &form), &form);
            (!items.is_empty()).then_some(Value::Array(items))
        }
    }
}

fn walk_items(live: &[(Element, &Value)], applied: &[(Element, &Value)], form: &Form<'_>) -> Vec<Value> {
    let merged = |live: Option<&Value>, applied: Option<&Value>| match form {
        Form::Items(_, _, place) => walk(live, applied, *place),
        _ => applied.or(live).cloned(),
    };
    // An item that is there twice is not merged with: it gives way as a whole.
    let mut known: BTreeMap<&Element, Option<&Value>> = BTreeMap::new();
    for (element, item) in live {
        known.entry(element).and_modify(|found| *found = None).or_insert(Some(item));
    }
    let named: BTreeSet<&Element> = applied.iter().map(|(element, _)| element).collect();
    // The items on both sides, in applied order: the next of them is the one to meet.
    let mut shared: VecDeque<&Element> =
        applied.iter().map(|(element, _)| element).filter(|element| known.contains_key(element)).collect();
    let mut done: BTreeSet<&Element> = BTreeSet::new();
    let mut out = Vec::with_capacity(live.len().max(applied.len()));
    let (mut l, mut a) = (0, 0);
    while l < live.len() || a < applied.len() {
        if let Some((element, item)) = live.get(l) {
            if !named.contains(element) {
                out.extend(merged(Some(item), None));
                l += 1;
                continue;
            }
            let awaited = shared.front() == Some(&element);
            if done.contains(element) || (a < applied.len() && !shared.is_empty() && !awaited) {
                l += 1;
                continue;
            }
            if applied.get(a).is_some_and(|(next, _)| next == element) {
                l += 1;
            }
        }
        let Some((element, item)) = applied.get(a) else { continue };
        out.extend(merged(known.get(element).copied().flatten(), Some(item)));
        done.insert(element);
        if shared.front() == Some(&element) {
            shared.pop_front();
        }
        a += 1;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_api::schema;
    use serde_json::json;

    fn names(live: &[&str], applied: &[&str]) -> Vec<String> {
        let schema = schema::builtin("io.k8s.api.core.v1.PodSpec").unwrap();
        let list = |names: &[&str]| json!({"containers": names.iter().map(|n| json!({"name": n})).collect::<Vec<_>>()});
        let merged = merge(&list(live), &list(applied), Place::root(schema));
        merged["containers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|c| c["name"].as_str().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn applied_order_holds_and_others_keep_their_place() {
        let rows: [(&[&str], &[&str], &[&str]); 7] = [
            (&["a", "b", "c"], &["c", "a", "b"], &["c", "a", "b"]),
            (&["c", "a", "b"], &["d", "a"], &["c", "d", "a", "b"]),
            (&["c", "a", "b"], &["b", "e"], &["c", "a", "b", "e"]),
            (&["c", "a", "b", "e"], &["b", "c"], &["a", "b", "e", "c"]),
            (&[], &["x", "y"], &["x", "y"]),
            (&["x", "y"], &[], &["x", "y"]),
            (&["a", "b"], &["x", "b", "a"], &["x", "b", "a"]),
        ];
        for (live, applied, want) in rows {
            assert_eq!(names(live, applied), want, "{live:?} {applied:?}");
        }
    }

    #[test]
    fn nulls_replace_scalars_and_leave_objects() {
        let schema = schema::builtin("io.k8s.api.core.v1.ConfigMap").unwrap();
        let live = json!({"metadata": {"labels": {"l": "1"}}, "data": {"a": "1", "b": "1"}});
        let applied = json!({"metadata": {"labels": null}, "data": {"b": null}});
        let merged = merge(&live, &applied, Place::root(schema));
        assert_eq!(merged, json!({"metadata": {"labels": {"l": "1"}}, "data": {"a": "1", "b": null}}));
    }
}
