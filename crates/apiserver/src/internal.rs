//! The server's own calls on its registry: the same path as everybody's, without HTTP.
//!
//! Used for bootstrap, for the objects behind tokens and logs, and to follow roles. The
//! identity is `system:apiserver`, so that what it writes can be told from what users write.

use bytes::Bytes;
use coracle_api::status::Status;
use coracle_api::user::UserInfo;
use coracle_machinery::decode::FieldValidation;
use http::Method;
use serde_json::Value;

use crate::registry::{Frames, Registry, Reply};
use crate::request::{Call, ObjectFormat, Query, RequestInfo, Verb};

/// Manager name of what the server writes itself.
const MANAGER: &str = "kube-apiserver";

/// The identity of the server towards itself.
pub(crate) fn own_identity() -> UserInfo {
    UserInfo::new("system:apiserver", [UserInfo::MASTERS])
}

/// A resource or one object of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct At<'a> {
    /// API group; empty is core.
    pub(crate) group: &'a str,
    /// Version.
    pub(crate) version: &'a str,
    /// Plural.
    pub(crate) plural: &'a str,
    /// Namespace, for namespaced resources.
    pub(crate) namespace: Option<&'a str>,
    /// Name, for one object.
    pub(crate) name: Option<&'a str>,
}

impl<'a> At<'a> {
    /// A collection of the core group.
    pub(crate) const fn core(plural: &'a str) -> Self {
        Self { group: "", version: "v1", plural, namespace: None, name: None }
    }

    /// A collection of version `v1` of a group.
    pub(crate) const fn v1(group: &'a str, plural: &'a str) -> Self {
        Self { group, version: "v1", plural, namespace: None, name: None }
    }

    /// The same in a namespace.
    pub(crate) const fn within(mut self, namespace: &'a str) -> Self {
        self.namespace = Some(namespace);
        self
    }

    /// One object of it.
    pub(crate) const fn named(mut self, name: &'a str) -> Self {
        self.name = Some(name);
        self
    }

    fn info(self, verb: Verb, method: Method, query: &str) -> RequestInfo {
        RequestInfo {
            method,
            path: String::new(),
            query: Query::parse(query),
            is_resource: true,
            verb,
            group: self.group.to_owned(),
            version: self.version.to_owned(),
            namespace: self.namespace.map(str::to_owned),
            plural: self.plural.to_owned(),
            subresource: None,
            name: self.name.map(str::to_owned),
            rest: Vec::new(),
        }
    }
}

/// Reads one object.
///
/// # Errors
/// The registry's, 404 among them.
pub(crate) async fn get(registry: &Registry, at: At<'_>) -> Result<Value, Status> {
    object(registry, at.info(Verb::Get, Method::GET, ""), Bytes::new()).await
}

/// Creates an object.
///
/// # Errors
/// The registry's, 409 `AlreadyExists` among them.
pub(crate) async fn create(registry: &Registry, at: At<'_>, value: &Value) -> Result<Value, Status> {
    let body = serde_json::to_vec(value).map_err(Status::internal)?;
    object(registry, at.info(Verb::Create, Method::POST, ""), Bytes::from(body)).await
}

/// Replaces an object; with a resourceVersion in it, only if it is still that one.
///
/// # Errors
/// The registry's, 409 `Conflict` among them.
pub(crate) async fn update(registry: &Registry, at: At<'_>, value: &Value) -> Result<Value, Status> {
    let body = serde_json::to_vec(value).map_err(Status::internal)?;
    object(registry, at.info(Verb::Update, Method::PUT, ""), Bytes::from(body)).await
}

/// Everything that a collection holds now, then a bookmark, then changes.
///
/// # Errors
/// The registry's.
pub(crate) async fn watch(registry: &Registry, at: At<'_>) -> Result<Frames, Status> {
    let query = "watch=true&allowWatchBookmarks=true&sendInitialEvents=true\
                 &resourceVersionMatch=NotOlderThan&timeoutSeconds=86400";
    match registry.handle(call(at.info(Verb::Watch, Method::GET, query), Bytes::new())).await? {
        Reply::Watch { frames, .. } => Ok(frames),
        Reply::Object { .. } => Err(Status::internal("a watch was answered with an object")),
    }
}

async fn object(registry: &Registry, info: RequestInfo, body: Bytes) -> Result<Value, Status> {
    match registry.handle(call(info, body)).await? {
        Reply::Object { body, .. } => serde_json::from_slice(&body.into_bytes()).map_err(Status::internal),
        Reply::Watch { .. } => Err(Status::internal("an object was answered with a watch")),
    }
}

fn call(info: RequestInfo, body: Bytes) -> Call {
    Call {
        info,
        user: own_identity(),
        format: ObjectFormat::default(),
        content_type: Some("application/json".to_owned()),
        field_manager: MANAGER.to_owned(),
        field_validation: FieldValidation::Ignore,
        dry_run: false,
        create_refusal: None,
        user_agent: MANAGER.to_owned(),
        body,
    }
}
