//! Namespaces, priority classes, and what extension servers need to know.

use serde_json::json;

use super::Wanted;
use crate::config::Config;

/// The namespaces that every cluster has.
pub(super) fn namespaces() -> Vec<Wanted> {
    ["default", "kube-system", "kube-public", "kube-node-lease"]
        .into_iter()
        .map(|name| {
            let value = json!({
                "apiVersion": "v1",
                "kind": "Namespace",
                "metadata": { "name": name, "labels": { "kubernetes.io/metadata.name": name } },
            });
            Wanted::once("", "namespaces", value)
        })
        .collect()
}

/// The two classes above all that users may define.
pub(super) fn priority_classes() -> Vec<Wanted> {
    let classes = [
        ("system-cluster-critical", 2_000_000_000, "For pods that the cluster cannot do without."),
        ("system-node-critical", 2_000_001_000, "For pods that their node cannot do without."),
    ];
    classes
        .into_iter()
        .map(|(name, value, description)| {
            let value = json!({
                "apiVersion": "scheduling.k8s.io/v1",
                "kind": "PriorityClass",
                "metadata": { "name": name },
                "value": value,
                "globalDefault": false,
                "description": description,
                "preemptionPolicy": "PreemptLowerPriority",
            });
            Wanted::once("scheduling.k8s.io", "priorityclasses", value)
        })
        .collect()
}

/// The authority of client certificates, where extension servers look for it.
pub(super) fn extension_authentication(config: &Config) -> Vec<Wanted> {
    let value = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": { "name": "extension-apiserver-authentication", "namespace": "kube-system" },
        "data": { "client-ca-file": config.ca_pem },
    });
    let renew = |stored: &serde_json::Value, wanted: &serde_json::Value| {
        let mut renewed = stored.clone();
        (stored["data"]["client-ca-file"] != wanted["data"]["client-ca-file"]).then(|| {
            renewed["data"]["client-ca-file"] = wanted["data"]["client-ca-file"].clone();
            renewed
        })
    };
    vec![Wanted { renew, ..Wanted::once("", "configmaps", value) }]
}
