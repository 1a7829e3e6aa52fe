//! What the API server is told at start, and the limits it keeps.

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use coracle_pki::tokens::{Signer, Verifier};
use ipnet::Ipv4Net;

/// Settings of one API server.
#[derive(Clone)]
pub struct Config {
    /// Where to accept TLS connections. Port 0 lets the system choose; see
    /// [`crate::Handle::local_addr`].
    pub listen: SocketAddr,
    /// TLS settings: server certificate, and verification of optional client certificates
    /// against the cluster's authority (`coracle_pki::tls::server`).
    pub tls: Arc<rustls::ServerConfig>,
    /// The authority of client certificates, PEM. Published to pods and extension servers.
    pub ca_pem: String,
    /// Signs the tokens of `serviceaccounts/token`; its issuer is also the default audience.
    pub token_signer: Signer,
    /// Believes those tokens.
    pub token_verifier: Verifier,
    /// How this server proves itself to kubelets and which kubelets it believes.
    pub kubelet_tls: Arc<rustls::ClientConfig>,
    /// Address of the masters in the cluster's network; what `default/kubernetes` points to.
    pub master_fabric_ip: Ipv4Addr,
    /// Where the fabric reaches this server on its host; `None` is the address listened on.
    pub host_address: Option<SocketAddr>,
    /// Where cluster IPs come from; `default/kubernetes` takes the first.
    pub service_cidr: Ipv4Net,
    /// Where node ports come from.
    pub node_ports: RangeInclusive<u16>,
    /// Limits on what clients may ask at a time.
    pub limits: Limits,
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config")
            .field("listen", &self.listen)
            .field("service_cidr", &self.service_cidr)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// Limits on what clients may ask at a time. What happens beyond each is said with it.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Open connections. Beyond it no connection is accepted until one closes; clients wait
    /// in the system's accept queue.
    pub connections: usize,
    /// Requests of one HTTP/2 connection under way at a time. Beyond it the client waits.
    pub streams_per_connection: u32,
    /// Reads under way at a time (kube-apiserver's `--max-requests-inflight`). Beyond it: 429.
    pub reads_in_flight: usize,
    /// Writes under way at a time (`--max-mutating-requests-inflight`). Beyond it: 429.
    pub writes_in_flight: usize,
    /// How long a request that neither watches nor streams may take. Beyond it: 504.
    pub request_timeout: Duration,
    /// How long a client may take for the TLS handshake, and then for the head of a
    /// request. Beyond it the connection is closed.
    pub handshake_timeout: Duration,
    /// How long open connections may take to finish once the server stops. Beyond it they
    /// are cut.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            streams_per_connection: 250,
            reads_in_flight: 400,
            writes_in_flight: 200,
            request_timeout: Duration::from_secs(60),
            handshake_timeout: Duration::from_secs(10),
            drain: Duration::from_millis(1500),
        }
    }
}

/// The version that is reported, as `gitVersion`.
pub const VERSION: &str = "v1.36.0+coracle";
/// Default time to live of a ServiceAccount token, in seconds.
pub const TOKEN_TTL_S: i64 = 3600;
/// Issuer of ServiceAccount tokens and default audience of the API server.
pub const TOKEN_ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
