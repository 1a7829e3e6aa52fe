//! The fabric: who is attached, where a connect leads, and what a sync replaces. A connect
//! reads one routing snapshot and takes no lock but the pod table's read lock; bytes then
//! flow without the fabric. Tasks of the fabric run on the Tokio runtime in which it was
//! created, whatever thread calls it.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use coracle_cri::network::v1::{SyncRequest, SyncResponse};
use ipnet::{IpNet, Ipv4Net};
use parking_lot::{Mutex, RwLock};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::address::Addresses;
use crate::egress::{Egress, never};
use crate::error::Error;
use crate::names::Answer;
use crate::node_ports::NodePorts;
use crate::pipe::{self, End};
use crate::pod::{Pod, PodNet};
use crate::ports::{EPHEMERAL, PortLease};
use crate::routes::{NodeRoute, Routes};
use crate::service::{Origin, Policy};
use crate::stream::{Io, Stream};
use crate::tunnel::{Header, Tunnels, splice};

/// How long a connect waits for the other side before it times out.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a name outside of the cluster may take to resolve.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);
/// ExternalName services that a lookup follows, so that a cycle of them ends.
const ALIASES_MAX: usize = 8;
/// Bytes of the longest name that DNS can carry, with its final dot.
const NAME_BYTES_MAX: usize = 254;

/// What a fabric needs to know from the start.
#[derive(Debug, Clone)]
pub struct Config {
    /// Name of this node, as its Node object and certificate have it.
    pub node_name: String,
    /// The address of the host network on which node ports listen.
    pub node_ip: IpAddr,
    /// How nodes reach each other; `None` for a node that stands alone.
    pub tunnel: Option<TunnelConfig>,
    /// What guests may reach outside of the cluster.
    pub egress: Egress,
    /// Addresses that belong to the cluster: never looked for outside, routed or not.
    pub cluster_ranges: Vec<IpNet>,
}

/// Mutual TLS between nodes. Both configurations must trust only the cluster's CA; the
/// server's must demand a client certificate. A node's certificate has the common name
/// `system:node:<name>`, and the node name as a DNS name for peers that dial it.
#[derive(Clone)]
pub struct TunnelConfig {
    /// Where this node accepts tunnels; port 0 chooses one.
    pub listen: SocketAddr,
    /// For accepted connections.
    pub server: Arc<rustls::ServerConfig>,
    /// For dialled connections.
    pub client: Arc<rustls::ClientConfig>,
}

/// A sandbox that joins the network.
#[derive(Debug, Clone, Default)]
pub struct AttachSpec {
    /// Unique among the attached sandboxes.
    pub sandbox_id: String,
    /// Namespace of the pod: where its relative names are looked up first.
    pub namespace: String,
    /// Name of the pod.
    pub pod_name: String,
    /// The pod's host name.
    pub hostname: String,
    /// The address to take, as a restarted runtime does; `None` for a fresh one.
    pub address: Option<IpAddr>,
}

/// A node's network. Clones are the same network.
#[derive(Clone)]
pub struct Fabric {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    config: Config,
    runtime: Handle,
    pub(crate) stop: CancellationToken,
    pods: RwLock<PodTable>,
    routes: ArcSwap<Routes>,
    node_ports: NodePorts,
    tunnels: Option<Arc<Tunnels>>,
    /// One sync at a time.
    turn: Mutex<()>,
    next_node_port: AtomicU16,
}

#[derive(Default)]
struct PodTable {
    addresses: Option<Addresses>,
    by_address: HashMap<IpAddr, Arc<Pod>>,
    by_sandbox: HashMap<String, Arc<Pod>>,
}

impl Config {
    /// A node without a tunnel and without egress, in the usual cluster ranges.
    pub fn new(node_name: impl Into<String>, node_ip: IpAddr) -> Self {
        let range = |a, b, length| IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(10, a, b, 0), length));
        Self {
            node_name: node_name.into(),
            node_ip,
            tunnel: None,
            egress: Egress::default(),
            // Services, masters, pods.
            cluster_ranges: vec![range(0, 0, 16), range(127, 255, 24), range(128, 0, 9)],
        }
    }
}

impl fmt::Debug for TunnelConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TunnelConfig({})", self.listen)
    }
}

impl fmt::Debug for Fabric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fabric({})", self.inner.config.node_name)
    }
}

impl Fabric {
    /// Makes a node's network and binds its tunnel port, so that its address is known; the
    /// tunnel accepts once [`Fabric::run`] runs.
    ///
    /// # Errors
    /// [`Error::NoRuntime`] outside of a Tokio runtime, [`Error::Listen`].
    pub fn new(config: Config) -> Result<Self, Error> {
        let runtime = Handle::try_current().map_err(|_| Error::NoRuntime)?;
        let stop = CancellationToken::new();
        let listener = config.tunnel.as_ref().map(|tunnel| Tunnels::bind(tunnel.listen));
        let listener = listener.transpose()?;
        let inner = Arc::new_cyclic(|fabric: &Weak<Inner>| {
            let tunnels = config.tunnel.as_ref().zip(listener).map(|(tunnel, listener)| {
                Arc::new(Tunnels::new(tunnel, listener, fabric.clone(), stop.clone()))
            });
            Inner {
                node_ports: NodePorts::new(config.node_ip),
                config,
                runtime,
                stop,
                pods: RwLock::default(),
                routes: ArcSwap::default(),
                tunnels,
                turn: Mutex::new(()),
                next_node_port: AtomicU16::new(0),
            }
        });
        Ok(Self { inner })
    }

    /// Serves other nodes until `shutdown`; then node ports and tunnels close.
    ///
    /// # Errors
    /// [`Error::Listen`] when the tunnel's socket cannot be used.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), Error> {
        let served = match &self.inner.tunnels {
            Some(tunnels) => tunnels.accept(&shutdown).await,
            None => {
                shutdown.cancelled().await;
                Ok(())
            }
        };
        self.inner.stop.cancel();
        self.inner.node_ports.close();
        served
    }

    /// Where other nodes reach this one, if it has a tunnel.
    pub fn tunnel_address(&self) -> Option<SocketAddr> {
        self.inner.tunnels.as_ref().map(|tunnels| tunnels.address())
    }

    /// Sets the range that pod addresses come from; attached pods keep theirs.
    pub fn set_pod_cidr(&self, cidr: IpNet) {
        let cidr = cidr.trunc();
        let mut pods = self.inner.pods.write();
        if pods.addresses.as_ref().is_some_and(|addresses| addresses.cidr() == cidr) {
            return;
        }
        let mut addresses = Addresses::new(cidr);
        for address in pods.by_address.keys() {
            // One of another range needs no reservation in this one.
            let _ = addresses.allocate(Some(*address));
        }
        pods.addresses = Some(addresses);
    }

    /// Gives a sandbox an address.
    ///
    /// # Errors
    /// [`Error::SandboxExists`], [`Error::NoPodCidr`], [`Error::AddressesExhausted`], and for
    /// a requested address [`Error::AddressInUse`], [`Error::AddressOutOfRange`].
    pub fn attach(&self, spec: AttachSpec) -> Result<PodNet, Error> {
        let mut pods = self.inner.pods.write();
        if pods.by_sandbox.contains_key(&spec.sandbox_id) {
            return Err(Error::SandboxExists(spec.sandbox_id));
        }
        let ip = pods.addresses.as_mut().ok_or(Error::NoPodCidr)?.allocate(spec.address)?;
        let pod = Arc::new(Pod::new(spec, ip));
        pods.by_address.insert(ip, Arc::clone(&pod));
        pods.by_sandbox.insert(pod.spec.sandbox_id.clone(), Arc::clone(&pod));
        drop(pods);
        Ok(PodNet::new(self.clone(), pod))
    }

    /// Replaces all routing. Node ports open and close with it; those that could not be
    /// opened are reported, and tried again by every later sync.
    ///
    /// # Errors
    /// [`Error::StaleGeneration`], [`Error::InvalidRequest`]; nothing has changed then.
    pub fn sync(&self, request: &SyncRequest) -> Result<SyncResponse, Error> {
        let inner = &self.inner;
        let _turn = inner.turn.lock();
        let current = inner.routes.load_full();
        if request.generation < current.generation {
            return Err(Error::StaleGeneration { offered: request.generation, current: current.generation });
        }
        let routes = Arc::new(Routes::build(request, &inner.config.node_name, &current)?);
        inner.routes.store(Arc::clone(&routes));
        if let Some(tunnels) = &inner.tunnels {
            tunnels.forget_others(&routes);
        }
        let mut problems = routes.foreign_node_ports.clone();
        problems.extend(inner.node_ports.reconcile(self, &routes));
        Ok(SyncResponse { generation: routes.generation, problems })
    }

    /// Connects to an address of the fabric with the node as the source, as probes do.
    ///
    /// # Errors
    /// As [`PodNet::connect`].
    pub async fn dial(&self, address: IpAddr, port: u16) -> Result<Stream, Error> {
        let to = SocketAddr::new(address.to_canonical(), port);
        let from = self.node_source();
        let io = self.open(from, to).await?;
        Ok(Stream::new(io, from, to, None))
    }

    /// Connects to a sandbox's own loopback, as `kubectl port-forward` does.
    ///
    /// # Errors
    /// [`Error::SandboxUnknown`], [`Error::ConnectionRefused`], [`Error::TimedOut`].
    pub async fn dial_sandbox(&self, sandbox_id: &str, port: u16) -> Result<Stream, Error> {
        let pod = self.inner.pods.read().by_sandbox.get(sandbox_id).cloned();
        let pod = pod.ok_or_else(|| Error::SandboxUnknown(sandbox_id.to_owned()))?;
        let v4 = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let v6 = IpAddr::V6(Ipv6Addr::LOCALHOST);
        let only_v6 = pod.ports.listener(v4, port).is_none() && pod.ports.listener(v6, port).is_some();
        let address = if only_v6 { v6 } else { v4 };
        let (from, to) = (SocketAddr::new(address, self.node_port()), (address, port).into());
        let end = self.deliver(&pod, to, from).await?;
        Ok(Stream::new(Io::Pipe(end), from, to, None))
    }

    /// The generation in force; 0 before the first sync.
    pub fn generation(&self) -> u64 {
        self.inner.routes.load().generation
    }
}

/// What the modules of this crate ask of the fabric.
impl Fabric {
    pub(crate) fn runtime(&self) -> &Handle {
        &self.inner.runtime
    }

    /// Whether the address is a pod's, attached here.
    pub(crate) fn local_pod(&self, address: IpAddr) -> Option<Arc<Pod>> {
        self.inner.pods.read().by_address.get(&address).cloned()
    }

    pub(crate) fn routes(&self) -> Arc<Routes> {
        self.inner.routes.load_full()
    }

    pub(crate) fn detach(&self, pod: &Arc<Pod>) {
        pod.ports.close();
        let mut pods = self.inner.pods.write();
        let attached = pods.by_sandbox.get(&pod.spec.sandbox_id);
        if attached.is_some_and(|attached| Arc::ptr_eq(attached, pod)) {
            pods.by_sandbox.remove(&pod.spec.sandbox_id);
            pods.by_address.remove(&pod.ip);
            if let Some(addresses) = &mut pods.addresses {
                addresses.release(pod.ip);
            }
        }
    }

    pub(crate) async fn connect_from(
        &self,
        pod: &Arc<Pod>,
        to: SocketAddr,
        lease: Option<PortLease>,
    ) -> Result<Stream, Error> {
        let own = pod.owns(to.ip().to_canonical());
        let address = match to.ip().to_canonical() {
            address if own => Pod::own_address(address),
            address => address,
        };
        let to = SocketAddr::new(address, to.port());
        let source = if own { address } else { pod.ip };
        let lease = match lease {
            Some(_) if pod.ports.is_closed() => return Err(Error::Detached),
            Some(lease) => lease,
            None => pod.ports.bind(source, 0)?,
        };
        let from = SocketAddr::new(source, lease.port());
        let io = if own { Io::Pipe(self.deliver(pod, to, from).await?) } else { self.open(from, to).await? };
        Ok(Stream::new(io, from, to, Some(lease)))
    }

    /// A connection that came to a node port from the host network.
    pub(crate) async fn connect_node_port(&self, port: u16, client: SocketAddr) -> Result<Stream, Error> {
        let to = SocketAddr::new(self.inner.config.node_ip, port);
        let routes = self.routes();
        let route = routes.node_ports.get(&port).ok_or(Error::ConnectionRefused(to))?;
        let target =
            route.pick(Origin::External, client.ip(), Instant::now()).ok_or(Error::ConnectionRefused(to))?;
        let from = match route.external_policy {
            Policy::Local => client,
            Policy::Cluster => self.node_source(),
        };
        let io = self.reach(&routes, from, target).await?;
        Ok(Stream::new(io, from, to, None))
    }

    pub(crate) async fn lookup_from(&self, pod: &Pod, name: &str) -> Result<Vec<IpAddr>, Error> {
        if pod.ports.is_closed() {
            return Err(Error::Detached);
        }
        if let Ok(address) = name.parse() {
            return Ok(vec![address]);
        }
        let unknown = || Error::NameNotFound(name.to_owned());
        let bare = name.strip_suffix('.').unwrap_or(name);
        if bare.is_empty() || name.len() > NAME_BYTES_MAX {
            return Err(unknown());
        }
        if bare.eq_ignore_ascii_case("localhost") {
            return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        }
        if bare.eq_ignore_ascii_case(&pod.spec.hostname) {
            return Ok(vec![pod.ip]);
        }
        let routes = self.routes();
        let namespace = &pod.spec.namespace;
        let mut answer = routes.names.lookup(name, namespace);
        for _ in 0..ALIASES_MAX {
            answer = match answer {
                Answer::Addresses(addresses) => return Ok(addresses),
                Answer::Missing => return Err(unknown()),
                Answer::Outside(other) => {
                    return self.lookup_outside(other).await.ok_or_else(unknown);
                }
                Answer::Alias(target) => routes.names.lookup(&format!("{target}."), namespace),
            };
        }
        Err(unknown())
    }

    /// Hands a connection to whoever listens at an address of an attached pod.
    pub(crate) async fn deliver(&self, pod: &Pod, to: SocketAddr, from: SocketAddr) -> Result<End, Error> {
        let refused = || Error::ConnectionRefused(to);
        let queue = pod.ports.listener(to.ip(), to.port()).ok_or_else(refused)?;
        let place = match queue.try_reserve_owned() {
            Ok(place) => place,
            Err(TrySendError::Closed(_)) => return Err(refused()),
            Err(TrySendError::Full(queue)) => self
                .within(CONNECT_TIMEOUT, queue.reserve_owned())
                .await
                .map_err(|_| Error::TimedOut(to))?
                .map_err(|_| refused())?,
        };
        let (near, far) = pipe::pair();
        drop(place.send(Stream::new(Io::Pipe(far), to, from, None)));
        Ok(near)
    }

    async fn open(&self, from: SocketAddr, to: SocketAddr) -> Result<Io, Error> {
        let routes = self.routes();
        let target = match routes.service(&to) {
            Some(route) => {
                route.pick(Origin::Internal, from.ip(), Instant::now()).ok_or(Error::ConnectionRefused(to))?
            }
            None if routes.is_service_ip(&to.ip()) => return Err(Error::ConnectionRefused(to)),
            None => to,
        };
        self.reach(&routes, from, target).await
    }

    /// Connects to an address that is no Service's.
    async fn reach(&self, routes: &Routes, from: SocketAddr, to: SocketAddr) -> Result<Io, Error> {
        if let Some(host) = routes.host_route(&to) {
            return self.connect_host(host, to).await;
        }
        if let Some(pod) = self.local_pod(to.ip()) {
            return Ok(Io::Pipe(self.deliver(&pod, to, from).await?));
        }
        let missing = || Error::Unreachable { to, why: "no pod has this address".to_owned() };
        if self.own_range_has(to.ip()) {
            return Err(missing());
        }
        match routes.node_of(&to.ip()) {
            Some(node) if node.name == self.inner.config.node_name => Err(missing()),
            Some(node) => self.connect_node(Arc::clone(node), from, to).await,
            None => {
                let config = &self.inner.config;
                config.egress.check(to, &config.cluster_ranges)?;
                self.connect_host(to, to).await
            }
        }
    }

    fn own_range_has(&self, address: IpAddr) -> bool {
        let pods = self.inner.pods.read();
        pods.addresses.as_ref().is_some_and(|addresses| addresses.cidr().contains(&address))
    }

    /// Connects over the host's network; the guest sees `to`.
    async fn connect_host(&self, host: SocketAddr, to: SocketAddr) -> Result<Io, Error> {
        let dial = async move { tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(host)).await };
        let dialled = AbortOnDropHandle::new(self.inner.runtime.spawn(dial)).await;
        let socket =
            dialled.map_err(|_| Error::NoRuntime)?.map_err(|_| Error::TimedOut(to))?.map_err(|error| {
                match error.kind() {
                    std::io::ErrorKind::ConnectionRefused => Error::ConnectionRefused(to),
                    std::io::ErrorKind::TimedOut => Error::TimedOut(to),
                    _ => Error::Unreachable { to, why: error.to_string() },
                }
            })?;
        // Without it small writes wait for acknowledgements; nothing else depends on it.
        let _ = socket.set_nodelay(true);
        Ok(Io::Host(socket))
    }

    /// Connects to a pod of another node.
    async fn connect_node(
        &self,
        node: Arc<NodeRoute>,
        from: SocketAddr,
        to: SocketAddr,
    ) -> Result<Io, Error> {
        let Some(tunnels) = self.inner.tunnels.clone() else {
            return Err(Error::Unreachable { to, why: "this node has no tunnel".to_owned() });
        };
        let (near, far) = pipe::pair();
        let (answer, opened) = oneshot::channel();
        self.inner.runtime.spawn(async move {
            let header = Header { source: from, destination: to };
            let connected = tokio::time::timeout(CONNECT_TIMEOUT, tunnels.connect(&node, header));
            match connected.await.unwrap_or(Err(Error::TimedOut(to))) {
                Ok(tunnel) => {
                    if answer.send(Ok(())).is_ok() {
                        splice(Stream::new(Io::Pipe(far), to, from, None), tunnel).await;
                    }
                }
                Err(error) => {
                    // A caller that has gone needs no answer.
                    let _ = answer.send(Err(error));
                }
            }
        });
        opened.await.map_err(|_| Error::NoRuntime)??;
        Ok(Io::Pipe(near))
    }

    async fn lookup_outside(&self, name: String) -> Option<Vec<IpAddr>> {
        if !self.inner.config.egress.resolves_names() {
            return None;
        }
        let lookup = async move {
            let found = tokio::net::lookup_host((name.as_str(), 0));
            let found = tokio::time::timeout(LOOKUP_TIMEOUT, found).await.ok()?.ok()?;
            Some(found.map(|address| address.ip()).collect::<Vec<_>>())
        };
        let found = AbortOnDropHandle::new(self.inner.runtime.spawn(lookup)).await.ok()??;
        let usable: Vec<IpAddr> = found.into_iter().filter(|address| never(*address).is_none()).collect();
        (!usable.is_empty()).then_some(usable)
    }

    /// The node's own address in the fabric and a source port.
    fn node_source(&self) -> SocketAddr {
        let pods = self.inner.pods.read();
        let address = pods.addresses.as_ref().map_or(self.inner.config.node_ip, Addresses::node);
        SocketAddr::new(address, self.node_port())
    }

    fn node_port(&self) -> u16 {
        let count = *EPHEMERAL.end() - *EPHEMERAL.start() + 1;
        let turn = self.inner.next_node_port.fetch_add(1, Ordering::Relaxed);
        *EPHEMERAL.start() + turn % count
    }

    fn within<F: Future>(&self, limit: Duration, work: F) -> tokio::time::Timeout<F> {
        let _runtime = self.inner.runtime.enter();
        tokio::time::timeout(limit, work)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
