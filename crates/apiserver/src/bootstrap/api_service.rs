//! `default/kubernetes`: how pods reach the API.
//!
//! The Service has the first address of the service range; its endpoint is the masters'
//! address in the fabric, since pods cannot reach the host. An annotation on the slice says
//! where on the host the fabric finds this server.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde_json::{Value, json};

use super::Wanted;
use crate::config::Config;

/// Port of the API inside the cluster's network, whatever the port on the host is.
const FABRIC_PORT: u16 = 6443;
/// Tells the proxy where on the host the masters' fabric address leads.
const HOST_ADDRESS: &str = "network.coracle.dev/host-address";

/// Service, Endpoints and EndpointSlice.
pub(super) fn wanted(config: &Config, address: SocketAddr) -> Vec<Wanted> {
    let ip = config.master_fabric_ip.to_string();
    let first = Ipv4Addr::from(u32::from(config.service_cidr.network()).saturating_add(1)).to_string();
    let host = reachable(config.host_address.unwrap_or(address)).to_string();
    let labels = json!({ "component": "apiserver", "provider": "kubernetes" });
    let service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": "kubernetes", "namespace": "default", "labels": labels },
        "spec": {
            "type": "ClusterIP",
            "clusterIP": first,
            "clusterIPs": [first],
            "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack",
            "sessionAffinity": "None",
            "ports": [{ "name": "https", "protocol": "TCP", "port": 443, "targetPort": FABRIC_PORT }],
        },
    });
    let ports = json!([{ "name": "https", "protocol": "TCP", "port": FABRIC_PORT }]);
    let endpoints = json!({
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "labels": { "endpointslice.kubernetes.io/skip-mirror": "true" },
        },
        "subsets": [{ "addresses": [{ "ip": ip }], "ports": ports }],
    });
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "labels": { "kubernetes.io/service-name": "kubernetes" },
            "annotations": { HOST_ADDRESS: host },
        },
        "addressType": "IPv4",
        "endpoints": [{ "addresses": [ip], "conditions": { "ready": true } }],
        "ports": ports,
    });
    vec![
        Wanted::once("", "services", service),
        Wanted { renew: follow_subsets, ..Wanted::once("", "endpoints", endpoints) },
        Wanted { renew: follow_address, ..Wanted::once("discovery.k8s.io", "endpointslices", slice) },
    ]
}

/// An address that can be connected to: listening everywhere is reached at loopback.
fn reachable(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), address.port()),
        IpAddr::V6(ip) if ip.is_unspecified() => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), address.port()),
        _ => address,
    }
}

fn follow_subsets(stored: &Value, wanted: &Value) -> Option<Value> {
    if stored.pointer("/subsets/0/addresses/0/ip") == wanted.pointer("/subsets/0/addresses/0/ip") {
        return None;
    }
    let mut renewed = stored.clone();
    renewed["subsets"] = wanted["subsets"].clone();
    Some(renewed)
}

fn follow_address(stored: &Value, wanted: &Value) -> Option<Value> {
    let facts = |slice: &Value| {
        let host = slice["metadata"]["annotations"][HOST_ADDRESS].clone();
        (host, slice.pointer("/endpoints/0/addresses/0").cloned())
    };
    if facts(stored) == facts(wanted) {
        return None;
    }
    let mut renewed = stored.clone();
    renewed["metadata"]["annotations"][HOST_ADDRESS] =
        wanted["metadata"]["annotations"][HOST_ADDRESS].clone();
    renewed["endpoints"] = wanted["endpoints"].clone();
    Some(renewed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_port_is_followed_and_the_same_one_changes_nothing() {
        let slice = |host: &str| {
            json!({
                "metadata": { "resourceVersion": "7", "annotations": { HOST_ADDRESS: host } },
                "endpoints": [{ "addresses": ["10.127.255.1"] }],
            })
        };
        assert_eq!(follow_address(&slice("127.0.0.1:1"), &slice("127.0.0.1:1")), None);
        assert_eq!(follow_address(&slice("127.0.0.1:1"), &slice("127.0.0.1:2")), Some(slice("127.0.0.1:2")));
    }

    #[test]
    fn listening_everywhere_is_reached_at_loopback() {
        let at = |text: &str| reachable(text.parse().unwrap()).to_string();
        assert_eq!(at("0.0.0.0:6443"), "127.0.0.1:6443");
        assert_eq!(at("[::]:6443"), "127.0.0.1:6443");
        assert_eq!(at("192.0.2.1:6443"), "192.0.2.1:6443");
    }
}
