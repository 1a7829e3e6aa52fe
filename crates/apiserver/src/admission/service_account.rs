//! ServiceAccount: every pod runs as a service account of its namespace that exists, and
//! finds the account's token where client libraries look for it.

use std::time::Duration;

use async_trait::async_trait;
use coracle_api::meta;
use coracle_api::meta::text;
use coracle_api::status::Status;
use serde_json::{Value, json};

use crate::admission::{Attributes, Operation, Plugin, items, member};
use crate::registry::Registry;

/// The account of pods that name none.
const DEFAULT: &str = "default";
/// Where containers find the token.
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// What the token's volume is called, before five random characters.
const VOLUME_PREFIX: &str = "kube-api-access-";
/// Life of the token in seconds: an hour, and a little so that it can be told from others.
const TOKEN_S: i64 = 3_607;
/// How often the default account of a new namespace is looked for: a controller makes it.
const DEFAULT_ATTEMPTS_MAX: u32 = 10;
/// The pause in between, in milliseconds.
const DEFAULT_PAUSE_MS: u64 = 100;

/// The plugin.
pub(super) struct ServiceAccount;

#[async_trait]
impl Plugin for ServiceAccount {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.is(Operation::Create, "", "pods")
    }

    async fn admit(
        &self,
        attributes: &Attributes<'_>,
        object: &mut Value,
        registry: &Registry,
    ) -> Result<(), Status> {
        // A mirror pod shows what a kubelet runs already; it gets no account.
        if meta::annotation(object, "kubernetes.io/config.mirror").is_some() {
            return Ok(());
        }
        let Some(spec) = object.get_mut("spec").filter(|spec| spec.is_object()) else { return Ok(()) };
        let named = [text(spec, "serviceAccountName"), text(spec, "serviceAccount"), DEFAULT];
        let name = named.into_iter().find(|name| !name.is_empty()).unwrap_or(DEFAULT).to_owned();
        spec["serviceAccountName"] = json!(name);
        spec["serviceAccount"] = json!(name);
        let account = find(attributes.namespace, &name, registry).await?.ok_or_else(|| {
            attributes.forbidden(format!(
                "error looking up service account {}/{name}: serviceaccount {name:?} not found",
                attributes.namespace
            ))
        })?;
        let mounts = |of: &Value| of.get("automountServiceAccountToken").and_then(Value::as_bool);
        if mounts(spec).or_else(|| mounts(&account)).unwrap_or(true) {
            mount_token(spec);
        }
        let secrets = items(&account, "imagePullSecrets");
        if items(spec, "imagePullSecrets").is_empty() && !secrets.is_empty() {
            spec["imagePullSecrets"] = json!(secrets);
        }
        Ok(())
    }
}

async fn find(namespace: &str, name: &str, registry: &Registry) -> Result<Option<Value>, Status> {
    let attempts = if name == DEFAULT { DEFAULT_ATTEMPTS_MAX } else { 1 };
    for attempt in 0..attempts {
        if attempt > 0 {
            tokio::time::sleep(Duration::from_millis(DEFAULT_PAUSE_MS)).await;
        }
        if let Some(account) = registry.lookup("", "serviceaccounts", namespace, name).await? {
            return Ok(account.value());
        }
    }
    Ok(None)
}

/// Adds the token's volume and a mount to every container that has nothing at its path.
fn mount_token(spec: &mut Value) {
    let known = items(spec, "volumes")
        .iter()
        .map(|volume| text(volume, "name"))
        .find(|name| name.starts_with(VOLUME_PREFIX))
        .map(str::to_owned);
    let volume =
        known.clone().unwrap_or_else(|| format!("{VOLUME_PREFIX}{}", crate::registry::random_suffix()));
    let mut used = false;
    for list in ["initContainers", "containers"] {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            if items(container, "volumeMounts").iter().any(|mount| text(mount, "mountPath") == MOUNT_PATH) {
                continue;
            }
            if let Some(mounts) = member(container, "volumeMounts", json!([])).and_then(Value::as_array_mut) {
                mounts.push(json!({"name": volume, "readOnly": true, "mountPath": MOUNT_PATH}));
                used = true;
            }
        }
    }
    if used
        && known.is_none()
        && let Some(volumes) = member(spec, "volumes", json!([])).and_then(Value::as_array_mut)
    {
        volumes.push(token_volume(&volume));
    }
}

fn token_volume(name: &str) -> Value {
    json!({"name": name, "projected": {"defaultMode": 0o644, "sources": [
        {"serviceAccountToken": {"expirationSeconds": TOKEN_S, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [
            {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
    ]}})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_without_a_mount_of_their_own_get_the_token() {
        let mut spec = json!({"containers": [{"name": "one"},
            {"name": "two", "volumeMounts": [{"name": "own", "mountPath": MOUNT_PATH}]}],
            "initContainers": [{"name": "prep"}], "volumes": [{"name": "own"}]});
        mount_token(&mut spec);
        let volume = text(&spec["volumes"][1], "name").to_owned();
        assert!(volume.starts_with(VOLUME_PREFIX) && volume.len() == VOLUME_PREFIX.len() + 5);
        assert_eq!(spec["containers"][0]["volumeMounts"][0]["name"], json!(volume));
        assert_eq!(items(&spec["containers"][1], "volumeMounts").len(), 1);
        assert_eq!(items(&spec["initContainers"][0], "volumeMounts").len(), 1);
        assert_eq!(spec["volumes"][1]["projected"]["defaultMode"], 420);
    }

    #[test]
    fn a_pod_with_mounts_of_its_own_gets_no_volume() {
        let mut spec = json!({"containers": [{"volumeMounts": [{"name": "own", "mountPath": MOUNT_PATH}]}]});
        mount_token(&mut spec);
        assert!(spec.get("volumes").is_none());
    }
}
