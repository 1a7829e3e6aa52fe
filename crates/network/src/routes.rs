//! The routing snapshot: what one sync request means, indexed for the questions that a
//! connect asks. Built whole, never changed, replaced whole; building reads no clock and
//! touches no socket. Only the state of Service ports (turns, affinity) is carried over.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use coracle_cri::network::v1::{self as wire, Protocol};
use ipnet::IpNet;

use crate::error::Error;
use crate::names::{Names, ServiceNames};
use crate::service::{Candidate, Policy, PortId, PortRoute, usable};

/// Everything that the fabric routes by.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    pub(crate) generation: u64,
    pub(crate) names: Names,
    pub(crate) node_ports: BTreeMap<u16, Arc<PortRoute>>,
    /// Node ports of protocols that the fabric does not carry.
    pub(crate) foreign_node_ports: Vec<wire::PortProblem>,
    virtuals: HashMap<SocketAddr, Arc<PortRoute>>,
    service_ips: HashSet<IpAddr>,
    /// By first address; pod ranges do not overlap.
    nodes: BTreeMap<IpAddr, (IpNet, Arc<NodeRoute>)>,
    host_routes: HashMap<SocketAddr, SocketAddr>,
}

/// Another node, or this one.
#[derive(Debug)]
pub(crate) struct NodeRoute {
    pub(crate) name: String,
    /// `host:port` of its tunnel; empty where it has none.
    pub(crate) tunnel_address: String,
}

impl Routes {
    /// Indexes a request for the node called `node`.
    pub(crate) fn build(request: &wire::SyncRequest, node: &str, previous: &Self) -> Result<Self, Error> {
        let mut routes = Self {
            generation: request.generation,
            names: Names::new(&request.cluster_domain),
            ..Self::default()
        };
        let states = previous.states();
        for service in &request.services {
            routes.add_service(service, node, &states)?;
        }
        for node in &request.nodes {
            routes.add_node(node)?;
        }
        for route in &request.host_routes {
            let from = SocketAddr::new(ip(&route.address)?, port(route.port)?);
            let to = route
                .host_address
                .parse()
                .map_err(|_| Error::InvalidRequest(format!("host address {:?}", route.host_address)))?;
            routes.host_routes.insert(from, to);
        }
        Ok(routes)
    }

    /// The Service port at a cluster address.
    pub(crate) fn service(&self, to: &SocketAddr) -> Option<&Arc<PortRoute>> {
        self.virtuals.get(to)
    }

    /// Whether the address is some Service's, at whatever port.
    pub(crate) fn is_service_ip(&self, address: &IpAddr) -> bool {
        self.service_ips.contains(address)
    }

    /// The socket of the host network that an address of the fabric leads to.
    pub(crate) fn host_route(&self, to: &SocketAddr) -> Option<SocketAddr> {
        self.host_routes.get(to).copied()
    }

    /// The node whose pod range holds the address.
    pub(crate) fn node_of(&self, address: &IpAddr) -> Option<&Arc<NodeRoute>> {
        let (_, (range, node)) = self.nodes.range(..=*address).next_back()?;
        range.contains(address).then_some(node)
    }

    /// Every node, this one included; a node of several ranges comes several times.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = &NodeRoute> {
        self.nodes.values().map(|(_, node)| node.as_ref())
    }

    fn states(&self) -> HashMap<&PortId, &Arc<PortRoute>> {
        self.virtuals.values().chain(self.node_ports.values()).map(|route| (&route.id, route)).collect()
    }

    fn add_service(
        &mut self,
        service: &wire::Service,
        node: &str,
        states: &HashMap<&PortId, &Arc<PortRoute>>,
    ) -> Result<(), Error> {
        let cluster_ips = service.cluster_ips.iter().map(|text| ip(text)).collect::<Result<Vec<_>, _>>()?;
        self.names.add(&service.namespace, &service.name, names_of(service, &cluster_ips)?);
        self.service_ips.extend(&cluster_ips);
        if !service.external_name.is_empty() {
            return Ok(());
        }
        for wire_port in &service.ports {
            match Protocol::try_from(wire_port.protocol) {
                Ok(Protocol::Tcp) => {}
                Ok(Protocol::Udp | Protocol::Sctp) => {
                    self.foreign_node_ports.extend(not_carried(service, wire_port));
                    continue;
                }
                Ok(Protocol::Unspecified) | Err(_) => {
                    let number = wire_port.protocol;
                    return Err(Error::InvalidRequest(format!("protocol {number}")));
                }
            }
            if cluster_ips.is_empty() && wire_port.node_port == 0 {
                continue;
            }
            let route = Arc::new(port_route(service, wire_port, node, states)?);
            for address in &cluster_ips {
                self.virtuals.insert((*address, route.id.port).into(), Arc::clone(&route));
            }
            if wire_port.node_port != 0 {
                self.node_ports.insert(port(wire_port.node_port)?, route);
            }
        }
        Ok(())
    }

    fn add_node(&mut self, node: &wire::Node) -> Result<(), Error> {
        let route =
            Arc::new(NodeRoute { name: node.name.clone(), tunnel_address: node.tunnel_address.clone() });
        for text in &node.pod_cidrs {
            let range: IpNet =
                text.parse().map_err(|_| Error::InvalidRequest(format!("pod range {text:?}")))?;
            self.nodes.insert(range.network(), (range, Arc::clone(&route)));
        }
        Ok(())
    }
}

fn port_route(
    service: &wire::Service,
    wire_port: &wire::ServicePort,
    node: &str,
    states: &HashMap<&PortId, &Arc<PortRoute>>,
) -> Result<PortRoute, Error> {
    let id = PortId {
        namespace: service.namespace.clone(),
        service: service.name.clone(),
        port: port(wire_port.port)?,
    };
    let endpoints = wire_port
        .endpoints
        .iter()
        .map(|endpoint| candidate(endpoint, node, service.publish_not_ready))
        .collect::<Result<Vec<_>, _>>()?;
    let external_policy = Policy::local_if(service.external_local);
    Ok(PortRoute {
        internal: usable(&endpoints, Policy::local_if(service.internal_local)),
        external: usable(&endpoints, external_policy),
        external_policy,
        affinity: Duration::from_secs(service.affinity_timeout_s.into()),
        state: states.get(&id).map(|route| Arc::clone(&route.state)).unwrap_or_default(),
        id,
    })
}

fn candidate(endpoint: &wire::Endpoint, node: &str, publish_not_ready: bool) -> Result<Candidate, Error> {
    Ok(Candidate {
        address: SocketAddr::new(ip(&endpoint.address)?, port(endpoint.port)?),
        local: endpoint.node == node,
        ready: endpoint.ready || publish_not_ready,
        serving: endpoint.serving,
        terminating: endpoint.terminating,
    })
}

/// What names say about a Service. A headless one without ports lists its endpoints under
/// a port 0.
fn names_of(service: &wire::Service, cluster_ips: &[IpAddr]) -> Result<ServiceNames, Error> {
    let mut names = ServiceNames {
        cluster_ips: cluster_ips.to_vec(),
        external_name: Some(service.external_name.clone()).filter(|name| !name.is_empty()),
        ..ServiceNames::default()
    };
    if !cluster_ips.is_empty() {
        return Ok(names);
    }
    let endpoints = service.ports.iter().flat_map(|port| &port.endpoints);
    for endpoint in endpoints.filter(|endpoint| endpoint.ready || service.publish_not_ready) {
        let address = ip(&endpoint.address)?;
        names.endpoints.insert(address);
        if !endpoint.hostname.is_empty() {
            names.hosts.entry(endpoint.hostname.to_ascii_lowercase()).or_default().insert(address);
        }
    }
    Ok(names)
}

fn not_carried(service: &wire::Service, wire_port: &wire::ServicePort) -> Option<wire::PortProblem> {
    (wire_port.node_port != 0).then(|| wire::PortProblem {
        namespace: service.namespace.clone(),
        service: service.name.clone(),
        protocol: wire_port.protocol,
        node_port: wire_port.node_port,
        message: "this node's network carries TCP only".to_owned(),
    })
}

fn ip(text: &str) -> Result<IpAddr, Error> {
    text.parse().map_err(|_| Error::InvalidRequest(format!("address {text:?}")))
}

fn port(number: u32) -> Result<u16, Error> {
    u16::try_from(number)
        .ok()
        .filter(|port| *port != 0)
        .ok_or_else(|| Error::InvalidRequest(format!("port {number}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> wire::SyncRequest {
        wire::SyncRequest {
            generation: 7,
            cluster_domain: "cluster.local".into(),
            services: vec![wire::Service {
                namespace: "default".into(),
                name: "web".into(),
                cluster_ips: vec!["10.0.0.9".into()],
                ports: vec![wire::ServicePort {
                    name: "http".into(),
                    protocol: Protocol::Tcp.into(),
                    port: 80,
                    node_port: 30080,
                    endpoints: vec![wire::Endpoint {
                        address: "10.128.0.5".into(),
                        port: 8080,
                        node: "a".into(),
                        ready: true,
                        serving: true,
                        ..wire::Endpoint::default()
                    }],
                }],
                ..wire::Service::default()
            }],
            nodes: vec![
                wire::Node {
                    name: "a".into(),
                    pod_cidrs: vec!["10.128.0.0/18".into()],
                    tunnel_address: String::new(),
                },
                wire::Node {
                    name: "b".into(),
                    pod_cidrs: vec!["10.128.64.0/18".into()],
                    tunnel_address: "127.0.0.2:4000".into(),
                },
            ],
            host_routes: vec![wire::HostRoute {
                address: "10.127.255.1".into(),
                port: 6443,
                host_address: "127.0.0.1:7000".into(),
            }],
        }
    }

    fn build(request: &wire::SyncRequest) -> Result<Routes, Error> {
        Routes::build(request, "a", &Routes::default())
    }

    #[test]
    fn answers_what_the_request_said() {
        let routes = build(&request()).unwrap();
        let web = routes.service(&"10.0.0.9:80".parse().unwrap()).unwrap();
        assert_eq!(web.internal, ["10.128.0.5:8080".parse().unwrap()]);
        assert!(routes.service(&"10.0.0.9:81".parse().unwrap()).is_none());
        assert!(routes.is_service_ip(&"10.0.0.9".parse().unwrap()));
        assert!(routes.node_ports.contains_key(&30080));
        let host = routes.host_route(&"10.127.255.1:6443".parse().unwrap());
        assert_eq!(host, Some("127.0.0.1:7000".parse().unwrap()));
        let node = |address: &str| routes.node_of(&address.parse().unwrap()).map(|node| node.name.as_str());
        assert_eq!(node("10.128.0.5"), Some("a"));
        assert_eq!(node("10.128.127.255"), Some("b"));
        assert_eq!(node("10.128.128.0"), None);
        assert_eq!(node("1.1.1.1"), None);
        assert_eq!(node("fd00::1"), None);
    }

    #[test]
    fn port_state_survives_a_sync() {
        let first = build(&request()).unwrap();
        let second = Routes::build(&request(), "a", &first).unwrap();
        let at = "10.0.0.9:80".parse().unwrap();
        let (old, new) = (first.service(&at).unwrap(), second.service(&at).unwrap());
        assert!(Arc::ptr_eq(&old.state, &new.state));
    }

    #[test]
    fn local_policies_see_this_node_only() {
        let mut request = request();
        request.services[0].external_local = true;
        request.services[0].ports[0].endpoints[0].node = "b".into();
        let routes = build(&request).unwrap();
        let web = &routes.node_ports[&30080];
        assert_eq!(web.internal.len(), 1);
        assert!(web.external.is_empty());
    }

    #[test]
    fn a_udp_node_port_is_a_problem_not_a_route() {
        let mut request = request();
        request.services[0].ports[0].protocol = Protocol::Udp.into();
        let routes = build(&request).unwrap();
        assert!(routes.node_ports.is_empty());
        assert_eq!(routes.foreign_node_ports[0].node_port, 30080);
    }

    #[test]
    fn refuses_what_it_cannot_mean() {
        let breakers: [fn(&mut wire::SyncRequest); 6] = [
            |request| request.services[0].cluster_ips[0] = "ten".into(),
            |request| request.services[0].ports[0].port = 70_000,
            |request| request.services[0].ports[0].protocol = 9,
            |request| request.services[0].ports[0].endpoints[0].address = String::new(),
            |request| request.nodes[0].pod_cidrs[0] = "10.0.0.0".into(),
            |request| request.host_routes[0].host_address = "here".into(),
        ];
        for (index, breaker) in breakers.iter().enumerate() {
            let mut request = request();
            breaker(&mut request);
            assert!(matches!(build(&request), Err(Error::InvalidRequest(_))), "{index}");
        }
    }
}
