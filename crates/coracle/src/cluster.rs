//! A whole cluster in this process: a master and any number of workers.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use coracle_api::user::UserInfo;
use coracle_client::Informers;
use futures::future::{join_all, select_all};
use k8s_openapi::api::core::v1::{Node, ServiceAccount};
use kube::Api;
use kube::runtime::wait::await_condition;
use tokio_util::sync::CancellationToken;

use crate::agent::{Agent, AgentClients, AgentConfig, node_credential, open_images};
use crate::datadir::DataDir;
use crate::progress::Progress;
use crate::server::{Server, ServerConfig, agent};

/// What a cluster is told.
#[derive(Debug, Clone)]
pub struct ClusterConfig {
    /// Where state lives; `None` for a temporary directory that goes away at the end.
    pub data_dir: Option<PathBuf>,
    /// Keep the store in memory, without fsync.
    pub ephemeral: bool,
    /// Address of the API server.
    pub bind: IpAddr,
    /// Its port; 0 chooses one.
    pub port: u16,
    /// Number of workers.
    pub agents: u16,
    /// Address of the first worker; the others take the following ones.
    pub node_ip: Ipv4Addr,
}

impl Default for ClusterConfig {
    fn default() -> Self {
        Self {
            data_dir: None,
            ephemeral: false,
            bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 6443,
            agents: 1,
            node_ip: Ipv4Addr::LOCALHOST,
        }
    }
}

/// A running cluster.
#[derive(Debug)]
pub struct Cluster {
    server: Server,
    agents: Vec<Agent>,
    informers_stop: CancellationToken,
    images: coracle_images::Store,
    node_ip: Ipv4Addr,
    // Last, so that the directory is unlocked (and a temporary one removed) after all else.
    dir: DataDir,
}

impl Cluster {
    /// Starts everything, and returns once every node is Ready (without nodes: once the API
    /// server answers and namespace `default` has its ServiceAccount).
    ///
    /// # Errors
    /// Names the part that did not start, and why. What had started is stopped.
    pub async fn start(config: ClusterConfig, progress: Progress) -> Result<Self> {
        let dir = match (&config.data_dir, config.ephemeral) {
            (Some(path), _) => DataDir::open(path)?,
            (None, true) => DataDir::temporary()?,
            (None, false) => bail!("a cluster that keeps its state needs a data directory"),
        };
        let server = ServerConfig {
            dir: dir.path().to_owned(),
            ephemeral: config.ephemeral,
            listen: SocketAddr::new(config.bind, config.port),
            controllers: true,
        };
        let images_dir = dir.path().join("images");
        let images = open_images((!config.ephemeral).then_some(images_dir.as_path()))?;
        let server = Server::start(server, progress).await?;
        let mut cluster = Self {
            server,
            agents: Vec::new(),
            informers_stop: CancellationToken::new(),
            images,
            node_ip: config.node_ip,
            dir,
        };
        match cluster.bring_up(config.agents, progress).await {
            Ok(()) => Ok(cluster),
            Err(error) => {
                cluster.stop().await;
                Err(error)
            }
        }
    }

    /// A client with all rights, in this process.
    #[must_use]
    pub fn admin_client(&self) -> kube::Client {
        self.server.admin_client()
    }

    /// The administrator's kubeconfig.
    #[must_use]
    pub fn kubeconfig_path(&self) -> &Path {
        self.server.kubeconfig_path()
    }

    /// The cluster's directory.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        self.dir.path()
    }

    /// Address of the `index`-th node, counted from 0.
    #[must_use]
    pub fn node_ip(&self, index: u32) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.node_ip).wrapping_add(index))
    }

    /// Imports a module or component under a name that every node can run.
    ///
    /// # Errors
    /// When the bytes are not wasm, the reference is malformed, or the disk refuses.
    pub fn load_image(&self, wasm: &[u8], reference: &str) -> Result<()> {
        self.images.load(wasm, reference)?;
        Ok(())
    }

    /// Waits until a component ends although nobody told it to.
    pub async fn failed(&mut self) -> anyhow::Error {
        let nodes: Vec<_> = self.agents.iter_mut().map(|a| Box::pin(a.failed())).collect();
        if nodes.is_empty() {
            return self.server.failed().await;
        }
        tokio::select! {
            error = self.server.failed() => error,
            (error, ..) = select_all(nodes) => error,
        }
    }

    /// Stops guests, nodes, controllers, API server and store, in this order.
    pub async fn stop(self) {
        join_all(self.agents.into_iter().map(Agent::stop)).await;
        self.informers_stop.cancel();
        self.server.stop().await;
        drop(self.dir);
    }

    async fn bring_up(&mut self, agents: u16, progress: Progress) -> Result<()> {
        if agents == 0 {
            let accounts: Api<ServiceAccount> = Api::default_namespaced(self.admin_client());
            let there = |a: Option<&ServiceAccount>| a.is_some();
            return self.unless_failed(await_condition(accounts, "default", there)).await;
        }
        let no_groups: [&str; 0] = [];
        let user = UserInfo::new("system:kube-proxy", no_groups);
        let proxy = self.server.client(user, &agent("proxy"));
        let proxy_informers = Informers::new(proxy.clone(), self.informers_stop.clone());
        for index in 0..u32::from(agents) {
            let started = self.start_agent(index, proxy.clone(), proxy_informers.clone()).await?;
            self.agents.push(started);
        }
        progress.done("nodes are started");
        let nodes: Api<Node> = Api::all(self.admin_client());
        let names: Vec<String> = self.agents.iter().map(|a| a.node_name().to_owned()).collect();
        for name in names {
            self.unless_failed(await_condition(nodes.clone(), &name, node_is_ready)).await?;
        }
        progress.done("nodes are Ready");
        Ok(())
    }

    async fn start_agent(
        &self,
        index: u32,
        proxy: kube::Client,
        proxy_informers: Informers,
    ) -> Result<Agent> {
        let node_name = format!("node-{}", index + 1);
        let node_ip = IpAddr::V4(self.node_ip(index));
        let node = UserInfo::new(format!("system:node:{node_name}"), ["system:nodes"]);
        let config = AgentConfig {
            node_ip,
            dir: self.dir.path().join(&node_name),
            runtime_endpoint: None,
            credential: node_credential(self.server.pki(), &node_name, node_ip)?,
            ca_pem: self.server.pki().ca_pem().to_owned(),
            node_name,
        };
        let clients =
            AgentClients { node: self.server.client(node, &agent("kubelet")), proxy, proxy_informers };
        Agent::start(config, clients, self.images.clone()).await
    }

    /// Waits for `condition`, but not for a cluster that fell over meanwhile.
    async fn unless_failed<T>(
        &mut self,
        condition: impl Future<Output = Result<T, kube::runtime::wait::Error>>,
    ) -> Result<()> {
        tokio::select! {
            done = condition => done.map(drop).context("waiting for the cluster to be ready"),
            error = self.failed() => Err(error),
        }
    }
}

fn node_is_ready(node: Option<&Node>) -> bool {
    let conditions = node.and_then(|n| n.status.as_ref()?.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True")
}
