//! A master: store, API server, controllers and scheduler in this process.
//!
//! Order of start: keys, store, API server, then what needs it. Order of stop is the reverse,
//! so that nothing writes to what is gone; the store is flushed last.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use coracle_api::user::UserInfo;
use coracle_apiserver::config::TOKEN_ISSUER;
use coracle_client::Informers;
use coracle_client::leader::{Durations, Elector};
use coracle_pki::{CertRequest, Credential, Kubeconfig, Pki, Usage, kubeconfig, tls};
use coracle_store::{Embedded, EmbeddedConfig};
use ipnet::Ipv4Net;
use tokio_util::sync::CancellationToken;

use crate::datadir::write_private;
use crate::progress::Progress;
use crate::tasks::Tasks;

/// Where cluster IPs come from.
const SERVICE_CIDR: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(10, 0, 0, 0), 16);
/// Where pod addresses come from.
const CLUSTER_CIDR: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(10, 128, 0, 0), 9);
/// Size of a node's share of it: 16,382 addresses.
const NODE_MASK: u8 = 18;
/// The masters' address in the cluster's network.
const MASTER_FABRIC_IP: Ipv4Addr = Ipv4Addr::new(10, 127, 255, 1);
/// How long components may take to stop before they are dropped.
const STOP_LIMIT: Duration = Duration::from_secs(2);
/// Components are known by name, not by group.
const NO_GROUPS: [&str; 0] = [];

/// What a master is told.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// The data directory, locked by the caller.
    pub dir: PathBuf,
    /// Keep the store in memory and the keys off the disk.
    pub ephemeral: bool,
    /// Where the API server listens; port 0 chooses one.
    pub listen: SocketAddr,
    /// Whether controllers and scheduler run too.
    pub controllers: bool,
}

/// A running master.
pub struct Server {
    api: coracle_apiserver::Handle,
    pki: Arc<Pki>,
    store: Arc<Embedded>,
    url: String,
    kubeconfig: PathBuf,
    api_tasks: Tasks,
    api_stop: CancellationToken,
    tasks: Tasks,
    stop: CancellationToken,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Server {
    /// Starts a master and returns when its API server answers.
    ///
    /// # Errors
    /// Names the part that did not start, and why.
    pub async fn start(config: ServerConfig, progress: Progress) -> Result<Self> {
        let dir = config.dir.clone();
        let persistent = (!config.ephemeral).then_some(dir.as_path());
        let pki = Arc::new(Pki::load_or_create(persistent.map(|d| d.join("pki")).as_deref())?);
        let store = open_store(persistent).await?;
        progress.done("store is open");

        let service = coracle_apiserver::Service::new(api_config(&config, &pki)?, store.clone())?;
        let api = service.handle();
        let url = format!("https://{}", reachable(api.local_addr()));
        let kubeconfig = dir.join("kubeconfig");
        write_kubeconfig(&pki, &url, &kubeconfig)?;

        let (api_stop, mut api_tasks) = (CancellationToken::new(), Tasks::default());
        api_tasks.spawn("API server", service.run(api_stop.clone()));
        tokio::select! {
            () = api.ready() => {}
            error = api_tasks.first_end() => {
                store.shutdown().await;
                return Err(error);
            }
        }
        progress.done("API server answers");

        let (stop, tasks) = (CancellationToken::new(), Tasks::default());
        let mut server = Self { api, pki, store, url, kubeconfig, api_tasks, api_stop, tasks, stop };
        if config.controllers {
            server.start_controllers(&dir)?;
        }
        Ok(server)
    }

    /// A client in this process that acts as `user`.
    #[must_use]
    pub fn client(&self, user: UserInfo, user_agent: &str) -> kube::Client {
        coracle_client::in_process(self.api.router(), user, user_agent)
    }

    /// A client with all rights.
    #[must_use]
    pub fn admin_client(&self) -> kube::Client {
        self.client(UserInfo::new("kubernetes-admin", [UserInfo::MASTERS]), &agent("up"))
    }

    /// The cluster's authority.
    #[must_use]
    pub fn pki(&self) -> &Arc<Pki> {
        &self.pki
    }

    /// Where the API server answers.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The administrator's kubeconfig.
    #[must_use]
    pub fn kubeconfig_path(&self) -> &Path {
        &self.kubeconfig
    }

    /// Waits until a component ends although nobody told it to.
    pub async fn failed(&mut self) -> anyhow::Error {
        tokio::select! {
            error = self.api_tasks.first_end() => error,
            error = self.tasks.first_end() => error,
        }
    }

    /// Stops everything and flushes the store.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.finish(STOP_LIMIT).await;
        self.api_stop.cancel();
        self.api_tasks.finish(STOP_LIMIT).await;
        self.store.shutdown().await;
    }

    fn start_controllers(&mut self, dir: &Path) -> Result<()> {
        // The same identity after a restart, so that a killed process takes its lease back at
        // once; the data directory's lock makes sure that there is only one.
        let identity = identity_of(dir);
        let manager = UserInfo::new("system:kube-controller-manager", NO_GROUPS);
        let informers = Informers::new(self.client(manager.clone(), &agent("informers")), self.stop.clone());
        let controllers = self.client(manager, &agent("controller-manager"));
        let config = controllers_config(self.pki.ca_pem());
        let service = coracle_controllers::Service::new(config, controllers.clone(), informers.clone());
        self.elect("kube-controller-manager", controllers, &identity, move |stop| service.run(stop))?;

        let scheduler = self.client(UserInfo::new("system:kube-scheduler", NO_GROUPS), &agent("scheduler"));
        let service = coracle_scheduler::Service::new(
            coracle_scheduler::Config::default(),
            scheduler.clone(),
            informers,
        );
        self.elect("kube-scheduler", scheduler, &identity, move |stop| service.run(stop))
    }

    /// Runs `work` as long as this process holds the Lease `name`.
    fn elect<F, Fut, E>(
        &mut self,
        name: &'static str,
        client: kube::Client,
        identity: &str,
        work: F,
    ) -> Result<()>
    where
        F: FnOnce(CancellationToken) -> Fut + Send + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<anyhow::Error> + Send + 'static,
    {
        let elector = Elector::new(client, "kube-system", name, identity, Durations::default());
        self.tasks.spawn(name, lead(elector, self.stop.clone(), work));
        Ok(())
    }
}

/// Runs `work` while `elector` leads; its error is the outcome.
///
/// # Errors
/// That of the work, or of an election that was lost.
pub async fn lead<F, Fut, E>(elector: Elector, stop: CancellationToken, work: F) -> Result<()>
where
    F: FnOnce(CancellationToken) -> Fut,
    Fut: Future<Output = Result<(), E>>,
    E: Into<anyhow::Error>,
{
    let mut outcome = Ok(());
    elector
        .run(stop, |stop| async {
            outcome = work(stop).await.map_err(Into::into);
        })
        .await?;
    outcome
}

/// What the controllers of a Coracle cluster are told.
#[must_use]
pub fn controllers_config(root_ca_pem: &str) -> coracle_controllers::Config {
    coracle_controllers::Config {
        cluster_cidr: CLUSTER_CIDR,
        node_mask: NODE_MASK,
        root_ca_pem: root_ca_pem.to_owned(),
    }
}

/// The user agent of a component; what stands before the slash is its field manager.
#[must_use]
pub fn agent(component: &str) -> String {
    format!("coracle-{component}/{}", crate::VERSION)
}

async fn open_store(dir: Option<&Path>) -> Result<Arc<Embedded>> {
    let config = EmbeddedConfig { dir: dir.map(|d| d.join("store")), ..EmbeddedConfig::default() };
    Embedded::open(config).await.context("the store cannot be opened")
}

fn api_config(config: &ServerConfig, pki: &Pki) -> Result<coracle_apiserver::Config> {
    let mut sans: Vec<String> = [
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "127.0.0.1",
        "10.0.0.1",
    ]
    .map(str::to_owned)
    .to_vec();
    sans.push(MASTER_FABRIC_IP.to_string());
    sans.push(config.listen.ip().to_string());
    let request = CertRequest { cn: "kube-apiserver".into(), org: None, sans, usage: Usage::Server };
    let kubelet_client =
        pki.issue(&CertRequest::client("system:apiserver-kubelet-client", Some("system:masters")))?;
    Ok(coracle_apiserver::Config {
        listen: config.listen,
        tls: Arc::new(tls::server(&pki.issue(&request)?, Some(pki.ca_pem()))?),
        ca_pem: pki.ca_pem().to_owned(),
        token_signer: pki.token_signer(TOKEN_ISSUER)?,
        token_verifier: pki.token_verifier(TOKEN_ISSUER)?,
        kubelet_tls: Arc::new(tls::client(Some(&kubelet_client), pki.ca_pem())?),
        master_fabric_ip: MASTER_FABRIC_IP,
        host_address: None,
        service_cidr: SERVICE_CIDR,
        node_ports: 30_000..=32_767,
        limits: coracle_apiserver::config::Limits::default(),
    })
}

fn write_kubeconfig(pki: &Pki, url: &str, path: &Path) -> Result<()> {
    let credential = pki.issue(&CertRequest::client("kubernetes-admin", Some("system:masters")))?;
    let text = kubeconfig_text(pki.ca_pem(), url, &credential, "admin");
    write_private(path, &text).with_context(|| format!("cannot write {}", path.display()))
}

/// A kubeconfig of this cluster for `credential`.
#[must_use]
pub fn kubeconfig_text(ca_pem: &str, url: &str, credential: &Credential, user: &str) -> String {
    kubeconfig(&Kubeconfig { server: url, ca_pem, credential, cluster: "coracle", user })
}

/// An address that a client on this machine can dial.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        other => other,
    };
    SocketAddr::new(ip, address.port())
}

fn identity_of(dir: &Path) -> String {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let mut hasher = DefaultHasher::new();
    dir.hash(&mut hasher);
    format!("{}_{:016x}", crate::host_name(), hasher.finish())
}
