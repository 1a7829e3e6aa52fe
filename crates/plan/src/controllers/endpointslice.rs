//! EndpointSlice: which pods answer for a Service, in slices of at most 100, and once more in
//! the old Endpoints object.
//!
//! Pods with an address that the Service's selector matches are endpoints, terminating ones too
//! (routing decides what to do with them). Pods whose ports resolve alike (named target ports are
//! looked up in each pod) share slices. Slices change as little as possible: an endpoint stays in
//! the slice it is in, gaps are filled before a slice is made.
//!
//! It must never touch slices that others manage, nor Services without a selector.

mod endpoints;
mod slices;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Endpoints, ObjectReference, Pod, Service, ServicePort};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::action::{Plan, Write};
use super::object;

/// Says on a slice which Service it is of.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Says on a slice who manages it.
pub const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// This controller's name there.
pub const MANAGER: &str = "endpointslice-controller.k8s.io";
/// Says on Endpoints who manages them.
pub const ENDPOINTS_MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
/// This controller's name there.
pub const ENDPOINTS_MANAGER: &str = "endpoint-controller";
/// Marks slices and Endpoints of headless Services.
pub const HEADLESS: &str = "service.kubernetes.io/headless";

/// What a Service's endpoints depend on.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The Service; `None` if it is gone.
    pub service: Option<Arc<Service>>,
    /// Pods of its namespace; those that do not match are ignored.
    pub pods: Vec<Arc<Pod>>,
    /// The Service's slices that this controller manages.
    pub slices: Vec<Arc<EndpointSlice>>,
    /// The Endpoints of the Service's name.
    pub endpoints: Option<Arc<Endpoints>>,
    /// The zones of nodes that have one.
    pub zones: BTreeMap<String, String>,
}

/// Decides; see the module.
#[must_use]
pub fn plan(snapshot: &Snapshot, _now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let Some(service) = snapshot.service.as_deref() else {
        // The slices go with their owner; Endpoints have none.
        let left = snapshot.endpoints.as_deref().filter(|left| {
            let labels = left.metadata.labels.as_ref();
            labels.and_then(|labels| labels.get(ENDPOINTS_MANAGED_BY)).map(String::as_str)
                == Some(ENDPOINTS_MANAGER)
        });
        if let Some(left) = left {
            plan.write(Write::delete(left));
        }
        return plan;
    };
    let Some(spec) = service.spec.as_ref() else { return plan };
    let selector = spec.selector.as_ref().filter(|selector| !selector.is_empty());
    let external = spec.type_.as_deref() == Some("ExternalName");
    let Some(selector) = selector.filter(|_| !external) else { return plan };
    if object::is_deleting(&service.metadata) {
        return plan;
    }
    let backends: Vec<Backend<'_>> = snapshot
        .pods
        .iter()
        .filter(|pod| object::has_labels(selector, pod.metadata.labels.as_ref()))
        .filter_map(|pod| Backend::of(service, pod))
        .collect();
    slices::reconcile(snapshot, service, &backends, &mut plan);
    endpoints::reconcile(snapshot, service, &backends, &mut plan);
    plan
}

/// A port of a Service as one pod offers it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Port {
    name: String,
    protocol: String,
    number: i32,
    app_protocol: Option<String>,
}

/// A pod that answers for a Service.
struct Backend<'a> {
    pod: &'a Pod,
    addresses: Vec<IpAddr>,
    ports: Vec<Port>,
    /// Whether its `Ready` condition is true.
    serving: bool,
    terminating: bool,
    /// Whether it is to be published as ready.
    ready: bool,
    /// The name by which a headless Service's DNS knows it.
    hostname: Option<String>,
}

impl<'a> Backend<'a> {
    fn of(service: &Service, pod: &'a Pod) -> Option<Self> {
        let spec = service.spec.as_ref()?;
        let status = pod.status.as_ref()?;
        if object::is_finished(pod) {
            return None;
        }
        let listed = status.pod_ips.iter().flatten().map(|ip| ip.ip.as_str());
        let mut addresses: Vec<IpAddr> = listed.filter_map(|ip| ip.parse().ok()).collect();
        if addresses.is_empty() {
            addresses.extend(status.pod_ip.as_deref().and_then(|ip| ip.parse::<IpAddr>().ok()));
        }
        if addresses.is_empty() {
            return None;
        }
        let ports = spec.ports.iter().flatten().filter_map(|port| resolve(port, pod)).collect();
        let serving = object::is_ready(pod);
        let terminating = object::is_deleting(&pod.metadata);
        let always = spec.publish_not_ready_addresses == Some(true);
        Some(Backend {
            pod,
            addresses,
            ports,
            serving,
            terminating,
            ready: always || (serving && !terminating),
            hostname: hostname(service, pod),
        })
    }

    fn node(&self) -> Option<String> {
        self.pod.spec.as_ref()?.node_name.clone().filter(|name| !name.is_empty())
    }

    fn reference(&self) -> ObjectReference {
        let meta = &self.pod.metadata;
        ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace: meta.namespace.clone(),
            name: meta.name.clone(),
            uid: meta.uid.clone(),
            ..ObjectReference::default()
        }
    }
}

fn hostname(service: &Service, pod: &Pod) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let named = spec.hostname.clone().filter(|hostname| !hostname.is_empty())?;
    (spec.subdomain.as_deref() == service.metadata.name.as_deref()).then_some(named)
}

/// The port of a pod that a Service's port leads to; `None` if the pod has no port of that name.
fn resolve(port: &ServicePort, pod: &Pod) -> Option<Port> {
    let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
    let number = match &port.target_port {
        None => port.port,
        Some(IntOrString::Int(0)) => port.port,
        Some(IntOrString::Int(number)) => *number,
        Some(IntOrString::String(name)) => {
            let spec = pod.spec.as_ref()?;
            // Sidecars are init containers that keep running, and may be the ones that listen.
            let sidecars = spec
                .init_containers
                .iter()
                .flatten()
                .filter(|container| container.restart_policy.as_deref() == Some("Always"));
            let all = spec.containers.iter().chain(sidecars);
            let found = all.flat_map(|container| container.ports.iter().flatten()).find(|known| {
                known.name.as_ref() == Some(name) && known.protocol.as_deref().unwrap_or("TCP") == protocol
            })?;
            found.container_port
        }
    };
    Some(Port {
        name: port.name.clone().unwrap_or_default(),
        protocol,
        number,
        app_protocol: port.app_protocol.clone(),
    })
}

fn is_headless(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some("None")
}

/// The Service's labels as its slices and Endpoints carry them.
fn labels(service: &Service) -> object::Labels {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    for own in [SERVICE_NAME, MANAGED_BY, HEADLESS, ENDPOINTS_MANAGED_BY] {
        labels.remove(own);
    }
    if is_headless(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    labels
}
