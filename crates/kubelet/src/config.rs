//! What a kubelet is told.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::ResolvesServerCertUsingSni;

/// The most pods that a node takes unless told otherwise.
const PODS_MAX_DEFAULT: u32 = 5000;

/// The settings of one kubelet.
#[derive(Clone)]
pub struct Config {
    /// Name of the Node.
    pub node_name: String,
    /// The node's address: its InternalIP, and where the node API listens.
    pub node_ip: IpAddr,
    /// Port of the node API; 0 to have one chosen.
    pub node_api_port: u16,
    /// TLS of the node API. Client certificates must be verified against the cluster's
    /// authority but may be absent.
    pub tls: Arc<ServerConfig>,
    /// The CRI socket, with or without `unix://`.
    pub runtime_endpoint: PathBuf,
    /// Where volumes live. Made private to this user.
    pub state_dir: PathBuf,
    /// Where the runtime writes container logs, as `<ns>_<pod>_<uid>/<container>/<n>.log`.
    pub log_dir: PathBuf,
    /// Where the node's network accepts tunnels, for the Node's annotation.
    pub tunnel_address: Option<String>,
    /// DNS suffix of the cluster.
    pub cluster_domain: String,
    /// Name servers for pods with `dnsPolicy: ClusterFirst`.
    pub cluster_dns: Vec<IpAddr>,
    /// The most pods that the node takes.
    pub pods_max: u32,
    /// Whether pods may mount directories of the host.
    pub allow_host_path: bool,
    /// More labels for the Node.
    pub labels: BTreeMap<String, String>,
}

impl Default for Config {
    /// A node called `localhost`, whose node API has no certificate yet and therefore
    /// refuses every handshake.
    fn default() -> Self {
        Self {
            node_name: "localhost".to_owned(),
            node_ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
            node_api_port: 0,
            tls: Arc::new(without_certificate()),
            runtime_endpoint: PathBuf::from("runtime.sock"),
            state_dir: PathBuf::from("kubelet"),
            log_dir: PathBuf::from("logs"),
            tunnel_address: None,
            cluster_domain: "cluster.local".to_owned(),
            cluster_dns: Vec::new(),
            pods_max: PODS_MAX_DEFAULT,
            allow_host_path: false,
            labels: BTreeMap::new(),
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("node_name", &self.node_name)
            .field("node_ip", &self.node_ip)
            .field("runtime_endpoint", &self.runtime_endpoint)
            .field("state_dir", &self.state_dir)
            .field("pods_max", &self.pods_max)
            .finish_non_exhaustive()
    }
}

fn without_certificate() -> ServerConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring's suites serve the default protocol versions")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(ResolvesServerCertUsingSni::new()))
}
