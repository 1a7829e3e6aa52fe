//! SelfSubjectRulesReview: what may I do in a namespace. For display, not for decisions.

use coracle_api::status::Status;
use coracle_api::user::UserInfo;
use serde_json::{Value, json};

use crate::authz::Authorizer;

/// The review of the caller's rules.
///
/// # Errors
/// 400 without a namespace.
pub(super) fn answer(authorizer: &Authorizer, user: &UserInfo, review: &Value) -> Result<Value, Status> {
    let namespace = review.pointer("/spec/namespace").and_then(Value::as_str).unwrap_or_default();
    if namespace.is_empty() {
        return Err(Status::bad_request("no namespace on request"));
    }
    let (mut resources, mut paths) = (Vec::new(), Vec::new());
    for rule in authorizer.rules(user, Some(namespace)) {
        if !rule.non_resource_urls.is_empty() {
            paths.push(json!({ "verbs": rule.verbs, "nonResourceURLs": rule.non_resource_urls }));
        }
        if !rule.resources.is_empty() {
            let mut one =
                json!({ "verbs": rule.verbs, "apiGroups": rule.api_groups, "resources": rule.resources });
            if !rule.resource_names.is_empty() {
                one["resourceNames"] = json!(rule.resource_names);
            }
            resources.push(one);
        }
    }
    Ok(json!({
        "kind": "SelfSubjectRulesReview",
        "apiVersion": "authorization.k8s.io/v1",
        "metadata": {},
        "spec": { "namespace": namespace },
        "status": { "resourceRules": resources, "nonResourceRules": paths, "incomplete": false },
    }))
}
