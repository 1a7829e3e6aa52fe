//! What an applied object states: the set of paths that its manager comes to own.

use serde_json::Value;

use super::element::Element;
use super::form::{Form, Place, elements, is_hollow};
use super::set::{Branch, Set};

/// The set of an object at `place`.
pub(super) fn owned(value: &Value, place: Place<'_>) -> Set {
    branch(value, place).below
}

fn branch(value: &Value, place: Place<'_>) -> Branch {
    match place.form(value) {
        Form::Leaf => Branch::leaf(),
        Form::Fields(place) => Branch { member: false, below: fields(value, place) },
        form @ (Form::Set | Form::Items(..)) => Branch { member: false, below: items(value, &form) },
    }
}

fn fields(value: &Value, place: Place<'_>) -> Set {
    let mut set = Set::default();
    for (name, value) in value.as_object().into_iter().flatten() {
        let mut branch = branch(value, place.child(name));
        let empty = value.is_null() || (value.is_object() && is_hollow(Some(value)));
        branch.member |= empty || !place.names(name);
        set.push(&Element::Field(name.clone()), branch);
    }
    set
}

/// Items that are there more than once are owned as one, without what is in them.
fn items(value: &Value, form: &Form<'_>) -> Set {
    let mut set = Set::default();
    let all = elements(Some(value), form);
    for (at, (element, item)) in all.iter().enumerate() {
        let twice = all.iter().enumerate().any(|(other, (e, _))| other != at && e == element);
        let below = match form {
            Form::Items(_, _, place) if !twice => branch(item, *place).below,
            _ => Set::default(),
        };
        set.add(element.clone(), Branch { member: true, below });
    }
    set
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_api::schema;
    use serde_json::json;

    #[test]
    fn an_object_owns_what_it_states() {
        let schema = schema::builtin("io.k8s.api.core.v1.Pod").unwrap();
        let pod = json!({"metadata": {"labels": {"a": "b"}, "annotations": null, "finalizers": ["x"]},
            "spec": {"containers": [{"name": "c", "args": ["x"], "ports": [{"containerPort": 80}],
                "env": [{"name": "A"}, {"name": "A"}], "resources": {}}], "nodeSelector": {"k": "v"}}});
        let want = json!({"f:metadata": {"f:labels": {"f:a": {}}, "f:annotations": {}, "f:finalizers": {"v:\"x\"": {}}},
            "f:spec": {"f:nodeSelector": {}, "f:containers": {"k:{\"name\":\"c\"}": {".": {}, "f:name": {}, "f:args": {},
                "f:env": {"k:{\"name\":\"A\"}": {}}, "f:resources": {},
                "f:ports": {"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}}}}}});
        assert_eq!(owned(&pod, Place::root(schema)).encode(), want);
    }

    #[test]
    fn unknown_parts_of_custom_resources_are_owned_by_what_they_are() {
        let schema = schema::from_crd(&json!({"type": "object", "properties": {"spec": {"type": "object",
            "x-kubernetes-preserve-unknown-fields": true, "properties": {"any": {"x-kubernetes-preserve-unknown-fields": true}}}}}))
        .unwrap();
        let object = json!({"spec": {"any": {"a": [1]}, "free": {"b": {"c": 1}}, "list": [{}]}});
        let want = json!({"f:spec": {"f:any": {"f:a": {".": {}}}, "f:free": {".": {}, "f:b": {".": {}, "f:c": {}}}, "f:list": {}}});
        let got = owned(&object, Place::root(&schema)).encode();
        assert_eq!(got["f:spec"]["f:free"], want["f:spec"]["f:free"]);
        assert_eq!(got["f:spec"]["f:list"], json!({}));
        assert_eq!(got["f:spec"]["f:any"], json!({"f:a": {}}));
    }
}
