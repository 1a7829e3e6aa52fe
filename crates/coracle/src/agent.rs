//! A worker: network fabric, runtime, kubelet and proxy of one node, in this process.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use coracle_client::Informers;
use coracle_network::{Egress, Fabric, TunnelConfig};
use coracle_pki::{CertRequest, Credential, Pki, Usage, tls};
use tokio_util::sync::CancellationToken;

use crate::samples;
use crate::tasks::Tasks;

/// How long a node may take to stop before its parts are dropped.
pub(crate) const STOP_LIMIT: Duration = Duration::from_secs(3);
/// DNS suffix of the cluster.
pub(crate) const CLUSTER_DOMAIN: &str = "cluster.local";

/// What a worker is told.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    /// Name of the Node.
    pub node_name: String,
    /// The node's address: node ports, node API and tunnels listen there.
    pub node_ip: IpAddr,
    /// The node's own directory; made where it is not there.
    pub dir: PathBuf,
    /// Drive this CRI socket instead of the built-in runtime.
    pub runtime_endpoint: Option<PathBuf>,
    /// How the node proves itself: client and server certificate of `system:node:<name>`.
    pub credential: Credential,
    /// The cluster's authority, PEM.
    pub ca_pem: String,
}

/// The clients that a worker acts through.
#[derive(Clone)]
pub struct AgentClients {
    /// As `system:node:<name>`.
    pub node: kube::Client,
    /// As `system:kube-proxy`.
    pub proxy: kube::Client,
    /// What the proxy watches; shared by the nodes of one process.
    pub proxy_informers: Informers,
}

/// A running worker.
#[derive(Debug)]
pub struct Agent {
    node_name: String,
    tasks: Tasks,
    runtime_tasks: Tasks,
    stop: CancellationToken,
    runtime_stop: CancellationToken,
}

impl Agent {
    /// Starts a worker; it registers its Node by itself.
    ///
    /// # Errors
    /// Names the part that did not start, and why.
    pub async fn start(
        config: AgentConfig,
        clients: AgentClients,
        images: coracle_images::Store,
    ) -> Result<Self> {
        crate::datadir::make_private(&config.dir)?;
        let (stop, runtime_stop) = (CancellationToken::new(), CancellationToken::new());
        let (mut tasks, mut runtime_tasks) = (Tasks::default(), Tasks::default());

        let (socket, tunnel_address) = match &config.runtime_endpoint {
            Some(endpoint) => (endpoint.clone(), None),
            None => start_runtime(&config, images, &mut runtime_tasks, &runtime_stop).await?,
        };
        let kubelet = kubelet_config(&config, &socket, tunnel_address)?;
        let kubelet = coracle_kubelet::Service::new(kubelet, clients.node)?;
        tasks.spawn("kubelet", kubelet.run(stop.clone()));
        let proxy = coracle_proxy::Config {
            node_name: config.node_name.clone(),
            network_endpoint: socket,
            cluster_domain: CLUSTER_DOMAIN.into(),
        };
        let proxy = coracle_proxy::Service::new(proxy, clients.proxy, clients.proxy_informers);
        tasks.spawn("proxy", proxy.run(stop.clone()));
        Ok(Self { node_name: config.node_name, tasks, runtime_tasks, stop, runtime_stop })
    }

    /// Name of the Node.
    #[must_use]
    pub fn node_name(&self) -> &str {
        &self.node_name
    }

    /// Waits until a part ends although nobody told it to.
    pub async fn failed(&mut self) -> anyhow::Error {
        let error = tokio::select! {
            error = self.tasks.first_end() => error,
            error = self.runtime_tasks.first_end() => error,
        };
        error.context(format!("node {}", self.node_name))
    }

    /// Stops kubelet and proxy, then the guests.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.finish(STOP_LIMIT).await;
        self.runtime_stop.cancel();
        self.runtime_tasks.finish(STOP_LIMIT).await;
    }
}

/// The certificate of a node: it proves the node to masters and serves its API and tunnels.
///
/// # Errors
/// When the name is no host name.
pub fn node_credential(pki: &Pki, node_name: &str, node_ip: IpAddr) -> Result<Credential> {
    let request = CertRequest {
        cn: format!("system:node:{node_name}"),
        org: Some("system:nodes".into()),
        sans: vec![node_name.to_owned(), node_ip.to_string()],
        usage: Usage::Both,
    };
    Ok(pki.issue(&request)?)
}

/// Opens the image store of this process: in `dir`, or in memory. The samples are part of it.
///
/// # Errors
/// When the directory cannot be used.
pub fn open_images(dir: Option<&std::path::Path>) -> Result<coracle_images::Store> {
    let store = coracle_images::Store::open(dir).context("the image store cannot be opened")?;
    for (name, wasm) in samples::SAMPLES {
        store.add_builtin(&samples::reference(name), wasm)?;
    }
    Ok(store)
}

async fn start_runtime(
    config: &AgentConfig,
    images: coracle_images::Store,
    tasks: &mut Tasks,
    stop: &CancellationToken,
) -> Result<(PathBuf, Option<String>)> {
    let tunnel = TunnelConfig {
        listen: SocketAddr::new(config.node_ip, 0),
        server: Arc::new(tls::mutual_server(&config.credential, &config.ca_pem)?),
        client: Arc::new(tls::client(Some(&config.credential), &config.ca_pem)?),
    };
    let fabric = Fabric::new(coracle_network::Config {
        tunnel: Some(tunnel),
        egress: Egress::Allow,
        ..coracle_network::Config::new(&config.node_name, config.node_ip)
    })
    .with_context(|| format!("the network of node {} cannot start", config.node_name))?;
    let tunnel_address = fabric.tunnel_address().map(|a| a.to_string());
    tasks.spawn("network", fabric.clone().run(stop.clone()));

    let socket = config.dir.join("runtime.sock");
    let runtime = coracle_runtime::Config { socket: socket.clone(), state_dir: config.dir.join("runtime") };
    let runtime = coracle_runtime::Service::new(runtime, images, fabric)?;
    tasks.spawn("runtime", runtime.run(stop.clone()));
    Ok((socket, tunnel_address))
}

fn kubelet_config(
    config: &AgentConfig,
    socket: &std::path::Path,
    tunnel_address: Option<String>,
) -> Result<coracle_kubelet::Config> {
    Ok(coracle_kubelet::Config {
        node_name: config.node_name.clone(),
        node_ip: config.node_ip,
        runtime_endpoint: socket.to_owned(),
        state_dir: config.dir.join("kubelet"),
        log_dir: config.dir.join("logs"),
        tunnel_address,
        tls: Arc::new(tls::server(&config.credential, Some(&config.ca_pem))?),
        cluster_domain: CLUSTER_DOMAIN.into(),
        ..coracle_kubelet::Config::default()
    })
}
