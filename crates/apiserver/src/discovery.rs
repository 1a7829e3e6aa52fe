//! What is served: `/api`, `/apis` and below, in the legacy form (one document per group
//! version) and in the aggregated one (`apidiscovery.k8s.io/v2` and `v2beta1`: one document
//! for everything, with an ETag).
//!
//! All of it is read off the resource index; nothing here lists resources. Aggregated
//! documents are built once per generation of the index.

use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use coracle_api::resource::{Resource, Scope, Subresource};
use coracle_api::status::Status;
use http::header::{ETAG, HOST, HeaderValue, IF_NONE_MATCH, VARY};
use http::request::Parts;
use http::{HeaderMap, Response, StatusCode};
use parking_lot::Mutex;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::negotiate::{self, accepted};
use crate::registry::ResourceIndex;
use crate::request::RequestInfo;
use crate::respond;

const AGGREGATED_GROUP: &str = "apidiscovery.k8s.io";
const AGGREGATED_KIND: &str = "APIGroupDiscoveryList";

/// Versions of the aggregated form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Aggregated {
    V2,
    V2Beta1,
}

impl Aggregated {
    const fn api_version(self) -> &'static str {
        match self {
            Self::V2 => "apidiscovery.k8s.io/v2",
            Self::V2Beta1 => "apidiscovery.k8s.io/v2beta1",
        }
    }

    const fn media_type(self) -> &'static str {
        match self {
            Self::V2 => "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
            Self::V2Beta1 => "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList",
        }
    }
}

/// One aggregated document.
struct Document {
    core: bool,
    version: Aggregated,
    bytes: Bytes,
    etag: HeaderValue,
}

/// Answers discovery; owns the aggregated documents of the newest generation asked for.
#[derive(Default)]
pub(crate) struct Discovery {
    documents: Mutex<(u64, Vec<Arc<Document>>)>,
}

impl Discovery {
    /// Answers a GET at or below `/api` or `/apis`; `path` has no trailing slash.
    ///
    /// # Errors
    /// 404 for a version that its group does not have, 406.
    pub(crate) fn answer(
        &self,
        path: &str,
        parts: &Parts,
        info: &RequestInfo,
        index: &ResourceIndex,
    ) -> Result<Response<Body>, Status> {
        let root = matches!(path, "/api" | "/apis");
        if let Some(version) = aggregated(&parts.headers).filter(|_| root) {
            return Ok(self.aggregated(path == "/api", version, &parts.headers, index));
        }
        let format = negotiate::plain_format(&parts.headers, &info.query)?;
        let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let value = match segments[..] {
            ["api"] => api_versions(&parts.headers),
            ["apis"] => group_list(index),
            ["api", version] if index.serves("", version) => resource_list(index, "", version),
            ["api", _] => return Err(Status::no_such_path()),
            ["apis", group] if !group.is_empty() && serves_group(index, group) => {
                group_value(index, group, true)
            }
            ["apis", group, version] if !group.is_empty() && index.serves(group, version) => {
                resource_list(index, group, version)
            }
            ["apis", group, _] if !group.is_empty() && serves_group(index, group) => {
                return Err(Status::no_such_path());
            }
            _ => return Ok(respond::page_not_found()),
        };
        Ok(respond::object(StatusCode::OK, &value, format))
    }

    fn aggregated(
        &self,
        core: bool,
        version: Aggregated,
        headers: &HeaderMap,
        index: &ResourceIndex,
    ) -> Response<Body> {
        let document = self.document(core, version, index);
        let mut response = if not_modified(headers, &document.etag) {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            response
        } else {
            respond::with_body(StatusCode::OK, version.media_type(), document.bytes.clone())
        };
        response.headers_mut().insert(ETAG, document.etag.clone());
        response.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
        response
    }

    fn document(&self, core: bool, version: Aggregated, index: &ResourceIndex) -> Arc<Document> {
        let mut documents = self.documents.lock();
        if documents.0 != index.generation() {
            *documents = (index.generation(), Vec::new());
        }
        if let Some(found) = documents.1.iter().find(|d| d.core == core && d.version == version) {
            return found.clone();
        }
        let bytes = Bytes::from(aggregated_value(core, version, index).to_string());
        let etag = etag(&bytes);
        let document = Arc::new(Document { core, version, bytes, etag });
        documents.1.push(document.clone());
        document
    }
}

/// Strong ETag of a document.
pub(crate) fn etag(bytes: &[u8]) -> HeaderValue {
    let digest = hex::encode_upper(Sha256::digest(bytes));
    HeaderValue::from_str(&format!("\"{digest}\"")).unwrap_or_else(|_| HeaderValue::from_static("\"\""))
}

/// Whether the client has this document already.
pub(crate) fn not_modified(headers: &HeaderMap, etag: &HeaderValue) -> bool {
    let Ok(etag) = etag.to_str() else { return false };
    headers
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|given| given.trim().trim_start_matches("W/"))
        .any(|given| given == "*" || given == etag)
}

/// The aggregated version that the client prefers, if it prefers any to the legacy form.
fn aggregated(headers: &HeaderMap) -> Option<Aggregated> {
    for clause in accepted(headers) {
        let json = matches!(clause.media_type, "application/json" | "*/*");
        match (clause.parameter("as"), clause.parameter("g"), clause.parameter("v")) {
            (Some(AGGREGATED_KIND), Some(AGGREGATED_GROUP), Some("v2")) if json => {
                return Some(Aggregated::V2);
            }
            (Some(AGGREGATED_KIND), Some(AGGREGATED_GROUP), Some("v2beta1")) if json => {
                return Some(Aggregated::V2Beta1);
            }
            (None, ..) if json || clause.media_type == "application/yaml" => return None,
            _ => {}
        }
    }
    None
}

/// Every group with its versions, preferred first: the built-in groups in the order of the
/// resource table, then custom ones.
pub(crate) fn groups(index: &ResourceIndex) -> Vec<(&str, Vec<&str>)> {
    let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
    for row in index.rows() {
        let Resource { group, version, .. } = &row.resource;
        let (group, version): (&str, &str) = (group, version);
        let at = groups.iter().position(|(known, _)| *known == group).unwrap_or_else(|| {
            groups.push((group, Vec::new()));
            groups.len() - 1
        });
        if !groups[at].1.contains(&version) {
            groups[at].1.push(version);
        }
    }
    for (_, versions) in &mut groups {
        versions.sort_by_key(|version| std::cmp::Reverse(VersionRank::of(version)));
    }
    groups
}

/// Whether any version of the group is served.
pub(crate) fn serves_group(index: &ResourceIndex, group: &str) -> bool {
    index.rows().any(|row| row.resource.group == group)
}

/// Kubernetes' order of API versions: stable before beta before alpha, newer before older,
/// and names of another form last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct VersionRank {
    stability: u8,
    major: u32,
    minor: u32,
}

impl VersionRank {
    fn of(version: &str) -> Self {
        Self::parse(version).unwrap_or(Self { stability: 0, major: 0, minor: 0 })
    }

    fn parse(version: &str) -> Option<Self> {
        let rest = version.strip_prefix('v')?;
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (major, rest) = rest.split_at(digits);
        let major = major.parse().ok()?;
        if rest.is_empty() {
            return Some(Self { stability: 3, major, minor: 0 });
        }
        let (stability, minor) = match (rest.strip_prefix("beta"), rest.strip_prefix("alpha")) {
            (Some(minor), _) => (2, minor),
            (None, Some(minor)) => (1, minor),
            (None, None) => return None,
        };
        Some(Self { stability, major, minor: minor.parse().ok()? })
    }
}

fn api_versions(headers: &HeaderMap) -> Value {
    let host = headers.get(HOST).and_then(|h| h.to_str().ok()).unwrap_or_default();
    json!({
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{ "clientCIDR": "0.0.0.0/0", "serverAddress": host }],
    })
}

fn group_list(index: &ResourceIndex) -> Value {
    let groups: Vec<Value> = groups(index)
        .into_iter()
        .filter(|(group, _)| !group.is_empty())
        .map(|(group, _)| group_value(index, group, false))
        .collect();
    json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups })
}

/// One group; with `typed`, as a document of its own.
fn group_value(index: &ResourceIndex, group: &str, typed: bool) -> Value {
    let versions: Vec<Value> = groups(index)
        .into_iter()
        .filter(|(known, _)| *known == group)
        .flat_map(|(_, versions)| versions)
        .map(|version| json!({ "groupVersion": format!("{group}/{version}"), "version": version }))
        .collect();
    let mut value = json!({ "name": group, "preferredVersion": versions.first(), "versions": versions });
    if typed {
        value["kind"] = "APIGroup".into();
        value["apiVersion"] = "v1".into();
    }
    value
}

fn rows_of<'a>(index: &'a ResourceIndex, group: &'a str, version: &'a str) -> Vec<&'a Resource> {
    let mut rows: Vec<&Resource> =
        index.rows().map(|row| &row.resource).filter(|r| r.group == group && r.version == version).collect();
    rows.sort_by(|a, b| a.plural.cmp(&b.plural));
    rows
}

fn resource_list(index: &ResourceIndex, group: &str, version: &str) -> Value {
    let mut resources = Vec::new();
    for row in rows_of(index, group, version) {
        resources.push(resource_value(row));
        let mut subs: Vec<&Subresource> = row.subresources.iter().collect();
        subs.sort_by(|a, b| a.name.cmp(&b.name));
        resources.extend(subs.into_iter().map(|sub| subresource_value(row, sub)));
    }
    let mut value = json!({
        "kind": "APIResourceList",
        "groupVersion": coracle_api::resource::api_version(group, version),
        "resources": resources,
    });
    // The core group's list is older than the field.
    if !group.is_empty() {
        value["apiVersion"] = "v1".into();
    }
    value
}

fn resource_value(row: &Resource) -> Value {
    let mut value = json!({
        "name": row.plural,
        "singularName": row.singular,
        "namespaced": row.is_namespaced(),
        "kind": row.kind,
        "verbs": row.verbs,
    });
    set_names(&mut value, row);
    value
}

fn subresource_value(row: &Resource, sub: &Subresource) -> Value {
    let mut value = json!({
        "name": format!("{}/{}", row.plural, sub.name),
        "singularName": "",
        "namespaced": row.is_namespaced(),
        "kind": sub.kind,
        "verbs": sub.verbs,
    });
    if !sub.version.is_empty() {
        value["group"] = json!(sub.group);
        value["version"] = json!(sub.version);
    }
    value
}

fn set_names(value: &mut Value, row: &Resource) {
    if !row.short_names.is_empty() {
        value["shortNames"] = json!(row.short_names);
    }
    if !row.categories.is_empty() {
        value["categories"] = json!(row.categories);
    }
}

fn aggregated_value(core: bool, version: Aggregated, index: &ResourceIndex) -> Value {
    let items: Vec<Value> = groups(index)
        .into_iter()
        .filter(|(group, _)| group.is_empty() == core)
        .map(|(group, versions)| {
            let versions: Vec<Value> = versions
                .into_iter()
                .map(|version| {
                    let resources: Vec<Value> =
                        rows_of(index, group, version).into_iter().map(aggregated_resource).collect();
                    json!({ "version": version, "resources": resources, "freshness": "Current" })
                })
                .collect();
            let metadata = if core { json!({}) } else { json!({ "name": group }) };
            json!({ "metadata": metadata, "versions": versions })
        })
        .collect();
    json!({ "kind": AGGREGATED_KIND, "apiVersion": version.api_version(), "metadata": {}, "items": items })
}

fn aggregated_resource(row: &Resource) -> Value {
    let kind =
        |group: &str, version: &str, kind: &str| json!({ "group": group, "version": version, "kind": kind });
    let mut value = json!({
        "resource": row.plural,
        "responseKind": kind("", "", &row.kind),
        "scope": match row.scope {
            Scope::Namespaced => "Namespaced",
            Scope::Cluster => "Cluster",
        },
        "singularResource": row.singular,
        "verbs": row.verbs,
    });
    set_names(&mut value, row);
    let mut subs: Vec<&Subresource> = row.subresources.iter().collect();
    subs.sort_by(|a, b| a.name.cmp(&b.name));
    if !subs.is_empty() {
        value["subresources"] = subs
            .into_iter()
            .map(|sub| {
                json!({
                    "subresource": sub.name,
                    "responseKind": kind(&sub.group, &sub.version, &sub.kind),
                    "verbs": sub.verbs,
                })
            })
            .collect();
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::ACCEPT;
    use http::{Method, Request};
    use http_body_util::BodyExt;

    const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,\
        application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";

    async fn get(path: &str, accept: &str, etag: Option<HeaderValue>) -> (u16, HeaderMap, Value) {
        let mut request = Request::builder().uri(path).header(ACCEPT, accept);
        if let Some(etag) = etag {
            request = request.header(IF_NONE_MATCH, etag);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let info = RequestInfo::parse(&Method::GET, path, None);
        let index = ResourceIndex::builtin();
        let response = match Discovery::default().answer(path, &parts, &info, &index) {
            Ok(response) => response,
            Err(status) => respond::status(&status, crate::request::ObjectFormat::default()),
        };
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        (parts.status.as_u16(), parts.headers, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    #[tokio::test]
    async fn legacy_documents_have_the_shapes_that_clients_know() {
        let (_, _, api) = get("/api", "application/json", None).await;
        assert_eq!(
            (&api["kind"], &api["versions"], api.get("apiVersion")),
            (&json!("APIVersions"), &json!(["v1"]), None)
        );
        let (_, _, apis) = get("/apis", "application/json", None).await;
        assert_eq!((&apis["kind"], &apis["apiVersion"]), (&json!("APIGroupList"), &json!("v1")));
        assert!(apis["groups"].as_array().unwrap().iter().any(|g| g["name"] == "apps"));
        let (_, _, apps) = get("/apis/apps", "application/json", None).await;
        let v1 = json!({"groupVersion": "apps/v1", "version": "v1"});
        assert_eq!(
            apps,
            json!({"kind": "APIGroup", "apiVersion": "v1", "name": "apps", "versions": [v1], "preferredVersion": v1})
        );
        let (_, _, list) = get("/apis/apps/v1", "application/json", None).await;
        let names: Vec<&str> =
            list["resources"].as_array().unwrap().iter().filter_map(|r| r["name"].as_str()).collect();
        assert!(names.contains(&"deployments/scale") && names.is_sorted());
        let (_, _, core) = get("/api/v1", "application/json", None).await;
        assert!(core.get("apiVersion").is_none());
    }

    #[tokio::test]
    async fn unknown_groups_and_versions_differ() {
        assert_eq!(get("/apis/apps/v1beta2", "*/*", None).await.2["reason"], "NotFound");
        assert_eq!(get("/api/v2", "*/*", None).await.2["reason"], "NotFound");
        let (code, _, body) = get("/apis/no-such-group.example", "*/*", None).await;
        assert_eq!((code, body), (404, Value::Null));
    }

    #[tokio::test]
    async fn the_aggregated_document_is_negotiated_and_cached() {
        let (code, headers, core) = get("/api", AGGREGATED, None).await;
        assert_eq!((code, &core["apiVersion"]), (200, &json!("apidiscovery.k8s.io/v2")));
        let resources = core["items"][0]["versions"][0]["resources"].as_array().unwrap();
        let ns = resources.iter().find(|r| r["resource"] == "namespaces").unwrap();
        assert_eq!(ns["responseKind"], json!({"group": "", "version": "", "kind": "Namespace"}));
        assert_eq!(ns["subresources"][0]["subresource"], "finalize");
        let (code, _, _) = get("/api", AGGREGATED, headers.get(ETAG).cloned()).await;
        assert_eq!(code, 304);
        assert_eq!(get("/api", "application/json", None).await.2["kind"], "APIVersions");
    }

    #[test]
    fn versions_are_ordered_as_by_kubernetes() {
        let mut versions = vec!["foo", "v1alpha1", "v1beta2", "v2", "v1", "v1beta10", "v10"];
        versions.sort_by_key(|v| std::cmp::Reverse(VersionRank::of(v)));
        assert_eq!(versions, ["v10", "v2", "v1", "v1beta10", "v1beta2", "v1alpha1", "foo"]);
    }
}
