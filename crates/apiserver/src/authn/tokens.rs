//! ServiceAccount tokens as credentials: signature, audience, and whether what they are
//! bound to still exists.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use coracle_api::meta;
use coracle_api::user::UserInfo;
use coracle_pki::tokens::{BoundObject, Claims};
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::REMEMBER;
use crate::config::Config;
use crate::internal::{self, At};
use crate::registry::Registry;

/// Most accepted tokens that are remembered. Beyond it all are forgotten and looked at
/// again, which costs a signature check each.
const REMEMBERED_MAX: usize = 10_000;
/// How long after the deletion time of its pod a token still works, in seconds: containers
/// that are being stopped may finish their calls.
const DELETED_LEEWAY_S: i64 = 60;

/// Believes or refuses tokens.
pub(crate) struct Tokens {
    config: Arc<Config>,
    registry: Registry,
    remembered: Mutex<HashMap<[u8; 32], Remembered>>,
}

struct Remembered {
    user: Arc<UserInfo>,
    at: Instant,
}

impl Tokens {
    pub(super) fn new(config: &Arc<Config>, registry: Registry) -> Self {
        Self { config: config.clone(), registry, remembered: Mutex::default() }
    }

    /// The user of a token that is meant for this server.
    ///
    /// # Errors
    /// Why it is refused, for the log.
    pub(crate) async fn user(&self, token: &str) -> Result<UserInfo, String> {
        let digest: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        if let Some(known) = self.remembered.lock().get(&digest).filter(|known| known.at.elapsed() < REMEMBER)
        {
            return Ok(UserInfo::clone(&known.user));
        }
        let audience = self.config.token_signer.issuer().to_owned();
        let claims = self.verify(token, &[&audience]).await?;
        let user = user_of(&claims);
        let mut remembered = self.remembered.lock();
        if remembered.len() >= REMEMBERED_MAX {
            remembered.clear();
        }
        remembered.insert(digest, Remembered { user: Arc::new(user.clone()), at: Instant::now() });
        Ok(user)
    }

    /// The claims of a token that is meant for one of `audiences` and whose ServiceAccount
    /// and bound object exist.
    ///
    /// # Errors
    /// Why it is refused; safe to show.
    pub(crate) async fn verify(&self, token: &str, audiences: &[&str]) -> Result<Claims, String> {
        let now_s = Timestamp::now().as_second();
        let claims = self.config.token_verifier.verify(token, audiences, now_s).map_err(|e| e.to_string())?;
        let bound = &claims.kubernetes;
        self.check("serviceaccounts", &bound.namespace, &bound.serviceaccount, now_s).await?;
        if let Some(pod) = &bound.pod {
            self.check("pods", &bound.namespace, pod, now_s).await?;
        }
        if let Some(secret) = &bound.secret {
            self.check("secrets", &bound.namespace, secret, now_s).await?;
        }
        Ok(claims)
    }

    async fn check(
        &self,
        plural: &str,
        namespace: &str,
        bound: &BoundObject,
        now_s: i64,
    ) -> Result<(), String> {
        let at = At::core(plural).within(namespace).named(&bound.name);
        let object = internal::get(&self.registry, at).await.map_err(|status| status.message)?;
        still_valid(&object, bound, now_s)
            .map_err(|why| format!("{plural} {namespace}/{}: {why}", bound.name))
    }
}

fn still_valid(object: &Value, bound: &BoundObject, now_s: i64) -> Result<(), &'static str> {
    if meta::uid(object) != bound.uid {
        return Err("a newer object has the name");
    }
    let deleted_s =
        meta::deletion_timestamp(object).and_then(coracle_api::time::parse).map(|time| time.as_second());
    if deleted_s.is_some_and(|deleted_s| now_s > deleted_s.saturating_add(DELETED_LEEWAY_S)) {
        return Err("it is deleted");
    }
    Ok(())
}

/// The user that a token speaks for, with the extra facts that kube-apiserver adds.
pub(crate) fn user_of(claims: &Claims) -> UserInfo {
    let bound = &claims.kubernetes;
    let groups = ["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{}", bound.namespace)];
    let mut user = UserInfo::new(claims.sub.clone(), groups);
    user.uid.clone_from(&bound.serviceaccount.uid);
    let mut add = |key: &str, value: &str| {
        if !value.is_empty() {
            user.extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value.to_owned()]);
        }
    };
    if !claims.jti.is_empty() {
        add("credential-id", &format!("JTI={}", claims.jti));
    }
    for (key, object) in [("pod", &bound.pod), ("node", &bound.node)] {
        if let Some(object) = object {
            add(&format!("{key}-name"), &object.name);
            add(&format!("{key}-uid"), &object.uid);
        }
    }
    user
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_pki::tokens::KubernetesClaims;
    use serde_json::json;

    fn bound(uid: &str) -> BoundObject {
        BoundObject { name: "p".into(), uid: uid.into() }
    }

    #[test]
    fn a_token_dies_with_what_it_is_bound_to() {
        let live = json!({"metadata": {"name": "p", "uid": "u"}});
        let gone =
            json!({"metadata": {"name": "p", "uid": "u", "deletionTimestamp": "2024-01-01T00:00:00Z"}});
        let deleted_s = coracle_api::time::parse("2024-01-01T00:00:00Z").unwrap().as_second();
        assert!(still_valid(&live, &bound("u"), 0).is_ok());
        assert!(still_valid(&live, &bound("other"), 0).is_err());
        assert!(still_valid(&gone, &bound("u"), deleted_s + DELETED_LEEWAY_S).is_ok());
        assert!(still_valid(&gone, &bound("u"), deleted_s + DELETED_LEEWAY_S + 1).is_err());
    }

    #[test]
    fn claims_become_user_groups_and_extra() {
        let claims = Claims {
            iss: "i".into(),
            sub: "system:serviceaccount:ns:sa".into(),
            aud: vec![],
            exp: 0,
            iat: 0,
            nbf: 0,
            jti: "x".into(),
            kubernetes: KubernetesClaims {
                namespace: "ns".into(),
                serviceaccount: bound("u1"),
                pod: Some(bound("u2")),
                node: None,
                secret: None,
            },
        };
        let user = user_of(&claims);
        assert_eq!((user.name.as_str(), user.uid.as_str()), ("system:serviceaccount:ns:sa", "u1"));
        assert_eq!(
            user.groups,
            ["system:serviceaccounts", "system:serviceaccounts:ns", "system:authenticated"]
        );
        assert_eq!(user.extra["authentication.kubernetes.io/credential-id"], ["JTI=x"]);
        assert_eq!(user.extra["authentication.kubernetes.io/pod-uid"], ["u2"]);
    }
}
