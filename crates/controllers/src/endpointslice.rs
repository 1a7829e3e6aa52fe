//! EndpointSlice: watches Services, pods, EndpointSlices and Endpoints.

use std::collections::BTreeMap;

use coracle_client::driver::{Controller, Driver, Queue, SnapshotError};
use coracle_client::{Change, Informer, Informers, ObjectKey};
use coracle_plan::controllers::action::Plan;
use coracle_plan::controllers::endpointslice::{
    self, ENDPOINTS_MANAGED_BY, MANAGED_BY, MANAGER, SERVICE_NAME, Snapshot,
};
use coracle_plan::controllers::object;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Endpoints, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;

/// The index of slices by Service, as `namespace/name`.
const BY_SERVICE: &str = "service";
/// The label of a node's zone.
const ZONE: &str = "topology.kubernetes.io/zone";

pub(crate) struct EndpointSlices {
    services: Informer<Service>,
    pods: Informer<Pod>,
    slices: Informer<EndpointSlice>,
    endpoints: Informer<Endpoints>,
    nodes: Informer<Node>,
}

pub(crate) fn driver(client: &kube::Client, informers: &Informers) -> Driver<EndpointSlices> {
    let services = informers.get::<Service>();
    let pods = informers.get::<Pod>();
    let slices = informers.get::<EndpointSlice>();
    let endpoints = informers.get::<Endpoints>();
    let nodes = informers.get::<Node>();
    slices.add_index(BY_SERVICE, |slice| service_of(slice).map(|key| key.to_string()).into_iter().collect());
    let controller = EndpointSlices {
        services: services.clone(),
        pods: pods.clone(),
        slices: slices.clone(),
        endpoints: endpoints.clone(),
        nodes: nodes.clone(),
    };
    let known = services.clone();
    Driver::new(client.clone(), controller)
        .reads(&nodes)
        .watch(&services, |change, queue| queue.add(ObjectKey::of(&**change.object())))
        .watch(&pods, move |change, queue| add_services_of(&known, change, queue))
        .watch(&slices, |change, queue| {
            if let Some(key) = service_of(change.object()) {
                queue.add(key);
            }
        })
        .watch(&endpoints, |change, queue| {
            let labels = change.object().metadata.labels.as_ref();
            if labels.is_some_and(|labels| labels.contains_key(ENDPOINTS_MANAGED_BY)) {
                queue.add(ObjectKey::of(&**change.object()));
            }
        })
}

/// The Service that one of this controller's slices is of.
fn service_of(slice: &EndpointSlice) -> Option<ObjectKey> {
    let labels = slice.metadata.labels.as_ref()?;
    if labels.get(MANAGED_BY).map(String::as_str) != Some(MANAGER) {
        return None;
    }
    let namespace = slice.metadata.namespace.clone().unwrap_or_default();
    Some(ObjectKey::new(namespace, labels.get(SERVICE_NAME)?.clone()))
}

/// Adds the Services that a changed pod answers or answered for, if the change concerns them.
fn add_services_of(services: &Informer<Service>, change: &Change<Pod>, queue: &Queue<ObjectKey>) {
    if let Change::Updated { old, new } = change
        && is_same_endpoint(old, new)
    {
        return;
    }
    let meta = &change.object().metadata;
    let old_labels = change.old().and_then(|old| old.metadata.labels.as_ref());
    for service in services.list_in(meta.namespace.as_deref().unwrap_or_default()) {
        let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        let Some(selector) = selector.filter(|selector| !selector.is_empty()) else { continue };
        let has = object::has_labels(selector, meta.labels.as_ref());
        let had = old_labels.is_some_and(|old| object::has_labels(selector, Some(old)));
        if has || had {
            queue.add(ObjectKey::of(&*service));
        }
    }
}

/// Whether nothing that endpoints show has changed.
fn is_same_endpoint(old: &Pod, new: &Pod) -> bool {
    let addresses = |pod: &Pod| {
        let status = pod.status.as_ref();
        status.map(|status| (status.pod_ip.clone(), status.pod_ips.clone()))
    };
    let place = |pod: &Pod| {
        let spec = pod.spec.as_ref();
        spec.map(|spec| (spec.node_name.clone(), spec.hostname.clone(), spec.subdomain.clone()))
    };
    old.metadata.labels == new.metadata.labels
        && object::is_deleting(&old.metadata) == object::is_deleting(&new.metadata)
        && object::is_ready(old) == object::is_ready(new)
        && object::is_finished(old) == object::is_finished(new)
        && addresses(old) == addresses(new)
        && place(old) == place(new)
}

impl Controller for EndpointSlices {
    type Key = ObjectKey;
    type Snapshot = Snapshot;

    fn name(&self) -> &'static str {
        "endpointslice-controller"
    }

    async fn snapshot(&self, key: &ObjectKey) -> Result<Option<Snapshot>, SnapshotError> {
        let nodes = self.nodes.list();
        let zones: BTreeMap<String, String> = nodes
            .iter()
            .filter_map(|node| {
                let zone = node.metadata.labels.as_ref()?.get(ZONE)?;
                Some((node.metadata.name.clone()?, zone.clone()))
            })
            .collect();
        let service = self.services.get_key(key);
        let selector = service.as_ref().and_then(|service| service.spec.as_ref()?.selector.as_ref());
        let mut pods = Vec::new();
        if let Some(selector) = selector.filter(|selector| !selector.is_empty()) {
            pods = self.pods.list_in(&key.namespace);
            pods.retain(|pod| object::has_labels(selector, pod.metadata.labels.as_ref()));
        }
        Ok(Some(Snapshot {
            pods,
            slices: self.slices.by_index(BY_SERVICE, &key.to_string()),
            endpoints: self.endpoints.get_key(key),
            service,
            zones,
        }))
    }

    fn plan(&self, snapshot: &Snapshot, now: Timestamp) -> Plan {
        endpointslice::plan(snapshot, now)
    }
}
