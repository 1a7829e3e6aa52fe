//! `metav1.Status`, the answer to every request that gives no object, with the codes, reasons
//! and wording of kube-apiserver. This is the one place where a failure becomes a status.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::field::FieldError;

/// A `metav1.Status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "camelCase")]
#[error("{message}")]
pub struct Status {
    /// Always `Status`.
    pub kind: String,
    /// Always `v1`.
    pub api_version: String,
    /// List metadata; empty.
    #[serde(default)]
    pub metadata: Map<String, Value>,
    /// `Success` or `Failure`.
    pub status: String,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// For machines; empty on success.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// What the message is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Box<Details>>,
    /// The HTTP status code; on success 0, which is left out.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub code: u16,
}

fn is_zero(code: &u16) -> bool {
    *code == 0
}

/// The object, causes and delay of a status.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Details {
    /// The object's name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The object's API group.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// The resource (plural), or the kind for `Invalid`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// The object's uid.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// What was wrong, one by one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<Cause>,
    /// When to try again; 0 means nothing is said.
    #[serde(default, skip_serializing_if = "is_zero_u32")]
    pub retry_after_seconds: u32,
}

fn is_zero_u32(value: &u32) -> bool {
    *value == 0
}

/// One cause of a failure.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cause {
    /// For machines.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Which field.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub field: String,
}

/// `plural.group`, or `plural` in the core group.
fn qualified(group: &str, name: &str) -> String {
    if group.is_empty() { name.to_owned() } else { format!("{name}.{group}") }
}

impl Status {
    /// A failure with a reason of its own; the constructors below cover the usual ones.
    pub fn failure(code: u16, reason: &str, message: impl Into<String>) -> Self {
        Self {
            kind: "Status".to_owned(),
            api_version: "v1".to_owned(),
            metadata: Map::new(),
            status: "Failure".to_owned(),
            message: message.into(),
            reason: reason.to_owned(),
            details: None,
            code,
        }
    }

    /// Success, for deletions that leave nothing to show.
    pub fn success(details: Option<Details>) -> Self {
        Self { status: "Success".to_owned(), details: details.map(Box::new), ..Self::failure(0, "", "") }
    }

    fn about(mut self, group: &str, kind: &str, name: &str) -> Self {
        let details = self.details.get_or_insert_default();
        details.group = group.to_owned();
        details.kind = kind.to_owned();
        details.name = name.to_owned();
        self
    }

    /// Adds one cause.
    pub fn with_cause(mut self, reason: &str, message: impl Into<String>, field: impl Into<String>) -> Self {
        let details = self.details.get_or_insert_default();
        details.causes.push(Cause {
            reason: reason.to_owned(),
            message: message.into(),
            field: field.into(),
        });
        self
    }

    /// Sets when the client should try again.
    pub fn with_retry_after(mut self, seconds: u32) -> Self {
        self.details.get_or_insert_default().retry_after_seconds = seconds;
        self
    }

    /// Whether the status tells of a failure.
    pub fn is_failure(&self) -> bool {
        self.status != "Success"
    }

    /// The HTTP code to answer with.
    pub fn http_code(&self) -> u16 {
        if self.code == 0 { 200 } else { self.code }
    }

    /// 404: there is no such object.
    pub fn not_found(group: &str, plural: &str, name: &str) -> Self {
        let message = format!("{} {name:?} not found", qualified(group, plural));
        Self::failure(404, "NotFound", message).about(group, plural, name)
    }

    /// 404: the path leads nowhere.
    pub fn no_such_path() -> Self {
        let mut status = Self::failure(404, "NotFound", "the server could not find the requested resource");
        status.details = Some(Box::default());
        status
    }

    /// 409: an object of that name is there already.
    pub fn already_exists(group: &str, plural: &str, name: &str) -> Self {
        let message = format!("{} {name:?} already exists", qualified(group, plural));
        Self::failure(409, "AlreadyExists", message).about(group, plural, name)
    }

    /// 409: the write does not fit what is stored.
    pub fn conflict(group: &str, plural: &str, name: &str, why: impl std::fmt::Display) -> Self {
        let message =
            format!("Operation cannot be fulfilled on {} {name:?}: {why}", qualified(group, plural));
        Self::failure(409, "Conflict", message).about(group, plural, name)
    }

    /// 409: the object's resourceVersion is not the stored one.
    pub fn modified(group: &str, plural: &str, name: &str) -> Self {
        let why =
            "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(group, plural, name, why)
    }

    /// 422: the object breaks rules; all of them are told.
    pub fn invalid(group: &str, kind: &str, name: &str, errors: Vec<FieldError>) -> Self {
        let mut texts: Vec<String> = Vec::with_capacity(errors.len());
        for error in &errors {
            let text = error.to_string();
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
        let all = if texts.len() == 1 { texts.remove(0) } else { format!("[{}]", texts.join(", ")) };
        let message = format!("{} {name:?} is invalid: {all}", qualified(group, kind));
        let mut status = Self::failure(422, "Invalid", message).about(group, kind, name);
        for error in errors {
            status = status.with_cause(error.kind.reason(), error.body(), error.path);
        }
        status
    }

    /// 400: the request cannot be understood.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::failure(400, "BadRequest", message)
    }

    /// 403: the caller may not do this, or nobody may do it here.
    pub fn forbidden(group: &str, plural: &str, name: &str, why: impl std::fmt::Display) -> Self {
        let resource = qualified(group, plural);
        let message = match (plural.is_empty(), name.is_empty()) {
            (true, _) => format!("forbidden: {why}"),
            (false, true) => format!("{resource} is forbidden: {why}"),
            (false, false) => format!("{resource} {name:?} is forbidden: {why}"),
        };
        Self::failure(403, "Forbidden", message).about(group, plural, name)
    }

    /// 401: the caller's credentials prove nothing.
    pub fn unauthorized() -> Self {
        Self::failure(401, "Unauthorized", "Unauthorized")
    }

    /// 405: the resource is there but does not do that. `action` is a verb such as `update`.
    pub fn method_not_allowed(group: &str, plural: &str, action: &str) -> Self {
        let message =
            format!("{action} is not supported on resources of kind {:?}", qualified(group, plural));
        Self::failure(405, "MethodNotAllowed", message).about(group, plural, "")
    }

    /// 405 for a path whose method means nothing.
    pub fn method_unknown() -> Self {
        let mut status = Self::failure(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        );
        status.details = Some(Box::default());
        status
    }

    /// 406: the caller accepts none of the forms on offer.
    pub fn not_acceptable(offered: &[&str]) -> Self {
        let message = format!("only the following media types are accepted: {}", offered.join(", "));
        Self::failure(406, "NotAcceptable", message)
    }

    /// 415: the body is in none of the forms that are understood.
    pub fn unsupported_media_type(offered: &[&str]) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {}",
            offered.join(", ")
        );
        Self::failure(415, "UnsupportedMediaType", message)
    }

    /// 410: the revision or continue token is too old.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::failure(410, "Expired", message)
    }

    /// 410: what was asked for is gone for good.
    pub fn gone(message: impl Into<String>) -> Self {
        Self::failure(410, "Gone", message)
    }

    /// 413: the body or object is larger than allowed.
    pub fn too_large(message: impl std::fmt::Display) -> Self {
        Self::failure(413, "RequestEntityTooLarge", format!("Request entity is too large: {message}"))
    }

    /// 504: the server gave up waiting; `group`, `plural` say for what, empty for no resource.
    pub fn timeout(message: impl std::fmt::Display, retry_after_seconds: u32) -> Self {
        Self::failure(504, "Timeout", format!("Timeout: {message}")).with_retry_after(retry_after_seconds)
    }

    /// 429: too many requests for now.
    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: u32) -> Self {
        Self::failure(429, "TooManyRequests", message).with_retry_after(retry_after_seconds)
    }

    /// 503: the server cannot serve this now.
    pub fn service_unavailable(message: impl Into<String>) -> Self {
        Self::failure(503, "ServiceUnavailable", message)
    }

    /// 500: the server is at fault.
    pub fn internal(message: impl std::fmt::Display) -> Self {
        let text = message.to_string();
        let mut status = Self::failure(500, "InternalError", format!("Internal error occurred: {text}"));
        status.details = Some(Box::new(Details {
            causes: vec![Cause { message: text, ..Cause::default() }],
            ..Details::default()
        }));
        status
    }

    /// The status as JSON.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn not_found_is_as_kubernetes_says_it() {
        let status = Status::not_found("coordination.k8s.io", "leases", "zzz");
        assert_eq!(
            serde_json::to_value(&status).unwrap(),
            json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "NotFound",
                "message": "leases.coordination.k8s.io \"zzz\" not found", "code": 404,
                "details": {"name": "zzz", "group": "coordination.k8s.io", "kind": "leases"}})
        );
    }

    #[test]
    fn invalid_lists_every_cause_and_says_each_text_once() {
        let errors = vec![
            FieldError::required("spec.a", ""),
            FieldError::required("spec.a", ""),
            FieldError::invalid("spec.b", 1, "no"),
        ];
        let status = Status::invalid("apps", "Deployment", "d", errors);
        assert_eq!(
            status.message,
            "Deployment.apps \"d\" is invalid: [spec.a: Required value, spec.b: Invalid value: 1: no]"
        );
        assert_eq!(status.details.unwrap().causes.len(), 3);
        assert_eq!(status.code, 422);
    }

    #[test]
    fn success_has_no_code_and_answers_200() {
        let status = Status::success(None);
        assert_eq!(
            serde_json::to_value(&status).unwrap(),
            json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"})
        );
        assert_eq!(status.http_code(), 200);
        assert!(!status.is_failure());
    }

    #[test]
    fn codes_and_reasons_fit() {
        let rows = [
            (Status::already_exists("", "pods", "a"), 409, "AlreadyExists"),
            (Status::modified("", "pods", "a"), 409, "Conflict"),
            (Status::bad_request("x"), 400, "BadRequest"),
            (Status::forbidden("", "pods", "a", "no"), 403, "Forbidden"),
            (Status::unauthorized(), 401, "Unauthorized"),
            (Status::method_unknown(), 405, "MethodNotAllowed"),
            (Status::not_acceptable(&["application/json"]), 406, "NotAcceptable"),
            (Status::unsupported_media_type(&["application/json"]), 415, "UnsupportedMediaType"),
            (Status::expired("x"), 410, "Expired"),
            (Status::too_large("x"), 413, "RequestEntityTooLarge"),
            (Status::timeout("x", 1), 504, "Timeout"),
            (Status::too_many_requests("x", 1), 429, "TooManyRequests"),
            (Status::internal("x"), 500, "InternalError"),
        ];
        for (status, code, reason) in rows {
            assert_eq!((status.code, status.reason.as_str()), (code, reason));
        }
    }
}
