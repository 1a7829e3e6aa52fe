//! The runtime's calls, each with a time limit and an error that a user can read.
//!
//! A hung runtime must never hang the kubelet: every call ends. Calls that make things are
//! also bounded in number, so that a thousand pods arriving at once queue here and not in
//! the runtime.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use coracle_cri::MESSAGE_BYTES_MAX;
use coracle_cri::network::v1::node_network_client::NodeNetworkClient;
use coracle_cri::runtime::v1 as cri;
use coracle_cri::runtime::v1::image_service_client::ImageServiceClient;
use coracle_cri::runtime::v1::runtime_service_client::RuntimeServiceClient;
use tokio::sync::Semaphore;
use tonic::Code;
use tonic::transport::Channel;

/// Limit of calls that only look.
const LOOK_LIMIT: Duration = Duration::from_secs(10);
/// Limit of calls that make, start or remove something. Compiling a large module is part
/// of creating its container.
const MAKE_LIMIT: Duration = Duration::from_secs(120);
/// Limit of pulls.
const PULL_LIMIT: Duration = Duration::from_secs(15 * 60);
/// What stopping a container may take beyond its grace.
const STOP_MARGIN: Duration = Duration::from_secs(10);
/// Calls that make something, at the same time; more wait their turn.
const MAKING_MAX: usize = 16;
/// Pulls at the same time; more wait their turn.
const PULLING_MAX: usize = 5;

/// A call that did not do what it should.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum CallError {
    /// The runtime said no, or is not there.
    #[error("{message}")]
    Refused { code: Code, message: String },
    /// It did not answer in time.
    #[error("the container runtime did not answer {call} within {limit_s} s")]
    Timeout { call: &'static str, limit_s: u64 },
    /// It answered without what it must answer.
    #[error("the container runtime answered {call} without {what}")]
    Incomplete { call: &'static str, what: &'static str },
}

impl CallError {
    /// Whether the thing asked about does not exist.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { code: Code::NotFound, .. })
    }
}

type Result<T> = std::result::Result<T, CallError>;

/// A container runtime. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Runtime {
    runtime: RuntimeServiceClient<Channel>,
    images: ImageServiceClient<Channel>,
    network: NodeNetworkClient<Channel>,
    making: Arc<Semaphore>,
    pulling: Arc<Semaphore>,
}

impl Runtime {
    /// The runtime at `endpoint`; connects at the first call.
    pub(crate) fn new(endpoint: &Path) -> Self {
        let channel = coracle_cri::connect_lazy(endpoint);
        Self {
            runtime: RuntimeServiceClient::new(channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX),
            images: ImageServiceClient::new(channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX),
            network: NodeNetworkClient::new(channel),
            making: Arc::new(Semaphore::new(MAKING_MAX)),
            pulling: Arc::new(Semaphore::new(PULLING_MAX)),
        }
    }

    /// The node network API on the same socket; other runtimes do not offer it.
    pub(crate) fn network(&self) -> NodeNetworkClient<Channel> {
        self.network.clone()
    }

    pub(crate) async fn version(&self) -> Result<cri::VersionResponse> {
        let request = cri::VersionRequest { version: "v1".to_owned() };
        call("Version", LOOK_LIMIT, self.runtime.clone().version(request)).await
    }

    pub(crate) async fn status(&self) -> Result<cri::StatusResponse> {
        let request = cri::StatusRequest::default();
        call("Status", LOOK_LIMIT, self.runtime.clone().status(request)).await
    }

    pub(crate) async fn set_pod_cidr(&self, pod_cidr: String) -> Result<()> {
        let network_config = Some(cri::NetworkConfig { pod_cidr });
        let request =
            cri::UpdateRuntimeConfigRequest { runtime_config: Some(cri::RuntimeConfig { network_config }) };
        let mut client = self.runtime.clone();
        call("UpdateRuntimeConfig", LOOK_LIMIT, client.update_runtime_config(request)).await?;
        Ok(())
    }

    /// Every sandbox, or those of one pod.
    pub(crate) async fn sandboxes(&self, uid: Option<&str>) -> Result<Vec<cri::PodSandbox>> {
        let filter = uid.map(|uid| cri::PodSandboxFilter {
            label_selector: crate::convert::uid_selector(uid),
            ..Default::default()
        });
        let request = cri::ListPodSandboxRequest { filter };
        let mut client = self.runtime.clone();
        let reply = call("ListPodSandbox", LOOK_LIMIT, client.list_pod_sandbox(request)).await?;
        Ok(reply.items)
    }

    /// Every container, or those of one pod.
    pub(crate) async fn containers(&self, uid: Option<&str>) -> Result<Vec<cri::Container>> {
        let filter = uid.map(|uid| cri::ContainerFilter {
            label_selector: crate::convert::uid_selector(uid),
            ..Default::default()
        });
        let request = cri::ListContainersRequest { filter };
        let mut client = self.runtime.clone();
        let reply = call("ListContainers", LOOK_LIMIT, client.list_containers(request)).await?;
        Ok(reply.containers)
    }

    pub(crate) async fn sandbox_status(&self, id: &str) -> Result<cri::PodSandboxStatus> {
        let request = cri::PodSandboxStatusRequest { pod_sandbox_id: id.to_owned(), ..Default::default() };
        let mut client = self.runtime.clone();
        let reply = call("PodSandboxStatus", LOOK_LIMIT, client.pod_sandbox_status(request)).await?;
        let call = "PodSandboxStatus";
        reply.status.ok_or(CallError::Incomplete { call, what: "a status" })
    }

    pub(crate) async fn container_status(&self, id: &str) -> Result<cri::ContainerStatus> {
        let request = cri::ContainerStatusRequest { container_id: id.to_owned(), ..Default::default() };
        let mut client = self.runtime.clone();
        let reply = call("ContainerStatus", LOOK_LIMIT, client.container_status(request)).await?;
        let call = "ContainerStatus";
        reply.status.ok_or(CallError::Incomplete { call, what: "a status" })
    }

    pub(crate) async fn run_sandbox(
        &self,
        config: cri::PodSandboxConfig,
        runtime_handler: String,
    ) -> Result<String> {
        let request = cri::RunPodSandboxRequest { config: Some(config), runtime_handler };
        let _turn = self.making.acquire().await;
        let mut client = self.runtime.clone();
        let reply = call("RunPodSandbox", MAKE_LIMIT, client.run_pod_sandbox(request)).await?;
        Ok(reply.pod_sandbox_id)
    }

    /// Stops a sandbox; one that is gone counts as stopped.
    pub(crate) async fn stop_sandbox(&self, id: &str) -> Result<()> {
        let request = cri::StopPodSandboxRequest { pod_sandbox_id: id.to_owned() };
        let mut client = self.runtime.clone();
        gone_is_fine(call("StopPodSandbox", MAKE_LIMIT, client.stop_pod_sandbox(request)).await)
    }

    /// Removes a sandbox with its containers; one that is gone counts as removed.
    pub(crate) async fn remove_sandbox(&self, id: &str) -> Result<()> {
        let request = cri::RemovePodSandboxRequest { pod_sandbox_id: id.to_owned() };
        let mut client = self.runtime.clone();
        gone_is_fine(call("RemovePodSandbox", MAKE_LIMIT, client.remove_pod_sandbox(request)).await)
    }

    pub(crate) async fn create_container(
        &self,
        sandbox: &str,
        config: cri::ContainerConfig,
        sandbox_config: cri::PodSandboxConfig,
    ) -> Result<String> {
        let request = cri::CreateContainerRequest {
            pod_sandbox_id: sandbox.to_owned(),
            config: Some(config),
            sandbox_config: Some(sandbox_config),
        };
        let _turn = self.making.acquire().await;
        let mut client = self.runtime.clone();
        let reply = call("CreateContainer", MAKE_LIMIT, client.create_container(request)).await?;
        Ok(reply.container_id)
    }

    pub(crate) async fn start_container(&self, id: &str) -> Result<()> {
        let request = cri::StartContainerRequest { container_id: id.to_owned() };
        let _turn = self.making.acquire().await;
        let mut client = self.runtime.clone();
        call("StartContainer", MAKE_LIMIT, client.start_container(request)).await?;
        Ok(())
    }

    /// Stops a container; one that is gone counts as stopped.
    pub(crate) async fn stop_container(&self, id: &str, grace_s: i64) -> Result<()> {
        let request = cri::StopContainerRequest { container_id: id.to_owned(), timeout: grace_s };
        let limit = Duration::from_secs(u64::try_from(grace_s).unwrap_or(0)) + STOP_MARGIN;
        let mut client = self.runtime.clone();
        gone_is_fine(call("StopContainer", limit, client.stop_container(request)).await)
    }

    /// Removes a container; one that is gone counts as removed.
    pub(crate) async fn remove_container(&self, id: &str) -> Result<()> {
        let request = cri::RemoveContainerRequest { container_id: id.to_owned() };
        let mut client = self.runtime.clone();
        gone_is_fine(call("RemoveContainer", MAKE_LIMIT, client.remove_container(request)).await)
    }

    /// Runs a command in a container to its end.
    pub(crate) async fn exec(
        &self,
        id: &str,
        command: Vec<String>,
        limit: Duration,
    ) -> Result<cri::ExecSyncResponse> {
        let request = cri::ExecSyncRequest {
            container_id: id.to_owned(),
            cmd: command,
            timeout: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
        };
        let limit = limit + Duration::from_secs(1);
        call("ExecSync", limit, self.runtime.clone().exec_sync(request)).await
    }

    /// What happens to containers from now on.
    pub(crate) async fn events(&self) -> Result<tonic::Streaming<cri::ContainerEventResponse>> {
        let mut client = self.runtime.clone();
        let request = cri::GetEventsRequest::default();
        call("GetContainerEvents", LOOK_LIMIT, client.get_container_events(request)).await
    }

    /// The image, if the node has it.
    pub(crate) async fn image_status(&self, image: &str) -> Result<Option<cri::Image>> {
        let request = cri::ImageStatusRequest { image: Some(image_spec(image)), ..Default::default() };
        let reply = call("ImageStatus", LOOK_LIMIT, self.images.clone().image_status(request)).await?;
        Ok(reply.image)
    }

    /// Fetches an image; its reference in the runtime.
    pub(crate) async fn pull_image(
        &self,
        image: &str,
        sandbox_config: cri::PodSandboxConfig,
    ) -> Result<String> {
        let request = cri::PullImageRequest {
            image: Some(image_spec(image)),
            auth: None,
            sandbox_config: Some(sandbox_config),
        };
        let _turn = self.pulling.acquire().await;
        let reply = call("PullImage", PULL_LIMIT, self.images.clone().pull_image(request)).await?;
        Ok(reply.image_ref)
    }

    pub(crate) async fn list_images(&self) -> Result<Vec<cri::Image>> {
        let request = cri::ListImagesRequest::default();
        let reply = call("ListImages", LOOK_LIMIT, self.images.clone().list_images(request)).await?;
        Ok(reply.images)
    }
}

fn image_spec(image: &str) -> cri::ImageSpec {
    cri::ImageSpec { image: image.to_owned(), user_specified_image: image.to_owned(), ..Default::default() }
}

fn gone_is_fine<T>(result: Result<T>) -> Result<()> {
    match result {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}

async fn call<T>(
    name: &'static str,
    limit: Duration,
    answer: impl Future<Output = std::result::Result<tonic::Response<T>, tonic::Status>>,
) -> Result<T> {
    match tokio::time::timeout(limit, answer).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => {
            Err(CallError::Refused { code: status.code(), message: status.message().to_owned() })
        }
        Err(_) => Err(CallError::Timeout { call: name, limit_s: limit.as_secs() }),
    }
}
