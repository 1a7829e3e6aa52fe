//! The routing as the node network API carries it. Nothing is decided here.

use coracle_cri::network::v1 as wire;
use coracle_plan::services::{Endpoint, HostRoute, Node, Port, Protocol, Routing, Service};

/// The sync request of a routing.
pub(crate) fn request(routing: &Routing, generation: u64, cluster_domain: &str) -> wire::SyncRequest {
    wire::SyncRequest {
        generation,
        cluster_domain: cluster_domain.to_owned(),
        services: routing.services.iter().map(service).collect(),
        nodes: routing.nodes.iter().map(node).collect(),
        host_routes: routing.host_routes.iter().map(host_route).collect(),
    }
}

fn service(service: &Service) -> wire::Service {
    wire::Service {
        namespace: service.namespace.clone(),
        name: service.name.clone(),
        cluster_ips: service.cluster_ips.iter().map(ToString::to_string).collect(),
        ports: service.ports.iter().map(port).collect(),
        external_local: service.external_local,
        internal_local: service.internal_local,
        affinity_timeout_s: service.affinity_timeout_s,
        publish_not_ready: service.publish_not_ready,
        external_name: service.external_name.clone(),
    }
}

fn port(port: &Port) -> wire::ServicePort {
    wire::ServicePort {
        name: port.name.clone(),
        protocol: protocol(port.protocol).into(),
        port: port.port.into(),
        node_port: port.node_port.into(),
        endpoints: port.endpoints.iter().map(endpoint).collect(),
    }
}

fn protocol(protocol: Protocol) -> wire::Protocol {
    match protocol {
        Protocol::Tcp => wire::Protocol::Tcp,
        Protocol::Udp => wire::Protocol::Udp,
        Protocol::Sctp => wire::Protocol::Sctp,
    }
}

fn endpoint(endpoint: &Endpoint) -> wire::Endpoint {
    wire::Endpoint {
        address: endpoint.address.to_string(),
        port: endpoint.port.into(),
        node: endpoint.node.clone(),
        hostname: endpoint.hostname.clone(),
        ready: endpoint.ready,
        serving: endpoint.serving,
        terminating: endpoint.terminating,
    }
}

fn node(node: &Node) -> wire::Node {
    wire::Node {
        name: node.name.clone(),
        pod_cidrs: node.pod_cidrs.iter().map(ToString::to_string).collect(),
        tunnel_address: node.tunnel_address.clone(),
    }
}

fn host_route(route: &HostRoute) -> wire::HostRoute {
    wire::HostRoute {
        address: route.from.ip().to_string(),
        port: route.from.port().into(),
        host_address: route.to.to_string(),
    }
}
