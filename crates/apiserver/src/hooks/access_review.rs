//! SelfSubjectAccessReview, SubjectAccessReview and LocalSubjectAccessReview: may this user
//! do that?

use coracle_api::field::{FieldError, FieldErrors};
use coracle_api::status::Status;
use coracle_api::user::UserInfo;
use coracle_plan::rbac::{Attributes, Target};
use serde_json::{Map, Value, json};

use super::AUTHORIZATION;
use crate::authz::Authorizer;

/// The caller asks about itself.
///
/// # Errors
/// 422 unless exactly one kind of attributes is given.
pub(super) fn of_self(authorizer: &Authorizer, user: &UserInfo, review: Value) -> Result<Value, Status> {
    check(spec_errors(&review), &review, None)?;
    Ok(decide(authorizer, &user.name, &user.groups, review, "SelfSubjectAccessReview"))
}

/// The caller asks about somebody.
///
/// # Errors
/// 422 without user and groups, and as [`of_self`].
pub(super) fn of_subject(authorizer: &Authorizer, review: Value) -> Result<Value, Status> {
    let mut errors = spec_errors(&review);
    errors.extend(subject_error(&review));
    check(errors, &review, None)?;
    let (user, groups) = subject(&review);
    Ok(decide(authorizer, &user, &groups, review, "SubjectAccessReview"))
}

/// The caller asks about somebody in one namespace.
///
/// # Errors
/// 400 when the question is about another namespace, 422 as [`of_subject`].
pub(super) fn of_local(authorizer: &Authorizer, namespace: &str, review: Value) -> Result<Value, Status> {
    let mut errors = spec_errors(&review);
    errors.extend(subject_error(&review));
    if let Some(attributes) = review.pointer("/spec/nonResourceAttributes") {
        let why = "disallowed on this kind of request";
        errors.push(FieldError::invalid("spec.nonResourceAttributes", go_path_attributes(attributes), why));
    }
    check(errors, &review, Some(namespace))?;
    if review.pointer("/spec/resourceAttributes/namespace").and_then(Value::as_str).unwrap_or_default()
        != namespace
    {
        let why = format!("spec.resourceAttributes.namespace must match namespace: {namespace}");
        return Err(Status::bad_request(why));
    }
    let (user, groups) = subject(&review);
    Ok(decide(authorizer, &user, &groups, review, "LocalSubjectAccessReview"))
}

fn subject(review: &Value) -> (String, Vec<String>) {
    let user = review.pointer("/spec/user").and_then(Value::as_str).unwrap_or_default().to_owned();
    let groups = review.pointer("/spec/groups").and_then(Value::as_array);
    let groups = groups.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    (user, groups)
}

fn subject_error(review: &Value) -> Option<FieldError> {
    let (user, groups) = subject(review);
    (user.is_empty() && groups.is_empty())
        .then(|| FieldError::invalid("spec.user", "", "at least one of user or group must be specified"))
}

fn spec_errors(review: &Value) -> FieldErrors {
    let resource = review.pointer("/spec/resourceAttributes");
    match (resource, review.pointer("/spec/nonResourceAttributes")) {
        (Some(_), Some(path)) => {
            let why = "cannot be specified in combination with resourceAttributes";
            vec![FieldError::invalid("spec.nonResourceAttributes", go_path_attributes(path), why)]
        }
        (None, None) => {
            let why = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            vec![FieldError::invalid("spec.resourceAttributes", Value::Null, why)]
        }
        _ => FieldErrors::new(),
    }
}

/// How Go prints the attributes in messages.
fn go_path_attributes(attributes: &Value) -> Value {
    let text = |key: &str| attributes.get(key).and_then(Value::as_str).unwrap_or_default();
    json!({ "Path": text("path"), "Verb": text("verb") })
}

/// Adds the error of metadata that is not empty, and refuses if there is any error.
fn check(mut errors: FieldErrors, review: &Value, namespace: Option<&str>) -> Result<(), Status> {
    let empty = Map::new();
    let metadata = review.get("metadata").and_then(Value::as_object).unwrap_or(&empty);
    let allowed = |key: &str, value: &Value| match key {
        "managedFields" => true,
        "creationTimestamp" => value.is_null(),
        "namespace" => namespace.is_some_and(|n| value == n),
        _ => false,
    };
    if metadata.iter().any(|(key, value)| !allowed(key, value)) {
        let why = if namespace.is_some() { "must be empty except for namespace" } else { "must be empty" };
        errors.push(FieldError::invalid("metadata", Value::Object(metadata.clone()), why));
    }
    if errors.is_empty() { Ok(()) } else { Err(Status::invalid(AUTHORIZATION, "", "", errors)) }
}

fn decide(authorizer: &Authorizer, user: &str, groups: &[String], mut review: Value, kind: &str) -> Value {
    let grant = authorizer.explain(&Attributes { user, groups, ..question(&review) });
    review["status"] = match grant {
        Some(reason) => json!({ "allowed": true, "reason": reason }),
        None => json!({ "allowed": false }),
    };
    review["kind"] = kind.into();
    review["apiVersion"] = "authorization.k8s.io/v1".into();
    if review.get("metadata").is_none() {
        review["metadata"] = json!({});
    }
    review
}

/// Verb and target of a checked review; the user is filled in by the caller.
fn question(review: &Value) -> Attributes<'_> {
    let (user, groups): (&str, &[String]) = ("", &[]);
    if let Some(attributes) = review.pointer("/spec/nonResourceAttributes") {
        let text = |key: &str| attributes.get(key).and_then(Value::as_str).unwrap_or_default();
        return Attributes { user, groups, verb: text("verb"), target: Target::Path(text("path")) };
    }
    let attributes = review.pointer("/spec/resourceAttributes").unwrap_or(&Value::Null);
    let text = |key: &str| attributes.get(key).and_then(Value::as_str).unwrap_or_default();
    let given = |key: &str| attributes.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    Attributes {
        user,
        groups,
        verb: text("verb"),
        target: Target::Resource {
            group: text("group"),
            plural: text("resource"),
            subresource: given("subresource"),
            namespace: given("namespace"),
            name: given("name"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_plan::rbac::{Index, RoleRef, Rule, Subject};

    fn authorizer() -> Authorizer {
        let mut index = Index::new();
        let rule = Rule {
            verbs: vec!["get".into()],
            api_groups: vec![String::new()],
            resources: vec!["pods".into()],
            ..Rule::default()
        };
        index.set_role(None, "r", vec![rule]);
        let subject = Subject { kind: "User".into(), name: "ann".into(), namespace: None };
        index.set_binding(
            Some("a"),
            "b",
            &[subject],
            &RoleRef { kind: "ClusterRole".into(), name: "r".into() },
        );
        Authorizer::with(index)
    }

    fn pods(namespace: &str) -> Value {
        json!({"verb": "get", "resource": "pods", "namespace": namespace})
    }

    #[test]
    fn decisions_are_those_of_the_roles() {
        let ask = |namespace: &str| {
            let review = json!({"spec": {"user": "ann", "resourceAttributes": pods(namespace)}});
            of_subject(&authorizer(), review).unwrap()["status"]["allowed"].clone()
        };
        assert_eq!((ask("a"), ask("b")), (json!(true), json!(false)));
        let own = json!({"spec": {"resourceAttributes": pods("a")}});
        let answer = of_self(&authorizer(), &UserInfo::new("eve", ["x"]), own).unwrap();
        assert_eq!(answer["status"], json!({"allowed": false}));
        let masters = UserInfo::new("root", [UserInfo::MASTERS]);
        let path = json!({"spec": {"nonResourceAttributes": {"path": "/metrics", "verb": "get"}}});
        assert_eq!(of_self(&authorizer(), &masters, path).unwrap()["status"]["allowed"], true);
    }

    #[test]
    fn malformed_reviews_are_refused_as_by_the_real_server() {
        let user = UserInfo::new("u", ["g"]);
        let own = |spec: Value| of_self(&authorizer(), &user, json!({ "spec": spec })).unwrap_err();
        assert_eq!(
            own(json!({})).message,
            ".authorization.k8s.io \"\" is invalid: spec.resourceAttributes: Invalid value: null: \
             exactly one of nonResourceAttributes or resourceAttributes must be specified"
        );
        assert_eq!(
            own(json!({"resourceAttributes": {"verb": "get"}, "nonResourceAttributes": {"verb": "get"}}))
                .message,
            ".authorization.k8s.io \"\" is invalid: spec.nonResourceAttributes: Invalid value: \
             {\"Path\":\"\",\"Verb\":\"get\"}: cannot be specified in combination with resourceAttributes"
        );
        let nobody = json!({"spec": {"resourceAttributes": pods("a")}});
        assert!(of_subject(&authorizer(), nobody).unwrap_err().message.contains("spec.user"));
        let named =
            json!({"metadata": {"name": "x"}, "spec": {"user": "u", "resourceAttributes": pods("a")}});
        assert!(of_subject(&authorizer(), named).unwrap_err().message.contains("metadata: Invalid value"));
        let local =
            json!({"metadata": {"namespace": "a"}, "spec": {"user": "u", "resourceAttributes": pods("b")}});
        assert_eq!(of_local(&authorizer(), "a", local).unwrap_err().code, 400);
    }
}
