//! Distributing endpoints over slices with as few changes as possible.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{Backend, MANAGED_BY, MANAGER, Port, SERVICE_NAME, Snapshot};
use crate::controllers::action::{Plan, Write};
use crate::controllers::object;

/// Endpoints in one slice at most (kube-controller-manager's default).
pub(super) const ENDPOINTS_PER_SLICE_MAX: usize = 100;

/// What keeps endpoints in different slices: the family of their addresses, and their ports.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Group {
    family: &'static str,
    ports: Vec<Port>,
}

/// Adds the writes that bring the Service's slices to hold `backends`.
pub(super) fn reconcile(snapshot: &Snapshot, service: &Service, backends: &[Backend<'_>], plan: &mut Plan) {
    let mut wanted = gather(snapshot, service, backends);
    if wanted.is_empty() {
        // One empty slice says that the Service is known and has nobody.
        let family = families(service).first().copied().unwrap_or("IPv4");
        wanted.insert(Group { family, ports: Vec::new() }, Vec::new());
    }
    let mut existing: BTreeMap<Group, Vec<&Arc<EndpointSlice>>> = BTreeMap::new();
    for slice in &snapshot.slices {
        if object::is_deleting(&slice.metadata) {
            continue;
        }
        match group_of(slice).filter(|group| wanted.contains_key(group)) {
            Some(group) => existing.entry(group).or_default().push(slice),
            None => plan.write(Write::delete(&**slice)),
        }
    }
    let mut makes = Vec::new();
    for (group, endpoints) in wanted {
        let slices = existing.remove(&group).unwrap_or_default();
        distribute(service, &group, endpoints, &slices, plan, &mut makes);
    }
    for slice in &makes {
        plan.write(Write::create(slice));
    }
}

fn gather(
    snapshot: &Snapshot,
    service: &Service,
    backends: &[Backend<'_>],
) -> BTreeMap<Group, Vec<Endpoint>> {
    let mut wanted: BTreeMap<Group, Vec<Endpoint>> = BTreeMap::new();
    for family in families(service) {
        for backend in backends {
            let of_family: Vec<String> = backend
                .addresses
                .iter()
                .filter(|address| family_of(address) == family)
                .map(IpAddr::to_string)
                .take(1)
                .collect();
            if of_family.is_empty() {
                continue;
            }
            let group = Group { family, ports: backend.ports.clone() };
            wanted.entry(group).or_default().push(endpoint(snapshot, backend, of_family));
        }
    }
    wanted
}

fn endpoint(snapshot: &Snapshot, backend: &Backend<'_>, addresses: Vec<String>) -> Endpoint {
    let node_name = backend.node();
    let zone = node_name.as_ref().and_then(|node| snapshot.zones.get(node)).cloned();
    Endpoint {
        addresses,
        conditions: Some(EndpointConditions {
            ready: Some(backend.ready),
            serving: Some(backend.serving),
            terminating: Some(backend.terminating),
        }),
        hostname: backend.hostname.clone(),
        node_name,
        target_ref: Some(backend.reference()),
        zone,
        ..Endpoint::default()
    }
}

/// Places `endpoints` in `slices`: each where it is, the rest in gaps, what is left in new ones.
fn distribute(
    service: &Service,
    group: &Group,
    endpoints: Vec<Endpoint>,
    slices: &[&Arc<EndpointSlice>],
    plan: &mut Plan,
    makes: &mut Vec<EndpointSlice>,
) {
    let mut homeless: BTreeMap<String, Endpoint> =
        endpoints.into_iter().map(|endpoint| (identity(&endpoint), endpoint)).collect();
    let mut kept: Vec<Vec<Endpoint>> = slices
        .iter()
        .map(|slice| {
            let known = slice.endpoints.iter().flatten();
            known.filter_map(|endpoint| homeless.remove(&identity(endpoint))).collect()
        })
        .collect();
    // A slice that changes anyway is filled before one that need not change.
    let mut order: Vec<usize> = (0..slices.len()).collect();
    order.sort_by_key(|&at| is_same(slices[at], &kept[at]));
    let mut homeless = homeless.into_values();
    for &at in &order {
        let room = ENDPOINTS_PER_SLICE_MAX.saturating_sub(kept[at].len());
        kept[at].extend(homeless.by_ref().take(room));
    }
    let labels = slice_labels(service);
    let mut remaining = kept.iter().filter(|endpoints| !endpoints.is_empty()).count();
    let mut spare_kept = false;
    for (slice, endpoints) in slices.iter().zip(kept) {
        // The last slice stays although it is empty.
        if endpoints.is_empty() && (remaining > 0 || spare_kept) {
            plan.write(Write::delete(&***slice));
            continue;
        }
        spare_kept |= endpoints.is_empty();
        if !is_same(slice, &endpoints) || slice.metadata.labels.as_ref() != Some(&labels) {
            let mut changed = EndpointSlice::clone(slice);
            changed.endpoints = Some(endpoints);
            changed.metadata.labels = Some(labels.clone());
            plan.write(Write::update(&changed));
        }
    }
    let rest: Vec<Endpoint> = homeless.collect();
    for chunk in rest.chunks(ENDPOINTS_PER_SLICE_MAX) {
        remaining += 1;
        makes.push(make(service, group, chunk.to_vec()));
    }
    if remaining == 0 && !spare_kept {
        makes.push(make(service, group, Vec::new()));
    }
}

/// An endpoint is the same while its pod and address are.
fn identity(endpoint: &Endpoint) -> String {
    let uid = endpoint.target_ref.as_ref().and_then(|target| target.uid.as_deref());
    format!("{}/{}", uid.unwrap_or_default(), endpoint.addresses.join(","))
}

fn is_same(slice: &EndpointSlice, endpoints: &[Endpoint]) -> bool {
    slice.endpoints.as_deref().unwrap_or_default() == endpoints
}

fn make(service: &Service, group: &Group, endpoints: Vec<Endpoint>) -> EndpointSlice {
    EndpointSlice {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", object::name(&service.metadata))),
            namespace: service.metadata.namespace.clone(),
            labels: Some(slice_labels(service)),
            owner_references: Some(vec![object::controller_reference(service)]),
            ..ObjectMeta::default()
        },
        address_type: group.family.to_owned(),
        endpoints: Some(endpoints),
        ports: (!group.ports.is_empty()).then(|| group.ports.iter().map(slice_port).collect()),
    }
}

fn slice_labels(service: &Service) -> object::Labels {
    let mut labels = super::labels(service);
    labels.insert(SERVICE_NAME.to_owned(), object::name(&service.metadata).to_owned());
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    labels
}

fn slice_port(port: &Port) -> EndpointPort {
    EndpointPort {
        name: Some(port.name.clone()),
        port: Some(port.number),
        protocol: Some(port.protocol.clone()),
        app_protocol: port.app_protocol.clone(),
    }
}

fn group_of(slice: &EndpointSlice) -> Option<Group> {
    let family = match slice.address_type.as_str() {
        "IPv4" => "IPv4",
        "IPv6" => "IPv6",
        _ => return None,
    };
    let ports = slice.ports.iter().flatten().map(|port| {
        Some(Port {
            name: port.name.clone().unwrap_or_default(),
            protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
            number: port.port?,
            app_protocol: port.app_protocol.clone(),
        })
    });
    Some(Group { family, ports: ports.collect::<Option<Vec<Port>>>()? })
}

fn families(service: &Service) -> Vec<&'static str> {
    let listed = service.spec.as_ref().and_then(|spec| spec.ip_families.as_ref());
    let known = listed.into_iter().flatten().filter_map(|family| match family.as_str() {
        "IPv4" => Some("IPv4"),
        "IPv6" => Some("IPv6"),
        _ => None,
    });
    let known: Vec<&'static str> = known.collect();
    if known.is_empty() { vec!["IPv4"] } else { known }
}

fn family_of(address: &IpAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}
