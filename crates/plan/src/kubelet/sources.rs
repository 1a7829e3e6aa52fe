//! The objects that a pod's environment and volumes are made from: which are needed, and
//! what was found.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Container, PodSpec, Secret, Volume};

/// A reference to an object in the pod's namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SourceRef {
    /// A ConfigMap.
    ConfigMap(String),
    /// A Secret.
    Secret(String),
}

/// A ServiceAccount token that a volume asks for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenRef {
    /// Its audience; empty for the API server's own.
    pub audience: String,
    /// How long it shall be good for, in seconds.
    pub expiration_s: i64,
}

/// How long a token is good for when the pod does not say, in seconds.
pub const TOKEN_EXPIRATION_DEFAULT_S: i64 = 3600;

/// What was found. An object that is `None` does not exist.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// ConfigMaps by name.
    pub config_maps: BTreeMap<String, Option<Arc<ConfigMap>>>,
    /// Secrets by name.
    pub secrets: BTreeMap<String, Option<Arc<Secret>>>,
    /// Tokens.
    pub tokens: BTreeMap<TokenRef, String>,
}

impl Sources {
    /// The ConfigMap, if it exists.
    pub fn config_map(&self, name: &str) -> Option<&ConfigMap> {
        self.config_maps.get(name)?.as_deref()
    }

    /// The Secret, if it exists.
    pub fn secret(&self, name: &str) -> Option<&Secret> {
        self.secrets.get(name)?.as_deref()
    }
}

/// What the environment of `container` refers to.
pub fn of_environment(container: &Container) -> BTreeSet<SourceRef> {
    let mut out = BTreeSet::new();
    for from in container.env_from.iter().flatten() {
        if let Some(map) = &from.config_map_ref {
            out.insert(SourceRef::ConfigMap(map.name.clone()));
        }
        if let Some(secret) = &from.secret_ref {
            out.insert(SourceRef::Secret(secret.name.clone()));
        }
    }
    for from in container.env.iter().flatten().filter_map(|var| var.value_from.as_ref()) {
        if let Some(key) = &from.config_map_key_ref {
            out.insert(SourceRef::ConfigMap(key.name.clone()));
        }
        if let Some(key) = &from.secret_key_ref {
            out.insert(SourceRef::Secret(key.name.clone()));
        }
    }
    out
}

/// What the pod's volumes refer to.
pub fn of_volumes(spec: &PodSpec) -> (BTreeSet<SourceRef>, BTreeSet<TokenRef>) {
    let (mut objects, mut tokens) = (BTreeSet::new(), BTreeSet::new());
    for volume in spec.volumes.iter().flatten() {
        of_volume(volume, &mut objects, &mut tokens);
    }
    (objects, tokens)
}

fn of_volume(volume: &Volume, objects: &mut BTreeSet<SourceRef>, tokens: &mut BTreeSet<TokenRef>) {
    if let Some(map) = &volume.config_map {
        objects.insert(SourceRef::ConfigMap(map.name.clone()));
    }
    if let Some(name) = volume.secret.as_ref().and_then(|s| s.secret_name.as_ref()) {
        objects.insert(SourceRef::Secret(name.clone()));
    }
    let projections = volume.projected.iter().flat_map(|p| p.sources.iter().flatten());
    for projection in projections {
        if let Some(map) = &projection.config_map {
            objects.insert(SourceRef::ConfigMap(map.name.clone()));
        }
        if let Some(secret) = &projection.secret {
            objects.insert(SourceRef::Secret(secret.name.clone()));
        }
        if let Some(token) = &projection.service_account_token {
            tokens.insert(TokenRef {
                audience: token.audience.clone().unwrap_or_default(),
                expiration_s: token.expiration_seconds.unwrap_or(TOKEN_EXPIRATION_DEFAULT_S),
            });
        }
    }
}
