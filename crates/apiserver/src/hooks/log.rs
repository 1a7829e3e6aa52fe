//! `pods/<name>/log`: finds container and node, and passes on what the node's kubelet says.

use axum::body::Body;
use coracle_api::field::{FieldError, FieldErrors};
use coracle_api::meta;
use coracle_api::status::Status;
use http::{Response, StatusCode};
use serde_json::Value;

use super::kubelet;
use crate::config::Config;
use crate::internal::{self, At};
use crate::registry::Registry;
use crate::request::{Query, RequestInfo};
use crate::respond;

/// Parameters that are the kubelet's to understand.
const PASSED_ON: [&str; 7] =
    ["follow", "previous", "timestamps", "sinceSeconds", "sinceTime", "tailLines", "limitBytes"];

/// The log as a stream of text.
///
/// # Errors
/// 404 for the pod, 400 for the container, 422 for the options, and the kubelet's.
pub(super) async fn stream(
    config: &Config,
    registry: &Registry,
    info: &RequestInfo,
) -> Result<Response<Body>, Status> {
    let namespace = info.namespace.as_deref().unwrap_or_default();
    let name = info.name.as_deref().unwrap_or_default();
    check(&info.query, name)?;
    let pod = internal::get(registry, At::core("pods").within(namespace).named(name)).await?;
    let container = container(&pod, info.query.non_empty("container"))?;
    let node = pod.pointer("/spec/nodeName").and_then(Value::as_str).unwrap_or_default();
    if node.is_empty() {
        // Not scheduled yet: there is no log, and no error either.
        return Ok(respond::text(StatusCode::OK, ""));
    }
    let endpoint = kubelet::Endpoint::of(&internal::get(registry, At::core("nodes").named(node)).await?)?;
    let path = format!("/containerLogs/{namespace}/{name}/{container}{}", passed_on(&info.query));
    let answer = kubelet::get(&config.kubelet_tls, &endpoint, &path).await?;
    if answer.status() != StatusCode::OK {
        return Err(kubelet::failure(answer, "pods", name).await);
    }
    let mut response = Response::new(Body::new(answer.into_body()));
    let text = http::HeaderValue::from_static("text/plain");
    response.headers_mut().insert(http::header::CONTENT_TYPE, text);
    Ok(response)
}

/// The query for the kubelet, with its question mark, or nothing.
fn passed_on(query: &Query) -> String {
    let mut out = form_urlencoded::Serializer::new(String::new());
    for key in PASSED_ON {
        if let Some(value) = query.get(key) {
            out.append_pair(key, value);
        }
    }
    let out = out.finish();
    if out.is_empty() { out } else { format!("?{out}") }
}

/// Checks `PodLogOptions`.
fn check(query: &Query, pod: &str) -> Result<(), Status> {
    let mut errors = FieldErrors::new();
    let (since_s, tail, limit) =
        (query.integer("sinceSeconds")?, query.integer("tailLines")?, query.integer("limitBytes")?);
    if let Some(tail) = tail.filter(|tail| *tail < 0) {
        errors.push(FieldError::invalid("tailLines", tail, "must be greater than or equal to 0"));
    }
    if let Some(limit) = limit.filter(|limit| *limit < 1) {
        errors.push(FieldError::invalid("limitBytes", limit, "must be greater than 0"));
    }
    match (since_s, query.non_empty("sinceTime")) {
        (Some(_), Some(_)) => {
            errors.push(FieldError::forbidden(
                "",
                "at most one of `sinceTime` or `sinceSeconds` may be specified",
            ));
        }
        (Some(since_s), None) if since_s < 1 => {
            errors.push(FieldError::invalid("sinceSeconds", since_s, "must be greater than 0"));
        }
        _ => {}
    }
    if errors.is_empty() { Ok(()) } else { Err(Status::invalid("", "PodLogOptions", pod, errors)) }
}

/// The container that is meant: the one named, or the only one (init containers aside).
fn container(pod: &Value, wanted: Option<&str>) -> Result<String, Status> {
    let (containers, init) = (names(pod, "containers"), names(pod, "initContainers"));
    let pod_name = meta::name(pod);
    if let Some(wanted) = wanted {
        let known = [&containers[..], &init[..], &names(pod, "ephemeralContainers")[..]].concat();
        return if known.contains(&wanted) {
            Ok(wanted.to_owned())
        } else {
            Err(Status::bad_request(format!("container {wanted} is not valid for pod {pod_name}")))
        };
    }
    match containers[..] {
        [only] => Ok(only.to_owned()),
        _ => {
            let mut why = format!(
                "a container name must be specified for pod {pod_name}, choose one of: [{}]",
                containers.join(" ")
            );
            if !init.is_empty() {
                why.push_str(&format!(" or one of the init containers: [{}]", init.join(" ")));
            }
            Err(Status::bad_request(why))
        }
    }
}

/// The names of the containers of one list of the pod's spec.
fn names<'a>(pod: &'a Value, list: &str) -> Vec<&'a str> {
    let list = pod.get("spec").and_then(|spec| spec.get(list)).and_then(Value::as_array);
    list.into_iter().flatten().map(|container| meta::text(container, "name")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_the_kubelet_understands_is_passed_on() {
        let query = Query::parse("follow=true&container=c&sinceTime=2024-01-01T00:00:00%2B01:00");
        assert_eq!(passed_on(&query), "?follow=true&sinceTime=2024-01-01T00%3A00%3A00%2B01%3A00");
        assert_eq!(passed_on(&Query::default()), "");
    }

    fn pod(containers: &[&str], init: &[&str]) -> Value {
        let list =
            |names: &[&str]| -> Vec<Value> { names.iter().map(|name| json!({"name": name})).collect() };
        json!({"metadata": {"name": "p"}, "spec": {"containers": list(containers), "initContainers": list(init)}})
    }

    #[test]
    fn the_container_is_named_or_the_only_one() {
        assert_eq!(container(&pod(&["a"], &[]), None).unwrap(), "a");
        assert_eq!(container(&pod(&["a", "b"], &[]), Some("b")).unwrap(), "b");
        assert_eq!(container(&pod(&["a"], &["i"]), Some("i")).unwrap(), "i");
        assert_eq!(container(&pod(&["a"], &["i"]), None).unwrap(), "a");
        let message = |pod: &Value, wanted| container(pod, wanted).unwrap_err().message;
        assert_eq!(message(&pod(&["a"], &[]), Some("x")), "container x is not valid for pod p");
        assert_eq!(
            message(&pod(&["a", "b"], &["i"]), None),
            "a container name must be specified for pod p, choose one of: [a b] or one of the init containers: [i]"
        );
    }

    #[test]
    fn options_are_checked() {
        let code = |query: &str| check(&Query::parse(query), "p").map_or_else(|status| status.code, |()| 200);
        assert_eq!(code("tailLines=0&follow=true&limitBytes=1&sinceSeconds=1"), 200);
        assert_eq!(code("tailLines=-1"), 422);
        assert_eq!(code("limitBytes=0"), 422);
        assert_eq!(code("sinceSeconds=0"), 422);
        assert_eq!(code("sinceSeconds=1&sinceTime=2024-01-01T00:00:00Z"), 422);
        assert_eq!(code("tailLines=x"), 400);
    }
}
