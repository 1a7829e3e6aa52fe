//! Removal of what a manager applied last time and leaves out this time, unless somebody else owns
//! it.

use serde_json::{Map, Value};

use super::element::Element;
use super::form::{Form, Place, item_element, value_element};
use super::owned::owned;
use super::set::{Branch, Set};

/// `merged` without what `last` owned and `others` (all managers, with what is applied now) do not.
pub(super) fn prune(merged: Value, last: &Set, others: &Set, place: Place<'_>) -> Value {
    if last.is_empty() {
        return merged;
    }
    let last = with_fields(last, place);
    let mut pruned = merged.clone();
    take(&mut pruned, &last, place);
    // Back comes what somebody owns, and what was never the manager's.
    let all = with_fields(&owned(&merged, place), place);
    let kept = with_fields(&owned(&pruned, place), place).union(&with_fields(others, place));
    let gone = all.difference(&kept).intersection(&last);
    let mut out = merged;
    take(&mut out, &gone, place);
    out
}

/// The set with the fields on the way to its members, but not the entries of maps and items of
/// lists: who owns `spec.replicas` has a hand on `spec`.
fn with_fields(set: &Set, place: Place<'_>) -> Set {
    let mut out = Set::default();
    for node in set.nodes() {
        let (named, child) = match &node.element {
            Element::Field(name) => (place.names(name), place.child(name)),
            Element::Key(_) => (false, place.item()),
            _ => (false, place),
        };
        let member = node.member || (named && !node.below.is_empty());
        out.push(&node.element, Branch { member, below: with_fields(&node.below, child) });
    }
    out
}

/// Takes the members of a set out of a value; what becomes empty goes too.
fn take(value: &mut Value, set: &Set, place: Place<'_>) {
    match (place.form(value), &mut *value) {
        (Form::Fields(place), Value::Object(map)) => {
            let before = std::mem::take(map);
            *map = before.into_iter().filter_map(|(name, value)| field(name, value, set, place)).collect();
        }
        (form @ (Form::Set | Form::Items(..)), Value::Array(items)) => {
            items.retain_mut(|item| keep_item(item, set, &form));
        }
        _ => {}
    }
}

fn field(name: String, mut value: Value, set: &Set, place: Place<'_>) -> Option<(String, Value)> {
    let Some(node) = set.find(&Element::Field(name.clone())) else { return Some((name, value)) };
    if node.member {
        return None;
    }
    let was_empty = value.as_object().is_some_and(Map::is_empty);
    take(&mut value, &node.below, place.child(&name));
    let is_empty = match &value {
        Value::Object(map) => map.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    };
    (!is_empty || was_empty).then_some((name, value))
}

fn keep_item(item: &mut Value, set: &Set, form: &Form<'_>) -> bool {
    let element = match form {
        Form::Items(keys, schema, _) => item_element(item, keys, schema),
        _ => value_element(item),
    };
    let Some(node) = element.ok().and_then(|element| set.find(&element)) else { return true };
    if node.member {
        return false;
    }
    if let Form::Items(_, _, place) = form {
        take(item, &node.below, *place);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_api::schema;
    use serde_json::json;

    fn run(definition: &str, merged: Value, last: Value, others: Value) -> Value {
        let schema = schema::builtin(definition).unwrap();
        let set = |fields: &Value| Set::decode(fields).unwrap();
        prune(merged, &set(&last), &set(&others), Place::root(schema))
    }

    #[test]
    fn what_nobody_owns_any_more_goes() {
        let merged =
            json!({"metadata": {"name": "x", "labels": {"l": "1"}}, "data": {"a": "1", "b": "1", "c": "1"}});
        let last = json!({"f:metadata": {"f:labels": {"f:l": {}}}, "f:data": {"f:a": {}, "f:b": {}}});
        let name = json!({"f:name": {}});
        let others = json!({"f:metadata": name, "f:data": {".": {}, "f:a": {}, "f:c": {}}});
        let got = run("io.k8s.api.core.v1.ConfigMap", merged.clone(), last.clone(), others);
        assert_eq!(got, json!({"metadata": {"name": "x"}, "data": {"a": "1", "c": "1"}}));
        // A field that only this manager had goes with all that is in it.
        let none = run("io.k8s.api.core.v1.ConfigMap", merged, last, json!({"f:metadata": name}));
        assert_eq!(none, json!({"metadata": {"name": "x"}}));
    }

    #[test]
    fn items_go_with_their_defaulted_fields() {
        let merged = json!({"spec": {"containers": [
            {"name": "a", "image": "i", "imagePullPolicy": "Always"}, {"name": "b", "image": "j"}]}});
        let item = json!({".": {}, "f:name": {}, "f:image": {}});
        let last =
            json!({"f:spec": {"f:containers": {"k:{\"name\":\"a\"}": item, "k:{\"name\":\"b\"}": item}}});
        let others = json!({"f:spec": {"f:containers": {"k:{\"name\":\"b\"}": item}}});
        let got = run("io.k8s.api.core.v1.Pod", merged, last, others);
        assert_eq!(got, json!({"spec": {"containers": [{"name": "b", "image": "j"}]}}));
    }
}
