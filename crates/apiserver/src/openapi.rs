//! `/openapi/v3`: an index, and one document per group version; `/openapi/v2`: definitions.
//!
//! Documents are made when they are first asked for and kept compressed, at most one per
//! group version. The index names each with a hash of what it is made of, so that clients
//! ask again only for what has changed. JSON only: the protobuf form is answered with 406,
//! which makes clients fall back.

mod document;

use std::collections::HashMap;
use std::io::{Read, Write};
use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use coracle_api::resource::api_version;
use coracle_api::status::Status;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use http::header::{ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, ETAG, HeaderValue, LOCATION, VARY};
use http::request::Parts;
use http::{HeaderMap, Response, StatusCode};
use parking_lot::Mutex;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::config::VERSION;
use crate::discovery::{etag, groups, not_modified};
use crate::internal::{self, At};
use crate::negotiate::accepted;
use crate::registry::{Registry, ResourceIndex};
use crate::request::RequestInfo;
use crate::respond;

/// Name of the document of `/openapi/v2` among the kept ones.
const V2: &str = "v2";

/// A finished document.
struct Kept {
    /// Hash of what it was made of.
    hash: String,
    etag: HeaderValue,
    gzipped: Bytes,
}

/// Answers `/openapi`; owns the documents that were asked for.
#[derive(Default)]
pub(crate) struct OpenApi {
    documents: Mutex<HashMap<String, Arc<Kept>>>,
}

impl OpenApi {
    /// Answers a GET below `/openapi`; `path` has no trailing slash.
    ///
    /// # Errors
    /// 406 when JSON is not accepted, 500 when a document cannot be made.
    pub(crate) async fn answer(
        &self,
        path: &str,
        parts: &Parts,
        info: &RequestInfo,
        registry: &Registry,
    ) -> Result<Response<Body>, Status> {
        if !accepts_json(&parts.headers) {
            return Err(Status::not_acceptable(&["application/json"]));
        }
        let index = registry.resources();
        if path == "/openapi/v3" {
            let value = index_value(&index);
            return Ok(respond::with_body(
                StatusCode::OK,
                "application/json",
                Bytes::from(value.to_string()),
            ));
        }
        let hash_given = info.query.non_empty("hash");
        if path == "/openapi/v2" {
            let hash = hash_of(&index, "", "");
            let kept = self.document(V2, hash, || Ok(document::v2())).await?;
            return Ok(send(&kept, &parts.headers, false));
        }
        let Some((group, version)) =
            group_version(path).filter(|(group, version)| index.serves(group, version))
        else {
            return Ok(respond::page_not_found());
        };
        let hash = hash_of(&index, group, version);
        if let Some(given) = hash_given.filter(|given| *given != hash) {
            tracing::debug!(path, given, "an outdated OpenAPI document was asked for");
            return Ok(moved(&url(group, version, &hash)));
        }
        let source = source(registry, &index, group, version).await;
        let kept =
            self.document(&api_version(group, version), hash, move || Ok(document::v3(&source))).await?;
        Ok(send(&kept, &parts.headers, hash_given.is_some()))
    }

    /// The kept document `name`, made anew when it is missing or made of something else.
    async fn document(
        &self,
        name: &str,
        hash: String,
        make: impl FnOnce() -> Result<Value, Status> + Send + 'static,
    ) -> Result<Arc<Kept>, Status> {
        let known = self.documents.lock().get(name).filter(|kept| kept.hash == hash).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let making = tokio::task::spawn_blocking(move || {
            let text = make()?.to_string();
            let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(text.as_bytes()).map_err(Status::internal)?;
            let gzipped = Bytes::from(encoder.finish().map_err(Status::internal)?);
            Ok::<_, Status>((gzipped, etag(text.as_bytes())))
        });
        let (gzipped, etag) = making.await.map_err(Status::internal)??;
        let kept = Arc::new(Kept { hash, etag, gzipped });
        self.documents.lock().insert(name.to_owned(), kept.clone());
        Ok(kept)
    }
}

/// What a document is made of: rows, and the definitions of custom resources as written.
async fn source(registry: &Registry, index: &ResourceIndex, group: &str, version: &str) -> document::Source {
    let rows: Vec<_> = index
        .rows()
        .filter(|row| row.resource.group == group && row.resource.version == version)
        .cloned()
        .collect();
    let mut custom = HashMap::new();
    for row in rows.iter().filter(|row| row.is_custom()) {
        let name = row.resource.qualified();
        let at = At::v1("apiextensions.k8s.io", "customresourcedefinitions").named(&name);
        match internal::get(registry, at).await {
            Ok(definition) => {
                custom.insert(row.resource.plural.to_string(), definition);
            }
            Err(status) => tracing::debug!(name, %status, "a definition went away while it was described"),
        }
    }
    document::Source {
        group: group.to_owned(),
        version: version.to_owned(),
        rows: rows.iter().map(|row| row.resource.clone()).collect(),
        custom,
    }
}

/// `/openapi/v3/api/<v>` and `/openapi/v3/apis/<g>/<v>`.
fn group_version(path: &str) -> Option<(&str, &str)> {
    let rest = path.strip_prefix("/openapi/v3/")?;
    match rest.strip_prefix("apis/") {
        Some(rest) => rest.split_once('/').filter(|(group, _)| !group.is_empty()),
        None => rest.strip_prefix("api/").map(|version| ("", version)),
    }
}

fn url(group: &str, version: &str, hash: &str) -> String {
    let (root, gv) = (if group.is_empty() { "api" } else { "apis" }, api_version(group, version));
    format!("/openapi/v3/{root}/{gv}?hash={hash}")
}

fn index_value(index: &ResourceIndex) -> Value {
    let mut paths = serde_json::Map::new();
    for (group, versions) in groups(index) {
        for version in versions {
            let root = if group.is_empty() { "api" } else { "apis" };
            let hash = hash_of(index, group, version);
            let at = json!({ "serverRelativeURL": url(group, version, &hash) });
            paths.insert(format!("{root}/{}", api_version(group, version)), at);
        }
    }
    json!({ "paths": paths })
}

/// A hash of what a document is made of. Built-in definitions change only with the program;
/// custom ones are hashed as they are.
fn hash_of(index: &ResourceIndex, group: &str, version: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(VERSION);
    hash.update(env!("CARGO_PKG_VERSION"));
    hash.update(format!("{group}/{version}"));
    for row in index.rows().filter(|row| row.resource.group == group && row.resource.version == version) {
        hash.update(format!("{:?}{:?}", row.resource.kind, row.resource.verbs));
        if row.is_custom() {
            hash.update(format!("{:?}", row.schema()));
        }
    }
    hex::encode_upper(hash.finalize())
}

fn accepts_json(headers: &HeaderMap) -> bool {
    let clauses = accepted(headers);
    clauses.is_empty()
        || clauses.iter().any(|c| matches!(c.media_type, "application/json" | "application/*" | "*/*"))
}

fn moved(location: &str) -> Response<Body> {
    let mut response = respond::text(StatusCode::MOVED_PERMANENTLY, "");
    if let Ok(location) = HeaderValue::from_str(location) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

/// Sends a document; `named` says that the client asked for exactly this one by its hash.
fn send(kept: &Kept, headers: &HeaderMap, named: bool) -> Response<Body> {
    let mut response = if not_modified(headers, &kept.etag) {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else if takes_gzip(headers) {
        let mut response = respond::with_body(StatusCode::OK, "application/json", kept.gzipped.clone());
        response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        response
    } else {
        let mut plain = Vec::new();
        match GzDecoder::new(&kept.gzipped[..]).read_to_end(&mut plain) {
            Ok(_) => respond::with_body(StatusCode::OK, "application/json", Bytes::from(plain)),
            Err(error) => {
                return respond::status(&Status::internal(error), crate::request::ObjectFormat::default());
            }
        }
    };
    let out = response.headers_mut();
    out.insert(ETAG, kept.etag.clone());
    out.insert(VARY, HeaderValue::from_static("Accept-Encoding, Accept"));
    if named {
        out.insert(CACHE_CONTROL, HeaderValue::from_static("public, immutable"));
    }
    response
}

fn takes_gzip(headers: &HeaderMap) -> bool {
    headers.get_all(ACCEPT_ENCODING).iter().filter_map(|v| v.to_str().ok()).any(|v| v.contains("gzip"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_group_versions() {
        assert_eq!(group_version("/openapi/v3/api/v1"), Some(("", "v1")));
        assert_eq!(group_version("/openapi/v3/apis/apps/v1"), Some(("apps", "v1")));
        assert_eq!(group_version("/openapi/v3/apis//v1"), None);
        assert_eq!(group_version("/openapi/v3/version"), None);
    }

    #[test]
    fn the_index_points_to_every_group_version() {
        let index = ResourceIndex::builtin();
        let value = index_value(&index);
        for (key, path) in
            [("api/v1", "/openapi/v3/api/v1?hash="), ("apis/apps/v1", "/openapi/v3/apis/apps/v1?hash=")]
        {
            let url = value["paths"][key]["serverRelativeURL"].as_str().unwrap();
            assert!(url.starts_with(path), "{url}");
        }
        assert_eq!(value, index_value(&index), "hashes are stable");
    }
}
