//! Answers that need no storage of their own: access reviews, tokens, logs.
//!
//! A hook is found by resource and subresource before the registry is asked; everything that
//! no hook knows is the registry's.

mod access_review;
mod kubelet;
mod log;
mod rules_review;
mod self_review;
mod token_request;
mod token_review;

use std::sync::Arc;

use axum::body::Body;
use coracle_api::meta;
use coracle_api::resource::Resource;
use coracle_api::schema::{self, Schema};
use coracle_api::status::Status;
use coracle_machinery::decode::{self, Decoded, Format};
use coracle_machinery::defaults;
use coracle_machinery::managed::{self, Reset, Writer};
use http::{Response, StatusCode};
use jiff::Timestamp;
use serde_json::Value;

use crate::authn::Authenticator;
use crate::authz::Authorizer;
use crate::config::Config;
use crate::registry::Registry;
use crate::request::{Call, RequestInfo, Verb};
use crate::respond;

const AUTHENTICATION: &str = "authentication.k8s.io";
const AUTHORIZATION: &str = "authorization.k8s.io";

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hook {
    SelfSubjectAccessReview,
    SubjectAccessReview,
    LocalSubjectAccessReview,
    SelfSubjectRulesReview,
    SelfSubjectReview,
    TokenReview,
    TokenRequest,
    PodLog,
    /// Streams into pods, nodes and services that this server does not offer yet.
    NotServed,
}

/// Answers hooks.
pub(crate) struct Hooks {
    config: Arc<Config>,
    registry: Registry,
    authenticator: Arc<Authenticator>,
    authorizer: Authorizer,
}

impl Hooks {
    pub(crate) fn new(
        config: Arc<Config>,
        registry: Registry,
        authenticator: Arc<Authenticator>,
        authorizer: Authorizer,
    ) -> Self {
        Self { config, registry, authenticator, authorizer }
    }

    /// The hook of a request, if there is one.
    pub(crate) fn find(&self, info: &RequestInfo) -> Option<Hook> {
        let at = (info.group.as_str(), info.plural.as_str(), info.subresource.as_deref());
        let hook = match at {
            (AUTHORIZATION, "selfsubjectaccessreviews", None) => Hook::SelfSubjectAccessReview,
            (AUTHORIZATION, "subjectaccessreviews", None) => Hook::SubjectAccessReview,
            (AUTHORIZATION, "localsubjectaccessreviews", None) => Hook::LocalSubjectAccessReview,
            (AUTHORIZATION, "selfsubjectrulesreviews", None) => Hook::SelfSubjectRulesReview,
            (AUTHENTICATION, "selfsubjectreviews", None) => Hook::SelfSubjectReview,
            (AUTHENTICATION, "tokenreviews", None) => Hook::TokenReview,
            ("", "serviceaccounts", Some("token")) => Hook::TokenRequest,
            ("", "pods", Some("log")) => Hook::PodLog,
            ("", "pods", Some("exec" | "attach" | "portforward" | "proxy")) => Hook::NotServed,
            ("", "nodes" | "services", Some("proxy")) => Hook::NotServed,
            _ => return None,
        };
        Some(hook)
    }

    /// Answers a hook.
    ///
    /// # Errors
    /// 405 for a verb that it does not know, and those of the single hooks.
    pub(crate) async fn answer(&self, hook: Hook, call: &Call) -> Result<Response<Body>, Status> {
        let needed = match hook {
            Hook::PodLog => Verb::Get,
            Hook::NotServed => return Err(not_served(&call.info)),
            _ => Verb::Create,
        };
        if call.info.verb != needed {
            return Err(Status::method_unknown());
        }
        let mut value = match hook {
            Hook::PodLog => return log::stream(&self.config, &self.registry, &call.info).await,
            Hook::NotServed => return Err(not_served(&call.info)),
            Hook::SelfSubjectAccessReview => access_review::of_self(
                &self.authorizer,
                &call.user,
                body(call, AUTHORIZATION, "SelfSubjectAccessReview")?,
            )?,
            Hook::SubjectAccessReview => access_review::of_subject(
                &self.authorizer,
                body(call, AUTHORIZATION, "SubjectAccessReview")?,
            )?,
            Hook::LocalSubjectAccessReview => {
                let review = body(call, AUTHORIZATION, "LocalSubjectAccessReview")?;
                access_review::of_local(
                    &self.authorizer,
                    call.info.namespace.as_deref().unwrap_or_default(),
                    review,
                )?
            }
            Hook::SelfSubjectRulesReview => rules_review::answer(
                &self.authorizer,
                &call.user,
                &body(call, AUTHORIZATION, "SelfSubjectRulesReview")?,
            )?,
            Hook::SelfSubjectReview => {
                body(call, AUTHENTICATION, "SelfSubjectReview")?;
                self_review::answer(&call.user)
            }
            Hook::TokenReview => {
                let review = body(call, AUTHENTICATION, "TokenReview")?;
                token_review::answer(&self.config, self.authenticator.tokens(), review).await?
            }
            Hook::TokenRequest => {
                let request = body(call, AUTHENTICATION, "TokenRequest")?;
                token_request::answer(&self.config, &self.registry, &call.info, &request).await?
            }
        };
        own_request(call, &mut value);
        Ok(respond::object(StatusCode::CREATED, &value, call.format))
    }
}

/// Writes into the answer to a review who stated which of its fields, as for every object that is
/// created, although nothing is stored.
fn own_request(call: &Call, answer: &mut Value) {
    let Some((group, version)) = meta::api_version(answer).split_once('/') else { return };
    let definition = Resource::definition(group, version, meta::kind(answer));
    let Some(schema) = schema::builtin(&definition) else { return };
    let Ok(Decoded { value: mut stated, .. }) = read_body(call, schema) else { return };
    defaults::apply(&mut stated, schema);
    let writer = Writer {
        manager: &call.field_manager,
        api_version: meta::api_version(answer),
        subresource: call.info.subresource.as_deref().unwrap_or_default(),
        reset: Reset::of(group, &call.info.plural, "", true),
        now: Timestamp::now(),
    };
    managed::update(None, &mut stated, schema, &writer);
    if let Some(managers) = stated.pointer("/metadata/managedFields") {
        meta::set(answer, "managedFields", managers.clone());
    }
}

/// What is not there yet says so.
fn not_served(info: &RequestInfo) -> Status {
    let what = info.subresource.as_deref().unwrap_or_default();
    Status::failure(501, "NotImplemented", format!("{}/{what} is not served by this version", info.plural))
}

/// Decodes the body as an object of version `v1` of a group.
///
/// # Errors
/// 415 for a media type that is not read, and the decoder's.
fn body(call: &Call, group: &str, kind: &str) -> Result<Value, Status> {
    let definition = Resource::definition(group, "v1", kind);
    let schema = schema::builtin(&definition)
        .ok_or_else(|| Status::internal(format_args!("there is no schema called {definition}")))?;
    read_body(call, schema).map(|decoded| decoded.value)
}

fn read_body(call: &Call, schema: &Schema) -> Result<Decoded, Status> {
    let format = match call.content_type.as_deref() {
        None | Some("application/json") => Format::Json,
        Some("application/yaml") => Format::Yaml,
        Some(_) => return Err(Status::unsupported_media_type(&["application/json", "application/yaml"])),
    };
    decode::object(&call.body, format, schema, call.field_validation)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Method;

    #[test]
    fn what_is_not_served_says_so() {
        let info = RequestInfo::parse(&Method::POST, "/api/v1/namespaces/a/pods/p/exec", None);
        let status = not_served(&info);
        assert_eq!((status.code, status.message.as_str()), (501, "pods/exec is not served by this version"));
    }
}
