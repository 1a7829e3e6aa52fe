//! The kubeconfig file that clients of the cluster read (client-go's `v1.Config`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::Credential;

/// What a kubeconfig says.
#[derive(Debug, Clone)]
pub struct Kubeconfig<'a> {
    /// Where the API server answers, for example `https://127.0.0.1:6443`.
    pub server: &'a str,
    /// The cluster's authority, PEM.
    pub ca_pem: &'a str,
    /// Who the user is.
    pub credential: &'a Credential,
    /// Name of cluster and context.
    pub cluster: &'a str,
    /// Name of the user entry.
    pub user: &'a str,
}

/// Renders a kubeconfig as YAML with its certificates inline.
#[must_use]
pub fn kubeconfig(config: &Kubeconfig<'_>) -> String {
    let Kubeconfig { server, cluster, user, .. } = config;
    let ca = STANDARD.encode(config.ca_pem);
    let cert = STANDARD.encode(&config.credential.cert_pem);
    let key = STANDARD.encode(&config.credential.key_pem);
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: {cluster}\n\
         clusters:\n- name: {cluster}\n  cluster:\n    server: {server}\n    certificate-authority-data: {ca}\n\
         contexts:\n- name: {cluster}\n  context:\n    cluster: {cluster}\n    user: {user}\n\
         users:\n- name: {user}\n  user:\n    client-certificate-data: {cert}\n    client-key-data: {key}\n\
         preferences: {{}}\n"
    )
}
