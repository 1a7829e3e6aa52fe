//! A node for one test, and the requests that a kubelet would send it.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use coracle_cri::runtime::v1::image_service_client::ImageServiceClient;
use coracle_cri::runtime::v1::runtime_service_client::RuntimeServiceClient;
use coracle_cri::runtime::v1::*;
use coracle_images::{Store, samples};
use coracle_network::{Config as FabricConfig, Fabric, Stream};
use coracle_runtime::{Config, Service};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

/// Longer than anything here takes, shorter than a test run's patience.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Node {
    pub(crate) runtime: RuntimeServiceClient<Channel>,
    pub(crate) images: ImageServiceClient<Channel>,
    pub(crate) fabric: Fabric,
    pub(crate) store: Store,
    dir: TempDir,
    stop: CancellationToken,
    served: JoinHandle<()>,
}

impl Node {
    pub(crate) async fn start() -> Self {
        let store = Store::open(None).unwrap();
        samples::register(&store).unwrap();
        let node = Self::start_in(tempfile::tempdir().unwrap(), store).await;
        node.give_addresses().await;
        node
    }

    pub(crate) async fn start_in(dir: TempDir, store: Store) -> Self {
        let fabric = Fabric::new(FabricConfig::new("node", "127.0.0.1".parse().unwrap())).unwrap();
        let config = Config { socket: dir.path().join("runtime.sock"), state_dir: dir.path().join("state") };
        let socket = config.socket.clone();
        let service = Service::new(config, store.clone(), fabric.clone()).unwrap();
        let stop = CancellationToken::new();
        let served = tokio::spawn({
            let stop = stop.clone();
            async move { service.run(stop).await.unwrap() }
        });
        let channel = loop {
            match coracle_cri::connect(&socket).await {
                Ok(channel) => break channel,
                Err(_) => tokio::task::yield_now().await,
            }
        };
        Self {
            runtime: RuntimeServiceClient::new(channel.clone()),
            images: ImageServiceClient::new(channel),
            fabric,
            store,
            dir,
            stop,
            served,
        }
    }

    async fn give_addresses(&self) {
        let network_config = Some(NetworkConfig { pod_cidr: "10.128.0.0/18".to_owned() });
        let runtime_config = Some(RuntimeConfig { network_config });
        let request = UpdateRuntimeConfigRequest { runtime_config };
        self.runtime.clone().update_runtime_config(request).await.unwrap();
    }

    /// Ends this process's runtime as a stop does, and gives back what stays on disk.
    pub(crate) async fn stop(self) -> (TempDir, Store) {
        self.stop.cancel();
        self.served.await.unwrap();
        (self.dir, self.store)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) async fn sandbox(&self, name: &str) -> Pod<'_> {
        let config = PodSandboxConfig {
            metadata: Some(PodSandboxMetadata {
                name: name.to_owned(),
                uid: format!("uid-{name}"),
                namespace: "default".to_owned(),
                attempt: 0,
            }),
            hostname: name.to_owned(),
            log_directory: self.path("logs").join(name).display().to_string(),
            labels: HashMap::from([("app".to_owned(), name.to_owned())]),
            ..Default::default()
        };
        let request = RunPodSandboxRequest { config: Some(config.clone()), runtime_handler: String::new() };
        let reply = self.runtime.clone().run_pod_sandbox(request).await.unwrap();
        let id = reply.into_inner().pod_sandbox_id;
        Pod { node: self, id, config }
    }

    pub(crate) async fn status(&self, container: &str) -> ContainerStatus {
        let request = ContainerStatusRequest { container_id: container.to_owned(), verbose: false };
        let reply = self.runtime.clone().container_status(request).await.unwrap();
        reply.into_inner().status.unwrap()
    }

    /// Waits until the container has exited. It is asked again and again, as kubelets
    /// without events do.
    pub(crate) async fn exited(&self, container: &str) -> ContainerStatus {
        tokio::time::timeout(PATIENCE, async {
            loop {
                let status = self.status(container).await;
                if status.state() == ContainerState::ContainerExited {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .expect("the container does not exit")
    }

    pub(crate) async fn stop_container(&self, id: &str, timeout: i64) {
        let container_id = id.to_owned();
        let request = StopContainerRequest { container_id, timeout };
        self.runtime.clone().stop_container(request).await.unwrap();
    }
}

pub(crate) struct Pod<'a> {
    pub(crate) node: &'a Node,
    pub(crate) id: String,
    pub(crate) config: PodSandboxConfig,
}

/// A container's configuration, to be changed before it is created.
pub(crate) fn container(sample: &str, args: &[&str]) -> ContainerConfig {
    ContainerConfig {
        metadata: Some(ContainerMetadata { name: sample.to_owned(), attempt: 0 }),
        image: Some(ImageSpec {
            image: format!("coracle.local/samples/{sample}:latest"),
            ..Default::default()
        }),
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        log_path: format!("{sample}/0.log"),
        ..Default::default()
    }
}

pub(crate) fn with_memory_limit(mut config: ContainerConfig, bytes: i64) -> ContainerConfig {
    config.linux = Some(LinuxContainerConfig {
        resources: Some(LinuxContainerResources { memory_limit_in_bytes: bytes, ..Default::default() }),
        security_context: None,
    });
    config
}

pub(crate) fn with_mount(
    mut config: ContainerConfig,
    host: &Path,
    guest: &str,
    readonly: bool,
) -> ContainerConfig {
    config.mounts.push(Mount {
        host_path: host.display().to_string(),
        container_path: guest.to_owned(),
        readonly,
        ..Default::default()
    });
    config
}

impl Pod<'_> {
    pub(crate) async fn create(&self, config: ContainerConfig) -> Result<String, tonic::Status> {
        let request = CreateContainerRequest {
            pod_sandbox_id: self.id.clone(),
            config: Some(config),
            sandbox_config: Some(self.config.clone()),
        };
        let reply = self.node.runtime.clone().create_container(request).await?;
        Ok(reply.into_inner().container_id)
    }

    pub(crate) async fn start(&self, id: &str) -> Result<(), tonic::Status> {
        let request = StartContainerRequest { container_id: id.to_owned() };
        self.node.runtime.clone().start_container(request).await.map(|_| ())
    }

    pub(crate) async fn run(&self, config: ContainerConfig) -> String {
        let id = self.create(config).await.unwrap();
        self.start(&id).await.unwrap();
        id
    }

    /// Runs to the end.
    pub(crate) async fn complete(&self, config: ContainerConfig) -> ContainerStatus {
        let id = self.run(config).await;
        self.node.exited(&id).await
    }

    /// The container's log lines without their times.
    pub(crate) fn log(&self, sample: &str) -> Vec<String> {
        let path = Path::new(&self.config.log_directory).join(sample).join("0.log");
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect()
    }

    pub(crate) async fn ip(&self) -> IpAddr {
        let request = PodSandboxStatusRequest { pod_sandbox_id: self.id.clone(), verbose: false };
        let reply = self.node.runtime.clone().pod_sandbox_status(request).await.unwrap();
        reply.into_inner().status.unwrap().network.unwrap().ip.parse().unwrap()
    }

    pub(crate) async fn dial(&self, port: u16) -> Stream {
        let to = SocketAddr::new(self.ip().await, port);
        self.node.fabric.dial(to.ip(), to.port()).await.unwrap()
    }

    /// One HTTP/1.1 request on a connection of its own; the whole response as text.
    pub(crate) async fn http(&self, port: u16, request: &str) -> String {
        let mut stream = self.dial(port).await;
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut response = Vec::new();
        tokio::time::timeout(PATIENCE, stream.read_to_end(&mut response)).await.unwrap().unwrap();
        String::from_utf8(response).unwrap()
    }

    pub(crate) async fn get(&self, port: u16, path: &str) -> String {
        self.http(port, &format!("GET {path} HTTP/1.1\r\nHost: pod\r\nConnection: close\r\n\r\n")).await
    }
}
