//! The old Endpoints object, which `kubectl get endpoints` and older clients read.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{Backend, ENDPOINTS_MANAGED_BY, ENDPOINTS_MANAGER, Port, Snapshot};
use crate::controllers::action::{Plan, Write};

/// Addresses in one Endpoints object at most; the rest are left out and an annotation says so.
const ADDRESSES_MAX: usize = 1000;
/// That annotation.
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";

/// Ready and unready addresses behind the same ports.
type Sides = (Vec<EndpointAddress>, Vec<EndpointAddress>);

/// Adds the write that brings the Endpoints to hold `backends`, if one is needed.
pub(super) fn reconcile(snapshot: &Snapshot, service: &Service, backends: &[Backend<'_>], plan: &mut Plan) {
    let (subsets, truncated) = subsets(service, backends);
    let mut labels = super::labels(service);
    labels.insert(ENDPOINTS_MANAGED_BY.to_owned(), ENDPOINTS_MANAGER.to_owned());
    let subsets = (!subsets.is_empty()).then_some(subsets);
    let Some(existing) = snapshot.endpoints.as_deref() else {
        let metadata = ObjectMeta {
            name: service.metadata.name.clone(),
            namespace: service.metadata.namespace.clone(),
            labels: Some(labels),
            annotations: truncated.then(over_capacity),
            ..ObjectMeta::default()
        };
        plan.write(Write::create(&Endpoints { metadata, subsets }));
        return;
    };
    let mut next = existing.clone();
    next.metadata.labels = Some(labels);
    next.subsets = subsets;
    if let Some(annotations) = next.metadata.annotations.as_mut() {
        annotations.remove(OVER_CAPACITY);
    }
    if truncated {
        next.metadata.annotations.get_or_insert_default().extend(over_capacity());
    }
    let filled = |endpoints: &Endpoints| endpoints.subsets.clone().unwrap_or_default();
    let same = filled(&next) == filled(existing)
        && next.metadata.labels == existing.metadata.labels
        && next.metadata.annotations == existing.metadata.annotations;
    if !same {
        plan.write(Write::update(&next));
    }
}

fn over_capacity() -> BTreeMap<String, String> {
    [(OVER_CAPACITY.to_owned(), "truncated".to_owned())].into()
}

/// The subsets, ordered by their ports, and whether some addresses had no room.
fn subsets(service: &Service, backends: &[Backend<'_>]) -> (Vec<EndpointSubset>, bool) {
    let listed = service.spec.as_ref().and_then(|spec| spec.ip_families.as_ref());
    let wants_v6 = listed.and_then(|all| all.first()).is_some_and(|family| family == "IPv6");
    let has_ports = service.spec.as_ref().is_some_and(|spec| spec.ports.is_some());
    let mut groups: BTreeMap<Vec<Port>, Sides> = BTreeMap::new();
    let mut count = 0;
    let mut truncated = false;
    let staying = backends.iter().filter(|backend| !backend.terminating);
    for backend in staying.filter(|backend| !has_ports || !backend.ports.is_empty()) {
        let of_family = backend.addresses.iter().find(|address| address.is_ipv6() == wants_v6);
        let Some(address) = of_family else { continue };
        if count == ADDRESSES_MAX {
            truncated = true;
            break;
        }
        count += 1;
        let (ready, unready) = groups.entry(backend.ports.clone()).or_default();
        let side = if backend.ready { ready } else { unready };
        side.push(EndpointAddress {
            ip: address.to_string(),
            node_name: backend.node(),
            target_ref: Some(backend.reference()),
            hostname: backend.hostname.clone(),
        });
    }
    let some = |mut side: Vec<EndpointAddress>| {
        side.sort_by(|a, b| a.ip.cmp(&b.ip));
        (!side.is_empty()).then_some(side)
    };
    let subsets = groups.into_iter().map(|(ports, (ready, unready))| EndpointSubset {
        addresses: some(ready),
        not_ready_addresses: some(unready),
        ports: (!ports.is_empty()).then(|| ports.into_iter().map(subset_port).collect()),
    });
    (subsets.collect(), truncated)
}

fn subset_port(port: Port) -> EndpointPort {
    EndpointPort {
        name: Some(port.name).filter(|name| !name.is_empty()),
        port: port.number,
        protocol: Some(port.protocol),
        app_protocol: port.app_protocol,
    }
}
