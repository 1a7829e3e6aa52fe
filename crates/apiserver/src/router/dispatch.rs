//! From a request that may be carried out to what carries it out.

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use coracle_api::field::{FieldError, FieldErrors};
use coracle_api::status::Status;
use coracle_api::user::UserInfo;
use coracle_machinery::decode::FieldValidation;
use http::header::USER_AGENT;
use http::request::Parts;
use http::{HeaderMap, Method, Response, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::{Value, json};

use super::Front;
use crate::authz::RoleWrites;
use crate::config::VERSION;
use crate::request::{BODY_BYTES_MAX, Call, RequestInfo, Verb};
use crate::{discovery, health, negotiate, respond};

/// Longest name of a field manager, in bytes (kube-apiserver's limit); beyond it: 422.
const FIELD_MANAGER_BYTES_MAX: usize = 128;
/// Manager of writes by clients that say nothing about themselves.
const UNKNOWN_MANAGER: &str = "unknown";

impl Front {
    pub(super) async fn dispatch(
        &self,
        parts: &Parts,
        info: &RequestInfo,
        user: UserInfo,
        body: Body,
    ) -> Result<Response<Body>, Status> {
        if !info.is_resource {
            return self.path(parts, info).await;
        }
        let index = self.registry.resources();
        if !index.serves(&info.group, &info.version) {
            // A made-up group is a path that nobody serves; a made-up version is an error of
            // the group.
            return if info.group.is_empty() || discovery::serves_group(&index, &info.group) {
                Err(Status::no_such_path())
            } else {
                Ok(respond::page_not_found())
            };
        }
        if let Some(hook) = self.hooks.find(info) {
            let body = read_body(parts, body).await?;
            let call = call(parts, info, user, body, negotiate::plain_format(&parts.headers, &info.query)?)?;
            return self.hooks.answer(hook, &call).await;
        }
        let format = negotiate::resource_format(&parts.headers, info)?;
        let body = read_body(parts, body).await?;
        let mut call = call(parts, info, user, body, format)?;
        if matches!(info.verb, Verb::Update | Verb::Patch) && info.subresource.is_none() {
            // Either may find nothing there and make it.
            let as_create = RequestInfo { verb: Verb::Create, ..info.clone() };
            call.create_refusal = self.authorizer.authorize(&call.user, &as_create).err().map(Box::new);
        }
        let reply = if RoleWrites::concerns(info) {
            self.role_writes.handle(&self.authorizer, &self.registry, call).await?
        } else {
            self.registry.handle(call).await?
        };
        Ok(respond::reply(reply, format, negotiate::compression(&parts.headers, info)))
    }

    /// Answers paths that are no resources.
    async fn path(&self, parts: &Parts, info: &RequestInfo) -> Result<Response<Body>, Status> {
        let path = info.path.trim_end_matches('/');
        let read = matches!(info.method, Method::GET | Method::HEAD);
        if health::is_health_path(path) && read {
            return Ok(health::answer(path, &info.query, &self.readiness, &*self.kv).await);
        }
        if path == "/openapi" || path.starts_with("/openapi/") {
            if !read {
                return Ok(method_not_allowed());
            }
            return self.openapi.answer(path, parts, info, &self.registry).await;
        }
        if path == "/api" || path == "/apis" || path.starts_with("/api/") || path.starts_with("/apis/") {
            let index = self.registry.resources();
            return if read {
                self.discovery.answer(path, parts, info, &index)
            } else {
                Err(Status::method_unknown())
            };
        }
        match path {
            "/version" if read => {
                let format = negotiate::plain_format(&parts.headers, &info.query)?;
                Ok(respond::object(StatusCode::OK, &version(), format))
            }
            "/metrics" if read => {
                let text = self.metrics.render(&*self.kv).await;
                let media_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
                Ok(respond::with_body(StatusCode::OK, media_type, Bytes::from(text)))
            }
            "" if read => {
                let format = negotiate::plain_format(&parts.headers, &info.query)?;
                Ok(respond::object(StatusCode::OK, &self.paths(), format))
            }
            "/version" | "/metrics" => Ok(method_not_allowed()),
            _ => Ok(respond::page_not_found()),
        }
    }

    /// What is served, for `GET /`.
    fn paths(&self) -> Value {
        let index = self.registry.resources();
        let mut paths = vec!["/api".to_owned(), "/apis".to_owned()];
        for (group, versions) in discovery::groups(&index) {
            if group.is_empty() {
                paths.extend(versions.iter().map(|v| format!("/api/{v}")));
                continue;
            }
            paths.push(format!("/apis/{group}"));
            paths.extend(versions.iter().map(|v| format!("/apis/{group}/{v}")));
        }
        paths.extend(
            ["/healthz", "/livez", "/metrics", "/openapi/v3", "/readyz", "/version"].map(str::to_owned),
        );
        paths.sort();
        json!({ "paths": paths })
    }
}

fn method_not_allowed() -> Response<Body> {
    respond::text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n")
}

/// `GET /version`. Clients parse `major`, `minor` and `gitVersion`; the rest is for people.
fn version() -> Value {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    json!({
        "major": "1",
        "minor": "36",
        "emulationMajor": "1",
        "emulationMinor": "36",
        "gitVersion": VERSION,
        "gitCommit": option_env!("CORACLE_GIT_COMMIT").unwrap_or("unknown"),
        "gitTreeState": "clean",
        "buildDate": option_env!("CORACLE_BUILD_DATE").unwrap_or("unknown"),
        "goVersion": "none",
        "compiler": "rustc",
        "platform": format!("{}/{arch}", std::env::consts::OS),
    })
}

/// Reads the whole body.
///
/// # Errors
/// 413 beyond [`BODY_BYTES_MAX`], 400 when the client breaks off.
async fn read_body(parts: &Parts, body: Body) -> Result<Bytes, Status> {
    if matches!(parts.method, Method::GET | Method::HEAD) {
        return Ok(Bytes::new());
    }
    let too_large = || Status::too_large(format_args!("limit is {BODY_BYTES_MAX}"));
    if body.size_hint().lower() > BODY_BYTES_MAX as u64 {
        return Err(too_large());
    }
    match Limited::new(body, BODY_BYTES_MAX).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.downcast_ref::<LengthLimitError>().is_some() => Err(too_large()),
        Err(error) => Err(Status::bad_request(format!("reading the body failed: {error}"))),
    }
}

fn call(
    parts: &Parts,
    info: &RequestInfo,
    user: UserInfo,
    body: Bytes,
    format: crate::request::ObjectFormat,
) -> Result<Call, Status> {
    let content_type = negotiate::content_type(&parts.headers);
    let (field_validation, dry_run) = write_options(info, content_type.as_deref())?;
    let user_agent = user_agent(&parts.headers);
    let field_manager = match info.query.non_empty("fieldManager") {
        Some(manager) => manager.to_owned(),
        None => manager_of(user_agent),
    };
    Ok(Call {
        info: info.clone(),
        user,
        format,
        content_type,
        field_manager,
        field_validation,
        dry_run,
        create_refusal: None,
        user_agent: user_agent.to_owned(),
        body,
    })
}

fn user_agent(headers: &HeaderMap) -> &str {
    headers.get(USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// The part of a user agent that names the program.
fn manager_of(user_agent: &str) -> String {
    let program = user_agent.split('/').next().unwrap_or_default();
    let mut manager: String = program.chars().filter(|c| !c.is_control()).collect();
    let end = manager.floor_char_boundary(FIELD_MANAGER_BYTES_MAX);
    manager.truncate(end);
    if manager.is_empty() { UNKNOWN_MANAGER.to_owned() } else { manager }
}

/// Checks the options that create, update and patch take in the query.
///
/// # Errors
/// 422 about `CreateOptions`, `UpdateOptions` or `PatchOptions`.
fn write_options(info: &RequestInfo, content_type: Option<&str>) -> Result<(FieldValidation, bool), Status> {
    let kind = match info.verb {
        Verb::Create => "CreateOptions",
        Verb::Update => "UpdateOptions",
        Verb::Patch => "PatchOptions",
        _ => return Ok((FieldValidation::Warn, info.query.get("dryRun") == Some("All"))),
    };
    let mut errors = FieldErrors::new();
    let dry_run: Vec<&str> = info.query.all("dryRun").collect();
    if dry_run.iter().any(|value| *value != "All") {
        errors.push(FieldError::not_supported("dryRun", json!(dry_run), &["All"]));
    }
    if let Some(manager) = info.query.get("fieldManager") {
        if manager.len() > FIELD_MANAGER_BYTES_MAX {
            errors.push(FieldError::too_long("fieldManager", FIELD_MANAGER_BYTES_MAX));
        }
        if manager.chars().any(char::is_control) {
            errors.push(FieldError::invalid(
                "fieldManager",
                manager,
                "should only contain printable characters",
            ));
        }
    }
    let field_validation = match info.query.get("fieldValidation") {
        None | Some("" | "Warn") => FieldValidation::Warn,
        Some("Ignore") => FieldValidation::Ignore,
        Some("Strict") => FieldValidation::Strict,
        Some(other) => {
            let supported = ["", "Ignore", "Strict", "Warn"];
            errors.push(FieldError::not_supported("fieldValidation", other, &supported));
            FieldValidation::Warn
        }
    };
    let is_apply = content_type.is_some_and(|t| t.starts_with("application/apply-patch"));
    if info.verb == Verb::Patch && is_apply && info.query.non_empty("fieldManager").is_none() {
        errors.push(FieldError::required("fieldManager", "is required for apply patch"));
    }
    if info.verb == Verb::Patch && !is_apply && info.query.get("force").is_some() {
        errors.push(FieldError::forbidden("force", "may not be specified for non-apply patch"));
    }
    if errors.is_empty() {
        return Ok((field_validation, !dry_run.is_empty()));
    }
    Err(Status::invalid("meta.k8s.io", kind, "", errors))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(method: Method, query: &str) -> Result<bool, String> {
        let info = RequestInfo::parse(&method, "/api/v1/namespaces/n/configmaps/c", Some(query));
        write_options(&info, Some("application/merge-patch+json")).map(|(_, dry)| dry).map_err(|s| s.message)
    }

    #[test]
    fn options_of_writes_are_checked() {
        assert_eq!(options(Method::PUT, ""), Ok(false));
        assert_eq!(options(Method::PUT, "dryRun=All&fieldValidation=Strict"), Ok(true));
        assert_eq!(options(Method::DELETE, "dryRun=All"), Ok(true));
        assert_eq!(
            options(Method::PATCH, "dryRun=None").unwrap_err(),
            "PatchOptions.meta.k8s.io \"\" is invalid: dryRun: Unsupported value: [\"None\"]: supported values: \"All\""
        );
        assert_eq!(
            options(Method::PUT, "fieldValidation=Loose").unwrap_err(),
            "UpdateOptions.meta.k8s.io \"\" is invalid: fieldValidation: Unsupported value: \"Loose\": \
             supported values: \"\", \"Ignore\", \"Strict\", \"Warn\""
        );
        assert_eq!(
            options(Method::PATCH, "force=false").unwrap_err(),
            "PatchOptions.meta.k8s.io \"\" is invalid: force: Forbidden: may not be specified for non-apply patch"
        );
        let long = format!("fieldManager={}", "x".repeat(FIELD_MANAGER_BYTES_MAX + 1));
        assert!(options(Method::PUT, &long).unwrap_err().contains("fieldManager: Too long"));
    }

    #[test]
    fn managers_are_named_after_the_program() {
        assert_eq!(manager_of("kubectl/v1.36 (linux/amd64)"), "kubectl");
        assert_eq!(manager_of(""), "unknown");
        assert_eq!(manager_of(&"é".repeat(100)).len(), FIELD_MANAGER_BYTES_MAX);
    }

    #[tokio::test]
    async fn bodies_are_bounded() {
        let parts = |method: Method| {
            let (parts, ()) = http::Request::builder().method(method).body(()).unwrap().into_parts();
            parts
        };
        let large = || Body::from(vec![b'x'; BODY_BYTES_MAX + 1]);
        assert_eq!(read_body(&parts(Method::POST), large()).await.unwrap_err().code, 413);
        assert_eq!(read_body(&parts(Method::GET), large()).await.unwrap(), Bytes::new());
        let streamed = futures::stream::iter(
            (0..2).map(|_| Ok::<_, std::io::Error>(Bytes::from(vec![0; BODY_BYTES_MAX]))),
        );
        assert_eq!(read_body(&parts(Method::POST), Body::from_stream(streamed)).await.unwrap_err().code, 413);
        let fits = Body::from(vec![b'x'; BODY_BYTES_MAX]);
        assert_eq!(read_body(&parts(Method::POST), fits).await.unwrap().len(), BODY_BYTES_MAX);
    }
}
