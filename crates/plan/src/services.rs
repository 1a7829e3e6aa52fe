//! Service routing: from Services, EndpointSlices and Nodes to everything that a node's
//! network routes by. A pure function of the three; its result is sorted, so that equal
//! clusters give equal values and a change that matters to nobody is seen as none.
//!
//! Which endpoint takes a connection is decided by the node's network per connection, from
//! the conditions that are passed on here; what is decided here is which endpoints a port
//! has at all, as kube-proxy and cluster DNS see it. Objects with text that is no address
//! or no port lose that part; they never spoil the rest.

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;

/// On a Node: where its network accepts tunnels from other nodes, as `host:port`.
pub const TUNNEL_ADDRESS: &str = "network.coracle.dev/tunnel-address";
/// On the `default/kubernetes` EndpointSlice: the socket of the host network, `ip:port`,
/// that its addresses lead to.
pub const HOST_ADDRESS: &str = "network.coracle.dev/host-address";
/// On an EndpointSlice: the Service it belongs to.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Session affinity lasts this long where the Service does not say, as in Kubernetes.
const AFFINITY_TIMEOUT_DEFAULT_S: u32 = 10_800;

/// Everything that a node's network routes by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Routing {
    /// By namespace and name.
    pub services: Vec<Service>,
    /// By name.
    pub nodes: Vec<Node>,
    /// By address and port.
    pub host_routes: Vec<HostRoute>,
}

/// One Service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Service {
    /// Namespace of the Service.
    pub namespace: String,
    /// Name of the Service.
    pub name: String,
    /// Empty for a headless Service and for an ExternalName.
    pub cluster_ips: Vec<IpAddr>,
    /// In the order of the Service. A headless Service without ports has one of number 0,
    /// which carries its endpoints for names.
    pub ports: Vec<Port>,
    /// `externalTrafficPolicy: Local`.
    pub external_local: bool,
    /// `internalTrafficPolicy: Local`.
    pub internal_local: bool,
    /// Seconds of `sessionAffinity: ClientIP`; 0 for none.
    pub affinity_timeout_s: u32,
    /// `publishNotReadyAddresses`.
    pub publish_not_ready: bool,
    /// Target of an ExternalName Service, else empty.
    pub external_name: String,
}

/// One port of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// May be empty.
    pub name: String,
    /// Transport protocol.
    pub protocol: Protocol,
    /// The port at the cluster addresses.
    pub port: u16,
    /// 0 when there is none.
    pub node_port: u16,
    /// By address and port, each once.
    pub endpoints: Vec<Endpoint>,
}

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// TCP, the default.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// One endpoint of a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The address.
    pub address: IpAddr,
    /// The port at the address; 0 only under a port 0.
    pub port: u16,
    /// The node that runs it; may be empty.
    pub node: String,
    /// Its own name under a headless Service; may be empty.
    pub hostname: String,
    /// Takes connections.
    pub ready: bool,
    /// Would be ready, were it not terminating.
    pub serving: bool,
    /// Is on its way out.
    pub terminating: bool,
}

/// A node that has pod addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Name of the Node.
    pub name: String,
    /// Ranges of its pods' addresses.
    pub pod_cidrs: Vec<IpNet>,
    /// `host:port` of its tunnel; empty when it has none.
    pub tunnel_address: String,
}

/// A fabric address that leads to a socket of the host network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostRoute {
    /// The address in the cluster.
    pub from: SocketAddr,
    /// The socket of the host network.
    pub to: SocketAddr,
}

/// The routing of a cluster.
pub fn routing<S, E, N>(services: &[S], slices: &[E], nodes: &[N]) -> Routing
where
    S: Borrow<core::Service>,
    E: Borrow<discovery::EndpointSlice>,
    N: Borrow<core::Node>,
{
    let slices: Vec<&discovery::EndpointSlice> = slices.iter().map(Borrow::borrow).collect();
    let by_service = slices_by_service(&slices);
    let mut routing = Routing {
        services: services.iter().filter_map(|one| service(one.borrow(), &by_service)).collect(),
        nodes: nodes.iter().filter_map(|one| node(one.borrow())).collect(),
        host_routes: slices.iter().flat_map(|slice| host_routes(slice)).collect(),
    };
    routing.services.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    routing.nodes.sort_by(|a, b| a.name.cmp(&b.name));
    routing.host_routes.sort_unstable();
    routing.host_routes.dedup();
    routing
}

/// Whether a change of a Node can change the routing: most do not, since every heartbeat
/// changes its status.
pub fn node_matters(old: &core::Node, new: &core::Node) -> bool {
    node(old) != node(new)
}

type Slices<'a> = HashMap<(&'a str, &'a str), Vec<&'a discovery::EndpointSlice>>;

fn slices_by_service<'a>(slices: &[&'a discovery::EndpointSlice]) -> Slices<'a> {
    let mut all = Slices::new();
    for &slice in slices {
        let labels = slice.metadata.labels.as_ref();
        let Some(name) = labels.and_then(|labels| labels.get(SERVICE_NAME)) else { continue };
        let namespace = slice.metadata.namespace.as_deref().unwrap_or_default();
        all.entry((namespace, name.as_str())).or_default().push(slice);
    }
    all
}

fn service(object: &core::Service, slices: &Slices<'_>) -> Option<Service> {
    let spec = object.spec.as_ref()?;
    let name = object.metadata.name.as_deref()?;
    let namespace = object.metadata.namespace.as_deref()?;
    let mut service = Service {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        external_local: is(&spec.external_traffic_policy, "Local"),
        internal_local: is(&spec.internal_traffic_policy, "Local"),
        affinity_timeout_s: affinity_timeout_s(spec),
        publish_not_ready: spec.publish_not_ready_addresses.unwrap_or(false),
        ..Service::default()
    };
    if is(&spec.type_, "ExternalName") {
        service.external_name = spec.external_name.clone()?;
        return Some(service);
    }
    service.cluster_ips = cluster_ips(spec);
    let slices = slices.get(&(namespace, name)).map(Vec::as_slice).unwrap_or_default();
    let ports = spec.ports.as_deref().unwrap_or_default();
    service.ports = ports.iter().filter_map(|port| service_port(port, slices)).collect();
    if service.cluster_ips.is_empty() && ports.is_empty() {
        service.ports.push(Port {
            name: String::new(),
            protocol: Protocol::Tcp,
            port: 0,
            node_port: 0,
            endpoints: endpoints(slices, |_| Some(0)),
        });
    }
    Some(service)
}

fn cluster_ips(spec: &core::ServiceSpec) -> Vec<IpAddr> {
    let listed = spec.cluster_ips.as_deref().unwrap_or_default();
    let texts = if listed.is_empty() { spec.cluster_ip.as_slice() } else { listed };
    texts.iter().filter_map(|text| text.parse().ok()).collect()
}

fn affinity_timeout_s(spec: &core::ServiceSpec) -> u32 {
    if !is(&spec.session_affinity, "ClientIP") {
        return 0;
    }
    spec.session_affinity_config
        .as_ref()
        .and_then(|config| config.client_ip.as_ref())
        .and_then(|client| client.timeout_seconds)
        .and_then(|seconds| u32::try_from(seconds).ok())
        .filter(|seconds| *seconds > 0)
        .unwrap_or(AFFINITY_TIMEOUT_DEFAULT_S)
}

fn service_port(port: &core::ServicePort, slices: &[&discovery::EndpointSlice]) -> Option<Port> {
    let protocol = protocol(port.protocol.as_deref())?;
    let name = port.name.as_deref().unwrap_or_default();
    let target = |slice: &discovery::EndpointSlice| {
        slice
            .ports
            .iter()
            .flatten()
            .find(|candidate| {
                candidate.name.as_deref().unwrap_or_default() == name
                    && self::protocol(candidate.protocol.as_deref()) == Some(protocol)
            })
            .and_then(|found| number(found.port?))
    };
    Some(Port {
        name: name.to_owned(),
        protocol,
        port: number(port.port)?,
        node_port: port.node_port.and_then(number).unwrap_or(0),
        endpoints: endpoints(slices, target),
    })
}

/// The endpoints of all slices that have the port. The same address and port may be in two
/// slices for a while, when one is being moved; the ready one counts.
fn endpoints(
    slices: &[&discovery::EndpointSlice],
    target: impl Fn(&discovery::EndpointSlice) -> Option<u16>,
) -> Vec<Endpoint> {
    let mut all: BTreeMap<(IpAddr, u16), Endpoint> = BTreeMap::new();
    for slice in slices {
        let Some(port) = target(slice) else { continue };
        for object in slice.endpoints.iter().flatten() {
            // Further addresses of an endpoint are the same endpoint; the first is its main one.
            let address = object.addresses.first().and_then(|text| text.parse().ok());
            let Some(address) = address else { continue };
            let endpoint = endpoint(object, address, port);
            let known = all.get(&(address, port));
            if known.is_none_or(|known| endpoint.ready && !known.ready) {
                all.insert((address, port), endpoint);
            }
        }
    }
    all.into_values().collect()
}

/// Conditions that are not given mean: ready, serving if ready, not terminating.
fn endpoint(object: &discovery::Endpoint, address: IpAddr, port: u16) -> Endpoint {
    let conditions = object.conditions.as_ref();
    let condition = |pick: fn(&discovery::EndpointConditions) -> Option<bool>| conditions.and_then(pick);
    let ready = condition(|all| all.ready).unwrap_or(true);
    Endpoint {
        address,
        port,
        node: object.node_name.clone().unwrap_or_default(),
        hostname: object.hostname.clone().unwrap_or_default(),
        ready,
        serving: condition(|all| all.serving).unwrap_or(ready),
        terminating: condition(|all| all.terminating).unwrap_or(false),
    }
}

fn node(object: &core::Node) -> Option<Node> {
    let spec = object.spec.as_ref()?;
    let listed = spec.pod_cidrs.as_deref().unwrap_or_default();
    let texts = if listed.is_empty() { spec.pod_cidr.as_slice() } else { listed };
    let pod_cidrs: Vec<IpNet> = texts.iter().filter_map(|text| text.parse().ok()).collect();
    if pod_cidrs.is_empty() {
        return None;
    }
    let annotations = object.metadata.annotations.as_ref();
    Some(Node {
        name: object.metadata.name.clone()?,
        pod_cidrs,
        tunnel_address: annotations.and_then(|all| all.get(TUNNEL_ADDRESS)).cloned().unwrap_or_default(),
    })
}

/// Only the slice that the API server keeps for itself may lead out of the cluster: anyone
/// who may write some EndpointSlice could otherwise reach the host's loopback.
fn host_routes(slice: &discovery::EndpointSlice) -> Vec<HostRoute> {
    let meta = &slice.metadata;
    if meta.namespace.as_deref() != Some("default") || meta.name.as_deref() != Some("kubernetes") {
        return Vec::new();
    }
    let to = meta.annotations.as_ref().and_then(|all| all.get(HOST_ADDRESS));
    let Some(to) = to.and_then(|text| text.parse().ok()) else { return Vec::new() };
    let addresses = slice.endpoints.iter().flatten().flat_map(|endpoint| &endpoint.addresses);
    let addresses: Vec<IpAddr> = addresses.filter_map(|text| text.parse().ok()).collect();
    let ports = slice.ports.iter().flatten().filter_map(|port| number(port.port?));
    ports
        .flat_map(|port| addresses.iter().map(move |ip| HostRoute { from: (*ip, port).into(), to }))
        .collect()
}

fn protocol(text: Option<&str>) -> Option<Protocol> {
    match text.unwrap_or("TCP") {
        "TCP" => Some(Protocol::Tcp),
        "UDP" => Some(Protocol::Udp),
        "SCTP" => Some(Protocol::Sctp),
        _ => None,
    }
}

fn number(port: i32) -> Option<u16> {
    u16::try_from(port).ok().filter(|port| *port != 0)
}

fn is(field: &Option<String>, value: &str) -> bool {
    field.as_deref() == Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    fn meta(namespace: &str, name: &str) -> ObjectMeta {
        ObjectMeta {
            namespace: Some(namespace.into()).filter(|text: &String| !text.is_empty()),
            name: Some(name.into()),
            ..ObjectMeta::default()
        }
    }

    fn web() -> core::Service {
        core::Service {
            metadata: meta("default", "web"),
            spec: Some(core::ServiceSpec {
                type_: Some("NodePort".into()),
                cluster_ip: Some("10.0.0.9".into()),
                cluster_ips: Some(vec!["10.0.0.9".into()]),
                ports: Some(vec![core::ServicePort {
                    name: Some("http".into()),
                    port: 80,
                    node_port: Some(30080),
                    ..core::ServicePort::default()
                }]),
                ..core::ServiceSpec::default()
            }),
            status: None,
        }
    }

    fn edit(mut service: core::Service, change: impl FnOnce(&mut core::ServiceSpec)) -> core::Service {
        change(service.spec.as_mut().unwrap());
        service
    }

    fn at(address: &str) -> discovery::Endpoint {
        discovery::Endpoint {
            addresses: vec![address.into()],
            node_name: Some("node-a".into()),
            ..discovery::Endpoint::default()
        }
    }

    fn conditions(ready: bool, serving: Option<bool>, terminating: bool) -> discovery::EndpointConditions {
        discovery::EndpointConditions { ready: Some(ready), serving, terminating: Some(terminating) }
    }

    fn slice(
        name: &str,
        port: Option<(&str, i32)>,
        all: Vec<discovery::Endpoint>,
    ) -> discovery::EndpointSlice {
        let mut metadata = meta("default", name);
        metadata.labels = Some([(SERVICE_NAME.to_owned(), "web".to_owned())].into());
        discovery::EndpointSlice {
            address_type: "IPv4".into(),
            endpoints: Some(all),
            metadata,
            ports: port.map(|(name, port)| {
                vec![discovery::EndpointPort {
                    name: Some(name.into()),
                    port: Some(port),
                    ..discovery::EndpointPort::default()
                }]
            }),
        }
    }

    fn of(services: &[core::Service], slices: &[discovery::EndpointSlice]) -> Routing {
        routing::<_, _, core::Node>(services, slices, &[])
    }

    #[test]
    fn endpoints_come_from_the_slices_of_the_service_and_port() {
        let slices = [
            slice("web-1", Some(("http", 8080)), vec![at("10.128.0.3"), at("10.128.0.2"), at("no")]),
            slice("web-2", Some(("other", 9)), vec![at("10.128.0.9")]),
        ];
        let routing = of(&[web()], &slices);
        let port = &routing.services[0].ports[0];
        assert_eq!((port.port, port.node_port), (80, 30080));
        let found: Vec<String> =
            port.endpoints.iter().map(|one| format!("{}:{}", one.address, one.port)).collect();
        assert_eq!(found, ["10.128.0.2:8080", "10.128.0.3:8080"]);
        assert!(port.endpoints.iter().all(|one| one.ready && one.serving && !one.terminating));
    }

    #[test]
    fn conditions_are_passed_on_and_the_ready_twin_wins() {
        let mut leaving = at("10.128.0.2");
        leaving.conditions = Some(conditions(false, Some(true), true));
        let mut starting = at("10.128.0.3");
        starting.conditions = Some(conditions(false, None, false));
        let slices = [
            slice("web-1", Some(("http", 8080)), vec![leaving, starting]),
            slice("web-2", Some(("http", 8080)), vec![at("10.128.0.3")]),
        ];
        let routing = of(&[web()], &slices);
        let flags: Vec<_> = routing.services[0].ports[0]
            .endpoints
            .iter()
            .map(|one| (one.ready, one.serving, one.terminating))
            .collect();
        assert_eq!(flags, [(false, true, true), (true, true, false)]);
    }

    #[test]
    fn policies_and_affinity() {
        let plain = &of(&[web()], &[]).services[0];
        assert!(!plain.external_local && !plain.internal_local && plain.affinity_timeout_s == 0);
        let service = edit(web(), |spec| {
            spec.external_traffic_policy = Some("Local".into());
            spec.internal_traffic_policy = Some("Local".into());
            spec.session_affinity = Some("ClientIP".into());
        });
        let special = &of(&[service], &[]).services[0];
        assert!(special.external_local && special.internal_local);
        assert_eq!(special.affinity_timeout_s, 10_800);
    }

    #[test]
    fn headless_and_external_names() {
        let headless = edit(web(), |spec| {
            spec.cluster_ip = Some("None".into());
            spec.cluster_ips = Some(vec!["None".into()]);
            spec.ports = None;
        });
        let mut member = at("10.128.0.2");
        member.hostname = Some("web-0".into());
        let routing = of(&[headless], &[slice("web-1", None, vec![member])]);
        let service = &routing.services[0];
        assert!(service.cluster_ips.is_empty());
        assert_eq!(service.ports[0].port, 0);
        assert_eq!(service.ports[0].endpoints[0].hostname, "web-0");

        let outside = edit(web(), |spec| {
            spec.type_ = Some("ExternalName".into());
            spec.external_name = Some("example.org".into());
        });
        let routing = of(&[outside], &[]);
        assert_eq!(routing.services[0].external_name, "example.org");
        assert!(routing.services[0].cluster_ips.is_empty() && routing.services[0].ports.is_empty());
    }

    fn a_node(name: &str, cidr: Option<&str>) -> core::Node {
        core::Node {
            metadata: meta("", name),
            spec: Some(core::NodeSpec { pod_cidr: cidr.map(Into::into), ..core::NodeSpec::default() }),
            status: None,
        }
    }

    #[test]
    fn nodes_need_a_pod_range() {
        let mut far = a_node("b", Some("10.128.64.0/18"));
        far.metadata.annotations = Some([(TUNNEL_ADDRESS.to_owned(), "127.0.0.2:9".to_owned())].into());
        let nodes = [far.clone(), a_node("a", Some("10.128.0.0/18")), a_node("new", None)];
        let routing = routing::<core::Service, discovery::EndpointSlice, _>(&[], &[], &nodes);
        let names: Vec<_> = routing.nodes.iter().map(|node| node.name.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(routing.nodes[1].tunnel_address, "127.0.0.2:9");

        let mut beat = far.clone();
        beat.status = Some(core::NodeStatus::default());
        assert!(!node_matters(&far, &beat));
        beat.metadata.annotations = None;
        assert!(node_matters(&far, &beat));
    }

    #[test]
    fn only_the_masters_own_slice_leads_to_the_host() {
        let annotated = |namespace: &str, name: &str| {
            let mut slice = slice(name, Some(("https", 6443)), vec![at("10.127.255.1")]);
            slice.metadata.namespace = Some(namespace.into());
            slice.metadata.annotations =
                Some([(HOST_ADDRESS.to_owned(), "127.0.0.1:7000".to_owned())].into());
            slice
        };
        let routing = of(&[], &[annotated("default", "kubernetes")]);
        assert_eq!(
            routing.host_routes,
            [HostRoute { from: "10.127.255.1:6443".parse().unwrap(), to: "127.0.0.1:7000".parse().unwrap() }]
        );
        let others = [annotated("default", "mine"), annotated("other", "kubernetes")];
        assert!(of(&[], &others).host_routes.is_empty());
    }
}
