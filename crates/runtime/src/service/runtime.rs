//! `runtime.v1.RuntimeService` over a node.

use std::collections::HashMap;
use std::time::Duration;

use coracle_cri::runtime::v1 as cri;
use coracle_cri::runtime::v1::runtime_service_server::RuntimeService;
use futures::StreamExt;
use ipnet::IpNet;
use tokio_stream::wrappers::BroadcastStream;
use tonic::{Request, Response, Status};

use super::{Cri, Replies, filter, in_messages, not_here, stats};
use crate::node::{Container, Sandbox, now_ns};

/// What Version and the node's `containerRuntimeVersion` say.
const RUNTIME_NAME: &str = "coracle";
/// The only version of CRI that is spoken.
const API_VERSION: &str = "v1";
/// Names that a RuntimeClass may give; all mean the one runtime there is.
const HANDLERS: [&str; 4] = ["", "coracle", "wasm", "wasmtime"];
/// Longest grace of StopContainer, in seconds; more counts as this.
const GRACE_S_MAX: u64 = 7 * 24 * 3600;

type Reply<T> = Result<Response<T>, Status>;

impl Cri {
    fn sandboxes(&self, wanted: Option<&cri::PodSandboxFilter>) -> Vec<cri::PodSandbox> {
        let all = self.node.sandboxes();
        all.iter().filter(|s| filter::sandbox(wanted, s)).map(|s| s.summary()).collect()
    }

    fn containers(&self, wanted: Option<&cri::ContainerFilter>) -> Vec<cri::Container> {
        let all = self.node.containers();
        all.iter().filter(|c| filter::container(wanted, c)).map(|c| c.summary()).collect()
    }

    fn container_stats(&self, wanted: Option<&cri::ContainerStatsFilter>) -> Vec<cri::ContainerStats> {
        let all = self.node.containers();
        let running = all.iter().filter(|c| c.is_running());
        running.filter(|c| filter::container_stats(wanted, c)).map(|c| stats::container(c)).collect()
    }

    fn sandbox_stats(&self, wanted: Option<&cri::PodSandboxStatsFilter>) -> Vec<cri::PodSandboxStats> {
        let all = self.node.sandboxes();
        let ready = all.iter().filter(|s| s.is_ready());
        ready.filter(|s| filter::sandbox_stats(wanted, s)).map(|s| stats::sandbox(s)).collect()
    }

    fn metrics(&self) -> Vec<cri::PodSandboxMetrics> {
        self.node.sandboxes().iter().map(|sandbox| stats::metrics(sandbox)).collect()
    }
}

#[tonic::async_trait]
impl RuntimeService for Cri {
    type StreamPodSandboxesStream = Replies<cri::StreamPodSandboxesResponse>;
    type StreamContainersStream = Replies<cri::StreamContainersResponse>;
    type StreamContainerStatsStream = Replies<cri::StreamContainerStatsResponse>;
    type StreamPodSandboxStatsStream = Replies<cri::StreamPodSandboxStatsResponse>;
    type StreamPodSandboxMetricsStream = Replies<cri::StreamPodSandboxMetricsResponse>;
    type GetContainerEventsStream = Replies<cri::ContainerEventResponse>;

    async fn version(&self, request: Request<cri::VersionRequest>) -> Reply<cri::VersionResponse> {
        Ok(Response::new(cri::VersionResponse {
            version: request.into_inner().version,
            runtime_name: RUNTIME_NAME.to_owned(),
            runtime_version: env!("CARGO_PKG_VERSION").to_owned(),
            runtime_api_version: API_VERSION.to_owned(),
        }))
    }

    async fn status(&self, request: Request<cri::StatusRequest>) -> Reply<cri::StatusResponse> {
        let condition = |kind: &str, status, reason: &str, message: &str| cri::RuntimeCondition {
            r#type: kind.to_owned(),
            status,
            reason: reason.to_owned(),
            message: message.to_owned(),
        };
        let network = match self.node.network_is_ready() {
            true => condition("NetworkReady", true, "", ""),
            false => condition("NetworkReady", false, "NoPodCIDR", "the node has no pod address range yet"),
        };
        let handlers = HANDLERS.iter().map(|name| cri::RuntimeHandler {
            name: (*name).to_owned(),
            features: Some(cri::RuntimeHandlerFeatures {
                recursive_read_only_mounts: true,
                user_namespaces: false,
            }),
        });
        let mut info = HashMap::new();
        if request.into_inner().verbose {
            let objects = serde_json::json!({
                "sandboxes": self.node.sandboxes().len(),
                "containers": self.node.containers().len(),
            });
            info.insert("objects".to_owned(), objects.to_string());
        }
        Ok(Response::new(cri::StatusResponse {
            status: Some(cri::RuntimeStatus {
                conditions: vec![condition("RuntimeReady", true, "", ""), network],
            }),
            info,
            runtime_handlers: handlers.collect(),
            features: Some(cri::RuntimeFeatures::default()),
        }))
    }

    async fn runtime_config(
        &self,
        _: Request<cri::RuntimeConfigRequest>,
    ) -> Reply<cri::RuntimeConfigResponse> {
        // Without cgroups neither driver is right; this is the one that asks nothing of
        // systemd.
        let linux = cri::LinuxRuntimeConfiguration { cgroup_driver: cri::CgroupDriver::Cgroupfs.into() };
        Ok(Response::new(cri::RuntimeConfigResponse { linux: Some(linux) }))
    }

    async fn update_runtime_config(
        &self,
        request: Request<cri::UpdateRuntimeConfigRequest>,
    ) -> Reply<cri::UpdateRuntimeConfigResponse> {
        let config = request.into_inner().runtime_config.unwrap_or_default();
        let cidrs = config.network_config.unwrap_or_default().pod_cidr;
        // A node with two address families names both; the fabric has one.
        if let Some(cidr) = cidrs.split(',').map(str::trim).find(|cidr| !cidr.is_empty()) {
            let cidr: IpNet = cidr
                .parse()
                .map_err(|_| Status::invalid_argument(format!("{cidr:?} is not an address range")))?;
            self.node.set_pod_cidr(cidr).map_err(|error| Status::internal(super::with_causes(&error)))?;
        }
        Ok(Response::new(cri::UpdateRuntimeConfigResponse {}))
    }

    async fn run_pod_sandbox(
        &self,
        request: Request<cri::RunPodSandboxRequest>,
    ) -> Reply<cri::RunPodSandboxResponse> {
        let cri::RunPodSandboxRequest { config, runtime_handler } = request.into_inner();
        if !HANDLERS.contains(&runtime_handler.as_str()) {
            return Err(Status::invalid_argument(format!(
                "no runtime handler {runtime_handler:?}; this runtime has coracle, wasm and wasmtime, \
                 which are the same"
            )));
        }
        let config = config.ok_or_else(|| Status::invalid_argument("the sandbox has no configuration"))?;
        let sandbox = self.node.run_sandbox(config, runtime_handler)?;
        Ok(Response::new(cri::RunPodSandboxResponse { pod_sandbox_id: sandbox.id.clone() }))
    }

    async fn stop_pod_sandbox(
        &self,
        request: Request<cri::StopPodSandboxRequest>,
    ) -> Reply<cri::StopPodSandboxResponse> {
        self.node.stop_sandbox(&request.into_inner().pod_sandbox_id).await?;
        Ok(Response::new(cri::StopPodSandboxResponse {}))
    }

    async fn remove_pod_sandbox(
        &self,
        request: Request<cri::RemovePodSandboxRequest>,
    ) -> Reply<cri::RemovePodSandboxResponse> {
        self.node.remove_sandbox(&request.into_inner().pod_sandbox_id).await?;
        Ok(Response::new(cri::RemovePodSandboxResponse {}))
    }

    async fn pod_sandbox_status(
        &self,
        request: Request<cri::PodSandboxStatusRequest>,
    ) -> Reply<cri::PodSandboxStatusResponse> {
        let request = request.into_inner();
        let sandbox = self.node.sandbox(&request.pod_sandbox_id)?;
        Ok(Response::new(cri::PodSandboxStatusResponse {
            status: Some(Sandbox::status(&sandbox)),
            info: HashMap::new(),
            containers_statuses: sandbox.containers().iter().map(|c| c.status()).collect(),
            timestamp: now_ns(),
        }))
    }

    async fn list_pod_sandbox(
        &self,
        request: Request<cri::ListPodSandboxRequest>,
    ) -> Reply<cri::ListPodSandboxResponse> {
        let items = self.sandboxes(request.into_inner().filter.as_ref());
        Ok(Response::new(cri::ListPodSandboxResponse { items }))
    }

    async fn stream_pod_sandboxes(
        &self,
        request: Request<cri::StreamPodSandboxesRequest>,
    ) -> Reply<Self::StreamPodSandboxesStream> {
        let items = self.sandboxes(request.into_inner().filter.as_ref());
        let message = |pod_sandboxes| cri::StreamPodSandboxesResponse { pod_sandboxes };
        Ok(Response::new(in_messages(items, message)))
    }

    /// Limits are kept per container; those of the whole pod are for information.
    async fn update_pod_sandbox_resources(
        &self,
        request: Request<cri::UpdatePodSandboxResourcesRequest>,
    ) -> Reply<cri::UpdatePodSandboxResourcesResponse> {
        self.node.sandbox(&request.into_inner().pod_sandbox_id)?;
        Ok(Response::new(cri::UpdatePodSandboxResourcesResponse {}))
    }

    async fn create_container(
        &self,
        request: Request<cri::CreateContainerRequest>,
    ) -> Reply<cri::CreateContainerResponse> {
        let request = request.into_inner();
        let config = request.config;
        let config = config.ok_or_else(|| Status::invalid_argument("the container has no configuration"))?;
        let container = self.node.create_container(&request.pod_sandbox_id, config).await?;
        Ok(Response::new(cri::CreateContainerResponse { container_id: container.id.clone() }))
    }

    async fn start_container(
        &self,
        request: Request<cri::StartContainerRequest>,
    ) -> Reply<cri::StartContainerResponse> {
        self.node.start_container(&request.into_inner().container_id).await?;
        Ok(Response::new(cri::StartContainerResponse {}))
    }

    async fn stop_container(
        &self,
        request: Request<cri::StopContainerRequest>,
    ) -> Reply<cri::StopContainerResponse> {
        let request = request.into_inner();
        let grace_s = u64::try_from(request.timeout).unwrap_or(0).min(GRACE_S_MAX);
        self.node.stop_container(&request.container_id, Duration::from_secs(grace_s)).await?;
        Ok(Response::new(cri::StopContainerResponse {}))
    }

    async fn remove_container(
        &self,
        request: Request<cri::RemoveContainerRequest>,
    ) -> Reply<cri::RemoveContainerResponse> {
        self.node.remove_container(&request.into_inner().container_id).await?;
        Ok(Response::new(cri::RemoveContainerResponse {}))
    }

    async fn list_containers(
        &self,
        request: Request<cri::ListContainersRequest>,
    ) -> Reply<cri::ListContainersResponse> {
        let containers = self.containers(request.into_inner().filter.as_ref());
        Ok(Response::new(cri::ListContainersResponse { containers }))
    }

    async fn stream_containers(
        &self,
        request: Request<cri::StreamContainersRequest>,
    ) -> Reply<Self::StreamContainersStream> {
        let containers = self.containers(request.into_inner().filter.as_ref());
        let message = |containers| cri::StreamContainersResponse { containers };
        Ok(Response::new(in_messages(containers, message)))
    }

    async fn container_status(
        &self,
        request: Request<cri::ContainerStatusRequest>,
    ) -> Reply<cri::ContainerStatusResponse> {
        let container = self.node.container(&request.into_inner().container_id)?;
        Ok(Response::new(cri::ContainerStatusResponse {
            status: Some(Container::status(&container)),
            info: HashMap::new(),
        }))
    }

    async fn update_container_resources(
        &self,
        request: Request<cri::UpdateContainerResourcesRequest>,
    ) -> Reply<cri::UpdateContainerResourcesResponse> {
        let request = request.into_inner();
        let resources = request.linux.unwrap_or_default();
        self.node.update_resources(&request.container_id, &resources)?;
        Ok(Response::new(cri::UpdateContainerResourcesResponse {}))
    }

    async fn reopen_container_log(
        &self,
        request: Request<cri::ReopenContainerLogRequest>,
    ) -> Reply<cri::ReopenContainerLogResponse> {
        self.node.reopen_log(&request.into_inner().container_id)?;
        Ok(Response::new(cri::ReopenContainerLogResponse {}))
    }

    async fn checkpoint_container(
        &self,
        _: Request<cri::CheckpointContainerRequest>,
    ) -> Reply<cri::CheckpointContainerResponse> {
        Err(Status::unimplemented("WebAssembly containers cannot be checkpointed"))
    }

    async fn exec_sync(&self, _: Request<cri::ExecSyncRequest>) -> Reply<cri::ExecSyncResponse> {
        Err(not_here("ExecSync"))
    }

    async fn exec(&self, _: Request<cri::ExecRequest>) -> Reply<cri::ExecResponse> {
        Err(not_here("Exec"))
    }

    async fn attach(&self, _: Request<cri::AttachRequest>) -> Reply<cri::AttachResponse> {
        Err(not_here("Attach"))
    }

    async fn port_forward(&self, _: Request<cri::PortForwardRequest>) -> Reply<cri::PortForwardResponse> {
        Err(Status::unimplemented(
            "PortForward is not available in this version of the runtime; use NodeNetwork.Dial on this socket",
        ))
    }

    async fn container_stats(
        &self,
        request: Request<cri::ContainerStatsRequest>,
    ) -> Reply<cri::ContainerStatsResponse> {
        let container = self.node.container(&request.into_inner().container_id)?;
        let stats = Some(stats::container(&container));
        Ok(Response::new(cri::ContainerStatsResponse { stats }))
    }

    async fn list_container_stats(
        &self,
        request: Request<cri::ListContainerStatsRequest>,
    ) -> Reply<cri::ListContainerStatsResponse> {
        let stats = Self::container_stats(self, request.into_inner().filter.as_ref());
        Ok(Response::new(cri::ListContainerStatsResponse { stats }))
    }

    async fn stream_container_stats(
        &self,
        request: Request<cri::StreamContainerStatsRequest>,
    ) -> Reply<Self::StreamContainerStatsStream> {
        let stats = Self::container_stats(self, request.into_inner().filter.as_ref());
        let message = |container_stats| cri::StreamContainerStatsResponse { container_stats };
        Ok(Response::new(in_messages(stats, message)))
    }

    async fn pod_sandbox_stats(
        &self,
        request: Request<cri::PodSandboxStatsRequest>,
    ) -> Reply<cri::PodSandboxStatsResponse> {
        let sandbox = self.node.sandbox(&request.into_inner().pod_sandbox_id)?;
        let stats = Some(stats::sandbox(&sandbox));
        Ok(Response::new(cri::PodSandboxStatsResponse { stats }))
    }

    async fn list_pod_sandbox_stats(
        &self,
        request: Request<cri::ListPodSandboxStatsRequest>,
    ) -> Reply<cri::ListPodSandboxStatsResponse> {
        let stats = self.sandbox_stats(request.into_inner().filter.as_ref());
        Ok(Response::new(cri::ListPodSandboxStatsResponse { stats }))
    }

    async fn stream_pod_sandbox_stats(
        &self,
        request: Request<cri::StreamPodSandboxStatsRequest>,
    ) -> Reply<Self::StreamPodSandboxStatsStream> {
        let stats = self.sandbox_stats(request.into_inner().filter.as_ref());
        let message = |pod_sandbox_stats| cri::StreamPodSandboxStatsResponse { pod_sandbox_stats };
        Ok(Response::new(in_messages(stats, message)))
    }

    async fn get_container_events(
        &self,
        _: Request<cri::GetEventsRequest>,
    ) -> Reply<Self::GetContainerEventsStream> {
        let events = BroadcastStream::new(self.node.events.subscribe()).map(|event| {
            event.map_err(|_| Status::data_loss("too far behind: list containers and begin again"))
        });
        let shutdown = self.shutdown.clone().cancelled_owned();
        Ok(Response::new(Box::pin(events.take_until(shutdown))))
    }

    async fn list_metric_descriptors(
        &self,
        _: Request<cri::ListMetricDescriptorsRequest>,
    ) -> Reply<cri::ListMetricDescriptorsResponse> {
        let descriptors = stats::descriptors();
        Ok(Response::new(cri::ListMetricDescriptorsResponse { descriptors }))
    }

    async fn list_pod_sandbox_metrics(
        &self,
        _: Request<cri::ListPodSandboxMetricsRequest>,
    ) -> Reply<cri::ListPodSandboxMetricsResponse> {
        let pod_metrics = self.metrics();
        Ok(Response::new(cri::ListPodSandboxMetricsResponse { pod_metrics }))
    }

    async fn stream_pod_sandbox_metrics(
        &self,
        _: Request<cri::StreamPodSandboxMetricsRequest>,
    ) -> Reply<Self::StreamPodSandboxMetricsStream> {
        let message = |pod_sandbox_metrics| cri::StreamPodSandboxMetricsResponse { pod_sandbox_metrics };
        Ok(Response::new(in_messages(self.metrics(), message)))
    }
}
