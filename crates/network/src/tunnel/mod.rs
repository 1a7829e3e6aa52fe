//! Tunnels between nodes: one mutual-TLS connection per peer carries the streams between
//! the pods of both, whoever dialled it. It is dialled when first needed, again after a
//! failure with growing pauses, and closed when long unused. A peer proves to be the node
//! of its name, may only speak for its own pods, and reaches only pods of this node.

mod link;
mod wire;

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::{SocketAddr, TcpListener as StdTcpListener};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use x509_parser::prelude::{FromDer, X509Certificate};

use self::link::{Link, LinkStream, Mode};
use self::wire::Verdict;
pub(crate) use self::wire::{Header, splice};
use crate::error::Error;
use crate::fabric::{Fabric, Inner, TunnelConfig};
use crate::routes::{NodeRoute, Routes};
use crate::stream::{Io, Stream};

/// Accepted connections whose TLS handshake is not finished; further ones wait in the
/// kernel's backlog.
const HANDSHAKES_MAX: usize = 64;
/// How long a handshake, or the header of a stream, may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause after a failed dial, doubling up to the maximum. Connects in between fail at once
/// with the reason of the last dial.
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(5);
/// A silent peer is probed after this long, this often, and given up after three misses.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_PROBES: u32 = 3;
/// Pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// What the common name of a node's certificate begins with.
const NODE_NAME_PREFIX: &str = "system:node:";

/// This node's end of all tunnels.
pub(crate) struct Tunnels {
    address: SocketAddr,
    listener: Mutex<Option<StdTcpListener>>,
    acceptor: TlsAcceptor,
    connector: TlsConnector,
    peers: Mutex<HashMap<String, Arc<Peer>>>,
    fabric: Weak<Inner>,
    stop: CancellationToken,
}

/// What is known of one other node. The lock is held while dialling: one dial at a time.
#[derive(Default)]
struct Peer {
    state: tokio::sync::Mutex<PeerState>,
}

#[derive(Default)]
struct PeerState {
    link: Option<Link>,
    failure: Option<Failure>,
}

struct Failure {
    address: String,
    pause: Duration,
    retry_at: Instant,
    why: String,
}

impl Tunnels {
    /// Opens the listening socket; its answer to port 0 is in [`Tunnels::address`].
    pub(crate) fn bind(address: SocketAddr) -> Result<(StdTcpListener, SocketAddr), Error> {
        let open = || {
            let listener = StdTcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            let bound = listener.local_addr()?;
            Ok((listener, bound))
        };
        open().map_err(|source| Error::Listen { address, source })
    }

    pub(crate) fn new(
        config: &TunnelConfig,
        (listener, address): (StdTcpListener, SocketAddr),
        fabric: Weak<Inner>,
        stop: CancellationToken,
    ) -> Self {
        Self {
            address,
            listener: Mutex::new(Some(listener)),
            acceptor: TlsAcceptor::from(Arc::clone(&config.server)),
            connector: TlsConnector::from(Arc::clone(&config.client)),
            peers: Mutex::default(),
            fabric,
            stop,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Drops what is known of nodes that are no longer in the cluster.
    pub(crate) fn forget_others(&self, routes: &Routes) {
        let nodes: HashSet<&str> = routes.nodes().map(|node| node.name.as_str()).collect();
        self.peers.lock().retain(|name, _| nodes.contains(name.as_str()));
    }

    /// Accepts peers until `shutdown`.
    pub(crate) async fn accept(self: &Arc<Self>, shutdown: &CancellationToken) -> Result<(), Error> {
        let Some(listener) = self.listener.lock().take() else { return Ok(()) };
        let listener = TcpListener::from_std(listener)
            .map_err(|source| Error::Listen { address: self.address, source })?;
        let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
        let serve = async {
            loop {
                let Ok(place) = Arc::clone(&handshakes).acquire_owned().await else { return };
                match listener.accept().await {
                    Ok((socket, from)) => {
                        let tunnels = Arc::clone(self);
                        tokio::spawn(async move {
                            if let Err(why) = tunnels.admit(socket).await {
                                warn!(%from, why, "tunnel refused");
                            }
                            drop(place);
                        });
                    }
                    Err(error) => {
                        warn!(%error, "tunnel cannot accept");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        };
        shutdown.run_until_cancelled(serve).await;
        Ok(())
    }

    /// Opens a stream to a pod of another node.
    pub(crate) async fn connect(
        self: &Arc<Self>,
        node: &NodeRoute,
        header: Header,
    ) -> Result<LinkStream, Error> {
        let to = header.destination;
        let unreachable = |why: String| Error::Unreachable { to, why };
        // A link may close as it is taken; then there is a second chance with a new one.
        let mut stream = None;
        for _ in 0..2 {
            let link = self.link(node).await.map_err(unreachable)?;
            stream = link.open().await;
            if stream.is_some() {
                break;
            }
        }
        let lost = || unreachable(format!("the tunnel to node {} broke", node.name));
        let mut stream = stream.ok_or_else(lost)?;
        stream.write_all(&header.encode()).await.map_err(|_| lost())?;
        let verdict = Verdict::read(&mut stream).await.map_err(|_| lost())?;
        match verdict {
            Verdict::Connected => Ok(stream),
            Verdict::Refused => Err(Error::ConnectionRefused(to)),
            Verdict::TimedOut => Err(Error::TimedOut(to)),
            Verdict::Unreachable => Err(unreachable(format!("no such pod on node {}", node.name))),
            Verdict::Denied => {
                Err(Error::AccessDenied { to, why: "the other node does not accept the source" })
            }
        }
    }

    /// A live link to the node, dialled if there is none.
    async fn link(self: &Arc<Self>, node: &NodeRoute) -> Result<Link, String> {
        let peer = Arc::clone(self.peers.lock().entry(node.name.clone()).or_default());
        let mut state = peer.state.lock().await;
        if let Some(link) = state.link.as_ref().filter(|link| !link.is_closed()) {
            return Ok(link.clone());
        }
        let address = node.tunnel_address.as_str();
        if address.is_empty() {
            return Err(format!("node {} advertises no tunnel address", node.name));
        }
        let known = state.failure.take().filter(|failure| failure.address == address);
        if let Some(failure) = known.as_ref().filter(|failure| Instant::now() < failure.retry_at) {
            let why = failure.why.clone();
            state.failure = known;
            return Err(why);
        }
        match self.dial(node).await {
            Ok(link) => {
                state.link = Some(link.clone());
                Ok(link)
            }
            Err(error) => {
                let why = format!("cannot reach node {} at {address}: {error}", node.name);
                let pause = known.map_or(RETRY_MIN, |known| (known.pause * 2).min(RETRY_MAX));
                state.failure = Some(Failure {
                    address: address.to_owned(),
                    pause,
                    retry_at: Instant::now() + pause,
                    why: why.clone(),
                });
                Err(why)
            }
        }
    }

    async fn dial(self: &Arc<Self>, node: &NodeRoute) -> io::Result<Link> {
        let name = ServerName::try_from(node.name.clone()).map_err(io::Error::other)?;
        let connect = async {
            let socket = TcpStream::connect(&node.tunnel_address).await?;
            tune(&socket);
            self.connector.connect(name, socket).await
        };
        let socket = tokio::time::timeout(HANDSHAKE_TIMEOUT, connect)
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        let peer = node_name(socket.get_ref().1.peer_certificates())
            .map_err(|why| io::Error::new(io::ErrorKind::PermissionDenied, why))?;
        if peer != node.name {
            let why = format!("it is node {peer}");
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
        }
        Ok(self.start(socket, Mode::Client, peer))
    }

    /// Takes a connection that a peer has dialled.
    async fn admit(self: &Arc<Self>, socket: TcpStream) -> Result<(), String> {
        tune(&socket);
        let socket = tokio::time::timeout(HANDSHAKE_TIMEOUT, self.acceptor.accept(socket))
            .await
            .map_err(|_| "the handshake took too long".to_owned())?
            .map_err(|error| error.to_string())?;
        let name = node_name(socket.get_ref().1.peer_certificates())?;
        let link = self.start(socket, Mode::Server, name.clone());
        let peer = Arc::clone(self.peers.lock().entry(name).or_default());
        // While this node dials the same peer, its own link comes; this one then serves
        // what the peer opens.
        if let Ok(mut state) = peer.state.try_lock()
            && state.link.as_ref().is_none_or(Link::is_closed)
        {
            state.link = Some(link);
        }
        Ok(())
    }

    fn start<T>(self: &Arc<Self>, socket: T, mode: Mode, peer: String) -> Link
    where
        T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
    {
        let fabric = self.fabric.clone();
        let peer: Arc<str> = peer.into();
        let accept = move |stream| {
            tokio::spawn(receive(fabric.clone(), Arc::clone(&peer), stream));
        };
        Link::start(socket, mode, accept, self.stop.clone())
    }
}

/// Serves one stream that a peer opened.
async fn receive(fabric: Weak<Inner>, peer: Arc<str>, mut stream: LinkStream) {
    let Ok(Ok(header)) = tokio::time::timeout(HANDSHAKE_TIMEOUT, Header::read(&mut stream)).await else {
        return debug!(%peer, "a stream without a header");
    };
    let Some(inner) = fabric.upgrade() else { return };
    let outcome = deliver(&Fabric { inner }, &peer, &header).await;
    let verdict = match &outcome {
        Ok(_) => Verdict::Connected,
        Err(Error::ConnectionRefused(_)) => Verdict::Refused,
        Err(Error::TimedOut(_)) => Verdict::TimedOut,
        Err(Error::AccessDenied { .. }) => Verdict::Denied,
        Err(_) => Verdict::Unreachable,
    };
    if stream.write_all(&[verdict as u8]).await.is_err() {
        return;
    }
    match outcome {
        Ok(local) => splice(local, stream).await,
        Err(error) => {
            debug!(%peer, %error, "a stream was refused");
            // The verdict must arrive before the stream is reset.
            let mut end = [0];
            let _ = tokio::time::timeout(HANDSHAKE_TIMEOUT, stream.read(&mut end)).await;
        }
    }
}

async fn deliver(fabric: &Fabric, peer: &str, header: &Header) -> Result<Stream, Error> {
    let Header { source, destination: to } = *header;
    let owner = fabric.routes().node_of(&source.ip()).map(Arc::clone);
    let spoofed = owner.is_some_and(|owner| owner.name != peer);
    if spoofed || fabric.local_pod(source.ip()).is_some() {
        return Err(Error::AccessDenied { to, why: "the source is not the peer's" });
    }
    let pod = fabric
        .local_pod(to.ip())
        .ok_or_else(|| Error::Unreachable { to, why: "no pod has this address".to_owned() })?;
    let end = fabric.deliver(&pod, to, source).await?;
    Ok(Stream::new(Io::Pipe(end), source, to, None))
}

/// Small frames must not wait for each other, and a vanished peer must be noticed.
fn tune(socket: &TcpStream) {
    use rustix::net::sockopt;
    // Each of these is an improvement, none a condition.
    let _ = socket.set_nodelay(true);
    let _ = sockopt::set_socket_keepalive(socket, true);
    let _ = sockopt::set_tcp_keepidle(socket, KEEPALIVE_IDLE);
    let _ = sockopt::set_tcp_keepintvl(socket, KEEPALIVE_INTERVAL);
    let _ = sockopt::set_tcp_keepcnt(socket, KEEPALIVE_PROBES);
}

/// The node that a verified certificate speaks for.
fn node_name(certificates: Option<&[CertificateDer<'_>]>) -> Result<String, String> {
    let certificate = certificates.and_then(<[_]>::first).ok_or("the peer presented no certificate")?;
    let (_, certificate) =
        X509Certificate::from_der(certificate).map_err(|_| "the peer's certificate does not parse")?;
    let name = certificate
        .subject()
        .iter_common_name()
        .next()
        .and_then(|name| name.as_str().ok())
        .unwrap_or_default();
    match name.strip_prefix(NODE_NAME_PREFIX) {
        Some(node) if !node.is_empty() => Ok(node.to_owned()),
        _ => Err(format!("the peer is {name:?}, not a node")),
    }
}
