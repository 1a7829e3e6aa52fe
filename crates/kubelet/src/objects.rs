//! The ConfigMaps, Secrets and tokens that pods are made from, fetched when needed.
//!
//! A fetched object serves every pod that this kubelet first saw before the fetch: so a pod
//! never gets a ConfigMap older than itself, and many pods starting together share one
//! request. Tokens belong to one pod and are kept until most of their life is over.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use coracle_plan::kubelet::sources::{SourceRef, Sources, TokenRef};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{ConfigMap, Secret, ServiceAccount};
use kube::api::PostParams;
use kube::{Api, Client};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::convert::PodId;

/// Limit of one request.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);
/// The cluster's root certificates are the same in every namespace and hardly ever change:
/// they may be this old.
const ROOT_CA_AGE_MAX: Duration = Duration::from_secs(60);
const ROOT_CA_NAME: &str = "kube-root-ca.crt";
/// Cached objects; beyond, the oldest go.
const CACHED_MAX: usize = 1024;

/// Why an object could not be had, as the user will read it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("failed to get {what}: {message}")]
    Api { what: String, message: String },
    #[error("failed to get {what}: no answer from the API server within {} s", REQUEST_LIMIT.as_secs())]
    Timeout { what: String },
}

/// The one place that fetches objects for pods.
pub(crate) struct Objects {
    client: Client,
    config_maps: Cache<ConfigMap>,
    secrets: Cache<Secret>,
    tokens: Mutex<HashMap<(String, TokenRef), Token>>,
}

struct Token {
    text: String,
    renew_at: Timestamp,
}

impl Objects {
    pub(crate) fn new(client: Client) -> Self {
        Self { client, config_maps: Cache::new(), secrets: Cache::new(), tokens: Mutex::new(HashMap::new()) }
    }

    /// Fetches `objects` of the pod's namespace, none older than `since`.
    pub(crate) async fn fetch(
        &self,
        pod: &PodId,
        objects: &BTreeSet<SourceRef>,
        since: Instant,
    ) -> Result<Sources, FetchError> {
        let mut sources = Sources::default();
        for object in objects {
            match object {
                SourceRef::ConfigMap(name) => {
                    let since = match name.as_str() {
                        ROOT_CA_NAME => {
                            Instant::now().checked_sub(ROOT_CA_AGE_MAX).unwrap_or(since).min(since)
                        }
                        _ => since,
                    };
                    let found = self.config_map(pod, name, since).await?;
                    sources.config_maps.insert(name.clone(), found);
                }
                SourceRef::Secret(name) => {
                    let found = self.secret(pod, name, since).await?;
                    sources.secrets.insert(name.clone(), found);
                }
            }
        }
        Ok(sources)
    }

    async fn config_map(
        &self,
        pod: &PodId,
        name: &str,
        since: Instant,
    ) -> Result<Option<Arc<ConfigMap>>, FetchError> {
        let key = (pod.namespace.clone(), name.to_owned());
        if let Some(known) = self.config_maps.get(&key, since) {
            return Ok(known);
        }
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), &pod.namespace);
        let asked = Instant::now();
        let found = limited(format!("configmap \"{name}\""), api.get_opt(name)).await?;
        Ok(self.config_maps.put(key, found, asked))
    }

    async fn secret(
        &self,
        pod: &PodId,
        name: &str,
        since: Instant,
    ) -> Result<Option<Arc<Secret>>, FetchError> {
        let key = (pod.namespace.clone(), name.to_owned());
        if let Some(known) = self.secrets.get(&key, since) {
            return Ok(known);
        }
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &pod.namespace);
        let asked = Instant::now();
        let found = limited(format!("secret \"{name}\""), api.get_opt(name)).await?;
        Ok(self.secrets.put(key, found, asked))
    }

    /// A token of the pod's ServiceAccount, bound to the pod.
    pub(crate) async fn token(
        &self,
        pod: &PodId,
        service_account: &str,
        wanted: &TokenRef,
    ) -> Result<String, FetchError> {
        let key = (pod.uid.clone(), wanted.clone());
        let now = Timestamp::now();
        if let Some(token) = self.tokens.lock().get(&key).filter(|t| now < t.renew_at) {
            return Ok(token.text.clone());
        }
        let request = token_request(pod, wanted);
        let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), &pod.namespace);
        let what = format!("token of service account \"{service_account}\"");
        let params = PostParams::default();
        let answer = api.create_token_request(service_account, &params, &request);
        let status = limited(what.clone(), answer).await?.status.unwrap_or_default();
        let Some(text) = status.token else {
            return Err(FetchError::Api { what, message: "the answer holds no token".to_owned() });
        };
        let expires = status.expiration_timestamp.map_or(now, |t| t.0);
        let renew_at = renewal(now, expires);
        self.tokens.lock().insert(key, Token { text: text.clone(), renew_at });
        Ok(text)
    }

    /// Forgets a pod's tokens.
    pub(crate) fn forget(&self, uid: &str) {
        self.tokens.lock().retain(|(owner, _), _| owner != uid);
    }
}

fn token_request(pod: &PodId, wanted: &TokenRef) -> TokenRequest {
    let audiences = (!wanted.audience.is_empty()).then(|| vec![wanted.audience.clone()]);
    TokenRequest {
        spec: Some(TokenRequestSpec {
            audiences: Some(audiences.unwrap_or_default()),
            expiration_seconds: Some(wanted.expiration_s),
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Pod".to_owned()),
                name: Some(pod.name.clone()),
                uid: Some(pod.uid.clone()),
            }),
        }),
        ..TokenRequest::default()
    }
}

/// When four fifths of a token's life are over.
fn renewal(now: Timestamp, expires: Timestamp) -> Timestamp {
    let life_s = expires.as_second().saturating_sub(now.as_second()).max(0);
    now.checked_add(SignedDuration::from_secs(life_s / 5 * 4)).unwrap_or(now)
}

async fn limited<T>(
    what: String,
    answer: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, FetchError> {
    match tokio::time::timeout(REQUEST_LIMIT, answer).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(FetchError::Api { what, message: api_message(&error) }),
        Err(_) => Err(FetchError::Timeout { what }),
    }
}

/// What an API error says, without the client's wrapping.
pub(crate) fn api_message(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

type Key = (String, String);

/// When an object was asked for, and what was found.
type Entry<K> = (Instant, Option<Arc<K>>);

/// Objects by namespace and name, each with the time that it was asked for.
struct Cache<K> {
    entries: Mutex<HashMap<Key, Entry<K>>>,
}

impl<K> Cache<K> {
    fn new() -> Self {
        Self { entries: Mutex::new(HashMap::new()) }
    }

    fn get(&self, key: &Key, since: Instant) -> Option<Option<Arc<K>>> {
        let entries = self.entries.lock();
        let (asked, found) = entries.get(key)?;
        (*asked >= since).then(|| found.clone())
    }

    fn put(&self, key: Key, found: Option<K>, asked: Instant) -> Option<Arc<K>> {
        let found = found.map(Arc::new);
        let mut entries = self.entries.lock();
        if entries.len() >= CACHED_MAX {
            drop_oldest(&mut entries);
        }
        entries.insert(key, (asked, found.clone()));
        found
    }
}

/// Halves a cache that is full.
fn drop_oldest<Q: Eq + Hash, V>(entries: &mut HashMap<Q, (Instant, V)>) {
    let mut ages: Vec<Instant> = entries.values().map(|(asked, _)| *asked).collect();
    ages.sort_unstable();
    if let Some(middle) = ages.get(ages.len() / 2).copied() {
        entries.retain(|_, (asked, _)| *asked > middle);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_never_serves_what_was_asked_for_before_the_pod_came() {
        let cache: Cache<u32> = Cache::new();
        let key = ("ns".to_owned(), "cm".to_owned());
        let before = Instant::now();
        cache.put(key.clone(), Some(7), before);
        assert_eq!(cache.get(&key, before), Some(Some(Arc::new(7))));
        assert_eq!(cache.get(&key, before + Duration::from_millis(1)), None);
    }

    #[test]
    fn tokens_are_renewed_before_they_expire() {
        let at = |s| Timestamp::from_second(s).unwrap();
        assert_eq!(renewal(at(0), at(3600)), at(2880));
        assert_eq!(renewal(at(10), at(5)), at(10));
    }
}
