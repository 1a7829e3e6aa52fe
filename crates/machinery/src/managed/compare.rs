//! What changed between two objects: the paths that are new, those with another value, and those
//! that are gone.
//!
//! A list or object that merges as one value is one path. An object that is new is a path, and so
//! is everything in it.

use std::collections::BTreeMap;

use serde_json::Value;

use super::element::Element;
use super::form::{Form, Place, elements, fields, is_hollow};
use super::set::{Branch, Set};

/// What changed.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    pub(super) added: Set,
    pub(super) modified: Set,
    pub(super) removed: Set,
}

impl Comparison {
    /// What is new or has another value.
    pub(super) fn set(&self) -> Set {
        self.added.union(&self.modified)
    }

    /// Changes each of the sets.
    pub(super) fn map(self, change: impl Fn(Set) -> Set) -> Self {
        Self { added: change(self.added), modified: change(self.modified), removed: change(self.removed) }
    }
}

/// Compares two objects at `place`.
pub(super) fn compare(old: &Value, new: &Value, place: Place<'_>) -> Comparison {
    let diff = walk(Some(old), Some(new), place);
    Comparison { added: diff.added.below, modified: diff.modified.below, removed: diff.removed.below }
}

/// What changed at and below one path.
#[derive(Default)]
struct Diff {
    added: Branch,
    modified: Branch,
    removed: Branch,
}

impl Diff {
    fn leaf(old: Option<&Value>, new: Option<&Value>) -> Self {
        let mut diff = Self::default();
        match (old, new) {
            (None, Some(_)) => diff.added.member = true,
            (Some(_), None) => diff.removed.member = true,
            (Some(old), Some(new)) => diff.modified.member = old != new,
            (None, None) => {}
        }
        diff
    }

    fn put(&mut self, element: Element, diff: Self) {
        self.added.below.add(element.clone(), diff.added);
        self.modified.below.add(element.clone(), diff.modified);
        self.removed.below.add(element, diff.removed);
    }
}

fn walk(old: Option<&Value>, new: Option<&Value>, place: Place<'_>) -> Diff {
    let Some(shown) = new.filter(|v| !v.is_null()).or(old.filter(|v| !v.is_null())).or(new).or(old) else {
        return Diff::default();
    };
    let mut diff = match place.form(shown) {
        Form::Leaf => return Diff::leaf(old, new),
        // Nothing on both sides: that it is empty may still be news.
        _ if is_hollow(old) && is_hollow(new) => return Diff::leaf(old, new),
        Form::Fields(place) => {
            let mut diff = walk_fields(old, new, place);
            // Only without a schema: a scalar gave way to an object.
            diff.modified.member |= old.is_some_and(|old| !old.is_object() && !old.is_null());
            diff
        }
        form @ (Form::Set | Form::Items(..)) => walk_items(old, new, &form),
    };
    diff.added.member |= old.is_none();
    diff.removed.member |= new.is_none();
    diff
}

fn walk_fields(old: Option<&Value>, new: Option<&Value>, place: Place<'_>) -> Diff {
    let mut diff = Diff::default();
    let (old_fields, new_fields) = (fields(old), fields(new));
    let only_old = old_fields
        .into_iter()
        .flatten()
        .map(|(name, _)| name)
        .filter(|name| !new_fields.is_some_and(|map| map.contains_key(*name)));
    for name in new_fields.into_iter().flatten().map(|(name, _)| name).chain(only_old) {
        let mut before = old_fields.and_then(|map| map.get(name));
        let mut after = new_fields.and_then(|map| map.get(name));
        if before == after {
            continue;
        }
        match (before, after) {
            (None, Some(after)) if old.is_some() => before = place.absent(name, after),
            (Some(before), None) if new.is_some() => after = place.absent(name, before),
            _ => {}
        }
        diff.put(Element::Field(name.clone()), walk(before, after, place.child(name)));
    }
    diff
}

/// Items that are there more than once count as one value.
fn walk_items(old: Option<&Value>, new: Option<&Value>, form: &Form<'_>) -> Diff {
    let mut all: BTreeMap<Element, (Vec<&Value>, Vec<&Value>)> = BTreeMap::new();
    for (element, item) in elements(old, form) {
        all.entry(element).or_default().0.push(item);
    }
    for (element, item) in elements(new, form) {
        all.entry(element).or_default().1.push(item);
    }
    let one = |old: Option<&Value>, new: Option<&Value>| match form {
        Form::Items(_, _, place) => walk(old, new, *place),
        _ => Diff::leaf(old, new),
    };
    let mut diff = Diff::default();
    for (element, (before, after)) in all {
        let (first_before, first_after) = (before.first().copied(), after.first().copied());
        let found = match (before.len(), after.len()) {
            (0..=1, 0..=1) => one(first_before, first_after),
            (2.., 2..) => {
                let mut found = Diff::default();
                found.modified.member = before != after;
                found
            }
            (2.., _) => {
                let mut found = one(None, first_after);
                found.removed.member = true;
                found
            }
            _ => {
                let mut found = one(first_before, None);
                found.added.member = true;
                found
            }
        };
        diff.put(element, found);
    }
    diff
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_api::schema;
    use serde_json::json;

    fn of(definition: &str, old: Value, new: Value) -> [Value; 3] {
        let schema = schema::builtin(definition).unwrap();
        let found = compare(&old, &new, Place::root(schema));
        [found.added.encode(), found.modified.encode(), found.removed.encode()]
    }

    #[test]
    fn maps_and_scalars_change_by_entry() {
        let old = json!({"metadata": {"labels": {"l": "1"}}, "data": {"x": "1", "y": "1"}});
        let new = json!({"metadata": {"annotations": {"n": "1"}, "labels": {"l": "1"}}, "data": {"y": "2", "z": "1"}});
        let got = of("io.k8s.api.core.v1.ConfigMap", old, new);
        let want = [
            json!({"f:metadata": {"f:annotations": {".": {}, "f:n": {}}}, "f:data": {"f:z": {}}}),
            json!({"f:data": {"f:y": {}}}),
            json!({"f:data": {"f:x": {}}}),
        ];
        assert_eq!(got, want);
    }

    #[test]
    fn a_new_object_shows_pointers_and_not_values() {
        let new = json!({"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"securityContext": {}, "containers": [
                {"name": "c", "env": [{"name": "A", "value": "1"}], "resources": {}}]}}}});
        let [added, modified, _] = of("io.k8s.api.apps.v1.Deployment", json!({}), new);
        let all = Set::decode(&added).unwrap().union(&Set::decode(&modified).unwrap()).encode();
        let want = json!({"f:metadata": {"f:name": {}}, "f:spec": {"f:selector": {},
            "f:strategy": {"f:type": {}, "f:rollingUpdate": {".": {}, "f:maxSurge": {}}},
            "f:template": {"f:metadata": {"f:labels": {".": {}, "f:a": {}}}, "f:spec": {"f:securityContext": {},
                "f:containers": {"k:{\"name\":\"c\"}": {".": {}, "f:name": {}, "f:resources": {},
                    "f:env": {".": {}, "k:{\"name\":\"A\"}": {".": {}, "f:name": {}, "f:value": {}}}}}}}}});
        assert_eq!(all, want);
    }

    #[test]
    fn items_that_are_there_twice_change_as_one() {
        let pod = |env: Value| json!({"spec": {"containers": [{"name": "c", "env": env}]}});
        let twice = pod(json!([{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]));
        let once = pod(json!([{"name": "A", "value": "7"}]));
        let at = |set: &Value| set["f:spec"]["f:containers"]["k:{\"name\":\"c\"}"]["f:env"].clone();
        let [added, _, removed] = of("io.k8s.api.core.v1.Pod", twice.clone(), once);
        assert_eq!(at(&added), json!({"k:{\"name\":\"A\"}": {".": {}, "f:name": {}, "f:value": {}}}));
        assert_eq!(at(&removed), json!({"k:{\"name\":\"A\"}": {}}));
        let [added, modified, removed] = of("io.k8s.api.core.v1.Pod", twice.clone(), twice);
        assert_eq!([added, modified, removed], [json!({}), json!({}), json!({})]);
    }
}
