//! Who asks: client certificate, ServiceAccount token, or nobody.
//!
//! A client certificate wins over a bearer token. A token must be signed by this cluster, be
//! meant for this server, and its ServiceAccount and the object it is bound to must still
//! exist with the same uid; that outcome is remembered for [`REMEMBER`]. A request without
//! credentials is `system:anonymous`, who by the default roles may read health and version
//! only. Impersonation is checked here too, since it changes who asks.

mod impersonate;
mod tokens;

use std::sync::Arc;
use std::time::Duration;

use coracle_api::status::Status;
use coracle_api::user::UserInfo;
use http::header::AUTHORIZATION;
use http::request::Parts;

use crate::authz::Authorizer;
use crate::config::Config;
use crate::listener::Peer;
use crate::registry::Registry;

pub(crate) use tokens::{Tokens, user_of};

/// How long an accepted token is believed without looking again, and so how long a deleted
/// ServiceAccount's token may still work (kube-apiserver's figure).
pub(crate) const REMEMBER: Duration = Duration::from_secs(10);
/// Name of the user without credentials.
pub(crate) const ANONYMOUS: &str = "system:anonymous";

/// Finds out who asks.
pub(crate) struct Authenticator {
    tokens: Tokens,
}

impl Authenticator {
    pub(crate) fn new(config: &Arc<Config>, registry: &Registry) -> Self {
        Self { tokens: Tokens::new(config, registry.clone()) }
    }

    /// Who asks, after impersonation.
    ///
    /// # Errors
    /// 401 for credentials that prove nothing, 403 for impersonation without the right to it.
    pub(crate) async fn identify(&self, parts: &Parts, authorizer: &Authorizer) -> Result<UserInfo, Status> {
        let user = self.authenticate(parts).await?;
        impersonate::apply(user, &parts.headers, authorizer)
    }

    /// Checks a token for `audiences`; for TokenReview.
    pub(crate) fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    async fn authenticate(&self, parts: &Parts) -> Result<UserInfo, Status> {
        if let Some(user) = parts.extensions.get::<UserInfo>() {
            return Ok(user.clone());
        }
        if let Some(user) = parts.extensions.get::<Peer>().and_then(|peer| peer.certificate.as_ref()) {
            return Ok(UserInfo::clone(user));
        }
        match bearer(parts) {
            Some(token) => self.tokens.user(token).await.map_err(|why| {
                tracing::debug!(%why, "a bearer token was refused");
                Status::unauthorized()
            }),
            None => Ok(UserInfo::anonymous()),
        }
    }
}

/// The token of `Authorization: Bearer …`. Other schemes are no credentials here.
fn bearer(parts: &Parts) -> Option<&str> {
    let value = parts.headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.trim().split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    #[test]
    fn only_bearer_tokens_are_credentials() {
        let table: &[(&str, Option<&str>)] = &[
            ("Bearer abc", Some("abc")),
            ("bearer  abc ", Some("abc")),
            ("Basic YTpi", None),
            ("Bearer", None),
            ("Bearer ", None),
            ("", None),
        ];
        for (header, want) in table {
            let (parts, ()) =
                Request::builder().header(AUTHORIZATION, *header).body(()).unwrap().into_parts();
            assert_eq!(bearer(&parts), *want, "{header:?}");
        }
    }
}
