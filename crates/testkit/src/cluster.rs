//! [`Cluster`]: starting, using and stopping a cluster in a test.

use std::future::{Future, IntoFuture};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::Output;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result, bail};
use coracle::cluster::{Cluster as Inner, ClusterConfig};
use coracle::progress::Progress;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::Api;

use crate::wait::{eventually, pod_is_ready};

/// What a cluster is to be; awaiting it starts it.
#[derive(Debug, Clone)]
pub struct Builder {
    config: ClusterConfig,
}

impl Builder {
    /// How many workers; 1 by default, 0 for a control plane alone.
    #[must_use]
    pub fn agents(mut self, agents: u16) -> Self {
        self.config.agents = agents;
        self
    }

    /// Keeps state in `dir`, durably, instead of in a temporary directory and memory.
    #[must_use]
    pub fn data_dir(mut self, dir: &Path) -> Self {
        self.config.data_dir = Some(dir.to_owned());
        self.config.ephemeral = false;
        self
    }
}

impl IntoFuture for Builder {
    type Output = Result<Cluster>;
    type IntoFuture = Pin<Box<dyn Future<Output = Result<Cluster>> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            coracle::logs::init(0, coracle::logs::Format::Text);
            let inner = Inner::start(self.config, Progress::quiet()).await?;
            Ok(Cluster { inner })
        })
    }
}

/// A running cluster.
#[derive(Debug)]
pub struct Cluster {
    inner: Inner,
}

impl Cluster {
    /// Describes a cluster of one worker without state on disk; await it to start it.
    #[must_use]
    pub fn start() -> Builder {
        let config =
            ClusterConfig { port: 0, ephemeral: true, node_ip: own_address(), ..ClusterConfig::default() };
        Builder { config }
    }

    /// A client with all rights, in this process.
    #[must_use]
    pub fn client(&self) -> kube::Client {
        self.inner.admin_client()
    }

    /// Path of the administrator's kubeconfig.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.inner.kubeconfig_path().to_owned()
    }

    /// Address of the `index`-th node (from 0), where its node ports listen.
    #[must_use]
    pub fn node_ip(&self, index: u8) -> Ipv4Addr {
        self.inner.node_ip(u32::from(index))
    }

    /// The cluster's own directory.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        self.inner.data_dir()
    }

    /// Imports a wasm file's bytes as an image that every node can run.
    ///
    /// # Errors
    /// When the reference is malformed or the image cannot be stored.
    pub fn load_image(&self, wasm: &[u8], reference: &str) -> Result<()> {
        self.inner.load_image(wasm, reference)
    }

    /// Applies a manifest of one or more documents.
    ///
    /// # Errors
    /// What is wrong with the manifest, or the server's answer.
    pub async fn apply(&self, manifest: &str) -> Result<()> {
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(file.path(), manifest)?;
        for document in coracle::manifest::read(file.path())? {
            coracle::manifest::apply(&self.client(), &document).await?;
        }
        Ok(())
    }

    /// Waits until the pod of that name is Ready, and returns it.
    ///
    /// # Errors
    /// After a minute, with the pod's status.
    pub async fn ready_pod(&self, namespace: &str, name: &str) -> Result<Pod> {
        let pods: Api<Pod> = Api::namespaced(self.client(), namespace);
        eventually(&format!("pod {namespace}/{name} to be Ready"), || async {
            let pod = pods.get(name).await?;
            if pod_is_ready(&pod) {
                return Ok(pod);
            }
            bail!("status is {}", serde_json::to_string(&pod.status)?)
        })
        .await
    }

    /// Node port of a Service's first port.
    ///
    /// # Errors
    /// When there is no such Service or it has none.
    pub async fn node_port(&self, namespace: &str, name: &str) -> Result<u16> {
        let services: Api<Service> = Api::namespaced(self.client(), namespace);
        let service = services.get(name).await?;
        let port = service.spec.and_then(|s| s.ports).and_then(|p| p.first()?.node_port);
        port.and_then(|p| u16::try_from(p).ok()).context("the Service has no node port")
    }

    /// One HTTP GET through a socket of the host, as a user outside the cluster makes it.
    ///
    /// # Errors
    /// When the connection fails or the answer is not HTTP.
    pub async fn http_get(&self, address: Ipv4Addr, port: u16, path: &str) -> Result<(u16, String)> {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let exchange = async {
            let mut stream = tokio::net::TcpStream::connect((address, port)).await?;
            let request =
                format!("GET {path} HTTP/1.1\r\nHost: {address}:{port}\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await?;
            anyhow::Ok(String::from_utf8_lossy(&answer).into_owned())
        };
        let answer = tokio::time::timeout(std::time::Duration::from_secs(10), exchange).await??;
        let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
        let code = head.split(' ').nth(1).and_then(|c| c.parse().ok()).context("no status code")?;
        Ok((code, body.to_owned()))
    }

    /// Runs `program` (such as kubectl) with this cluster's KUBECONFIG.
    ///
    /// # Errors
    /// When it does not start or fails; its output is in the error.
    pub async fn run(&self, program: &Path, arguments: &[&str]) -> Result<String> {
        let output = self.run_raw(program, arguments).await?;
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&output.stderr);
            bail!("{} {}: {stdout}{stderr}", program.display(), arguments.join(" "));
        }
        Ok(stdout)
    }

    /// As [`Cluster::run`], but a failure of the program is an answer too.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn run_raw(&self, program: &Path, arguments: &[&str]) -> Result<Output> {
        let home = self.data_dir().join("home");
        tokio::fs::create_dir_all(&home).await?;
        tokio::process::Command::new(program)
            .args(arguments)
            .env("KUBECONFIG", self.kubeconfig())
            .env("HOME", home)
            .kill_on_drop(true)
            .output()
            .await
            .with_context(|| program.display().to_string())
    }

    /// Stops everything in order: guests, then nodes, then the control plane.
    pub async fn stop(self) {
        self.inner.stop().await;
    }
}

/// A block of 127.0.0.0/8 that no other cluster of this machine uses: chosen by process and
/// by a counter.
fn own_address() -> Ipv4Addr {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let block = std::process::id().wrapping_mul(31).wrapping_add(COUNTER.fetch_add(1, Ordering::Relaxed));
    // 127.1.0.0 to 127.254.255.0, the last byte counting nodes.
    let [_, _, high, low] = (block % (254 * 256)).to_be_bytes();
    Ipv4Addr::new(127, high.wrapping_add(1), low, 1)
}
