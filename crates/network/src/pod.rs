//! A pod's side of the fabric: its address, its ports, its listeners. [`PodNet`] is what
//! the runtime gives to the guests of a sandbox; everything they may do to the network
//! goes through it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::mpsc;

use crate::error::Error;
use crate::fabric::{AttachSpec, Fabric};
use crate::ports::{BACKLOG_DEFAULT, PortLease, Ports};
use crate::stream::Stream;

/// An attached sandbox.
#[derive(Debug)]
pub(crate) struct Pod {
    pub(crate) spec: AttachSpec,
    pub(crate) ip: IpAddr,
    pub(crate) ports: Arc<Ports>,
}

impl Pod {
    pub(crate) fn new(spec: AttachSpec, ip: IpAddr) -> Self {
        Self { spec, ip, ports: Ports::new() }
    }

    /// Whether the address means the pod itself when the pod uses it.
    pub(crate) fn owns(&self, address: IpAddr) -> bool {
        address == self.ip || address.is_loopback() || address.is_unspecified()
    }

    /// The address under which the pod itself is met at `to`, one of its own: connecting
    /// to the unspecified address is connecting to loopback.
    pub(crate) fn own_address(to: IpAddr) -> IpAddr {
        match to {
            IpAddr::V4(v4) if v4.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(v6) if v6.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            other => other,
        }
    }
}

/// The network as one sandbox has it. Clones are the same sandbox.
#[derive(Clone)]
pub struct PodNet {
    fabric: Fabric,
    pod: Arc<Pod>,
}

impl PodNet {
    pub(crate) fn new(fabric: Fabric, pod: Arc<Pod>) -> Self {
        Self { fabric, pod }
    }

    /// The pod's address.
    pub fn ip(&self) -> IpAddr {
        self.pod.ip
    }

    /// The pod's host name, which [`PodNet::lookup`] resolves to its address.
    pub fn hostname(&self) -> &str {
        &self.pod.spec.hostname
    }

    /// Reserves a port at one of the pod's own addresses (its IP, any loopback address, or
    /// the unspecified address of a family); port 0 chooses a free ephemeral port. A socket
    /// bound to `::` does not take IPv4 connections, as `wasi:sockets` has it.
    ///
    /// # Errors
    /// [`Error::AddressInUse`], [`Error::AddressNotAvailable`], [`Error::PortsExhausted`],
    /// [`Error::Detached`].
    pub fn bind(&self, address: IpAddr, port: u16) -> Result<Bound, Error> {
        if !self.pod.owns(address) {
            return Err(Error::AddressNotAvailable(address));
        }
        let lease = self.pod.ports.bind(address, port)?;
        Ok(Bound { net: self.clone(), lease })
    }

    /// Listens at `address`, or where it is `None` at every address of the pod's family,
    /// with the default backlog.
    ///
    /// # Errors
    /// As [`PodNet::bind`].
    pub fn listen(&self, address: Option<IpAddr>, port: u16) -> Result<Listener, Error> {
        let every = match self.pod.ip {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        self.bind(address.unwrap_or(every), port)?.listen(BACKLOG_DEFAULT)
    }

    /// Connects to a pod, a Service, the pod itself, or beyond the cluster.
    ///
    /// # Errors
    /// [`Error::ConnectionRefused`], [`Error::TimedOut`], [`Error::Unreachable`],
    /// [`Error::AccessDenied`], [`Error::PortsExhausted`], [`Error::Detached`].
    pub async fn connect(&self, to: SocketAddr) -> Result<Stream, Error> {
        self.fabric.connect_from(&self.pod, to, None).await
    }

    /// Resolves a name as this pod's resolver would: addresses as text, `localhost`, the
    /// pod's host name, names of the cluster, and others where egress is allowed.
    ///
    /// # Errors
    /// [`Error::NameNotFound`], [`Error::Detached`].
    pub async fn lookup(&self, name: &str) -> Result<Vec<IpAddr>, Error> {
        self.fabric.lookup_from(&self.pod, name).await
    }

    /// Leaves the network: the address becomes free, listeners end, and nothing can be
    /// bound or dialled any more. Established streams end with whoever holds them.
    pub fn detach(&self) {
        self.fabric.detach(&self.pod);
    }
}

impl fmt::Debug for PodNet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PodNet({} {})", self.pod.spec.sandbox_id, self.pod.ip)
    }
}

/// A bound port that neither listens nor is connected yet.
#[derive(Debug)]
pub struct Bound {
    net: PodNet,
    lease: PortLease,
}

impl Bound {
    /// The bound address, with the port that was chosen.
    pub fn local_addr(&self) -> SocketAddr {
        (self.lease.address(), self.lease.port()).into()
    }

    /// Starts listening; `backlog` is kept within 1 and [`crate::BACKLOG_MAX`].
    ///
    /// # Errors
    /// [`Error::Detached`].
    pub fn listen(self, backlog: usize) -> Result<Listener, Error> {
        let queue = self.lease.listen(backlog)?;
        Ok(Listener { queue, lease: self.lease })
    }

    /// Connects from this port.
    ///
    /// # Errors
    /// As [`PodNet::connect`].
    pub async fn connect(self, to: SocketAddr) -> Result<Stream, Error> {
        let Self { net, lease } = self;
        net.fabric.connect_from(&net.pod, to, Some(lease)).await
    }
}

/// A listening port of a pod. Dropping it resets the connections that were not accepted.
#[derive(Debug)]
pub struct Listener {
    queue: mpsc::Receiver<Stream>,
    lease: PortLease,
}

impl Listener {
    /// The listening address.
    pub fn local_addr(&self) -> SocketAddr {
        (self.lease.address(), self.lease.port()).into()
    }

    /// The next connection. Cancel safe.
    ///
    /// # Errors
    /// [`Error::Detached`], once the pod has left the network.
    pub async fn accept(&mut self) -> Result<Stream, Error> {
        self.queue.recv().await.ok_or(Error::Detached)
    }

    /// The next connection, for callers that poll.
    pub fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Result<Stream, Error>> {
        self.queue.poll_recv(cx).map(|next| next.ok_or(Error::Detached))
    }
}
