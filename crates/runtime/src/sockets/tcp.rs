//! `wasi:sockets/tcp`: the state machine of a socket, over the pod's network.
//!
//! Binding, listening and closing are immediate there, so their `start` does the work and
//! their `finish` only completes the protocol that WASI asks for. Buffer sizes and
//! keep-alive belong to a wire that an in-memory connection does not have: values are
//! kept and returned, and change nothing.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use coracle_network::{BACKLOG_DEFAULT, Bound, Error, Listener, Stream};
use wasmtime::component::Resource;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::bindings::sockets::network::{ErrorCode, IpAddressFamily, IpSocketAddress, Network};
use wasmtime_wasi::p2::bindings::sockets::tcp::{Host, HostTcpSocket, ShutdownType};
use wasmtime_wasi::p2::bindings::sockets::tcp_create_socket;
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, DynPollable, Pollable, SocketResult, TcpSocket};

use super::stream::{Reader, Writer, split};
use super::{Sockets, code, family_of, give, retag};

/// What `receive-buffer-size` and `send-buffer-size` say before they are set.
const BUFFER_BYTES_DEFAULT: u64 = 64 << 10;
const SECOND_NS: u64 = 1_000_000_000;

type Connecting = Pin<Box<dyn Future<Output = Result<Stream, Error>> + Send>>;
type Streams = (Resource<DynInputStream>, Resource<DynOutputStream>);

/// A guest's socket.
pub(super) struct Socket {
    family: IpAddressFamily,
    state: State,
    started: Option<Started>,
    backlog: usize,
    options: Options,
}

enum State {
    Fresh,
    Bound(Bound),
    Connecting(Connecting),
    /// Until `finish-connect` tells.
    Settled(Result<Box<Stream>, ErrorCode>),
    Connected(Connection),
    Listening(Incoming),
    Closed,
}

struct Connection {
    local: SocketAddr,
    peer: SocketAddr,
    reader: Reader,
    writer: Writer,
}

struct Incoming {
    listener: Listener,
    /// A connection that a poll found, for the next `accept`.
    waiting: Option<Result<Stream, Error>>,
}

/// An operation between its `start` and its `finish`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Started {
    Bind,
    Connect,
    Listen,
}

#[derive(Clone, Copy)]
struct Options {
    keep_alive: bool,
    keep_alive_idle_ns: u64,
    keep_alive_interval_ns: u64,
    keep_alive_count: u32,
    hop_limit: u8,
    receive_buffer_bytes: u64,
    send_buffer_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            keep_alive: false,
            keep_alive_idle_ns: 7_200 * SECOND_NS,
            keep_alive_interval_ns: 75 * SECOND_NS,
            keep_alive_count: 9,
            hop_limit: 64,
            receive_buffer_bytes: BUFFER_BYTES_DEFAULT,
            send_buffer_bytes: BUFFER_BYTES_DEFAULT,
        }
    }
}

impl Socket {
    fn new(family: IpAddressFamily) -> Self {
        Self {
            family,
            state: State::Fresh,
            started: None,
            backlog: BACKLOG_DEFAULT,
            options: Options::default(),
        }
    }

    fn start(&mut self, operation: Started) -> Result<(), ErrorCode> {
        match self.started {
            Some(_) => Err(ErrorCode::ConcurrencyConflict),
            None => {
                self.started = Some(operation);
                Ok(())
            }
        }
    }

    fn finish(&mut self, operation: Started) -> Result<(), ErrorCode> {
        if self.started != Some(operation) {
            return Err(ErrorCode::NotInProgress);
        }
        self.started = None;
        Ok(())
    }

    fn check_idle(&self) -> Result<(), ErrorCode> {
        match self.started {
            Some(_) => Err(ErrorCode::ConcurrencyConflict),
            None => Ok(()),
        }
    }

    fn check_family(&self, address: SocketAddr) -> Result<(), ErrorCode> {
        match (self.family, family_of(address.ip())) {
            (IpAddressFamily::Ipv4, IpAddressFamily::Ipv4)
            | (IpAddressFamily::Ipv6, IpAddressFamily::Ipv6) => Ok(()),
            _ => Err(ErrorCode::InvalidArgument),
        }
    }

    /// Gets on with what is under way. Ready when there is something to tell.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.state {
            State::Connecting(connecting) => match connecting.as_mut().poll(cx) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(settled) => {
                    let settled = settled.map(Box::new).map_err(|error| code(&error));
                    self.state = State::Settled(settled);
                    Poll::Ready(())
                }
            },
            State::Listening(incoming) if incoming.waiting.is_none() => {
                incoming.listener.poll_accept(cx).map(|next| incoming.waiting = Some(next))
            }
            _ => Poll::Ready(()),
        }
    }

    fn poll_now(&mut self) {
        let _ = self.poll(&mut Context::from_waker(Waker::noop()));
    }
}

#[async_trait]
impl Pollable for Socket {
    async fn ready(&mut self) {
        poll_fn(|cx| self.poll(cx)).await;
    }
}

impl Sockets<'_> {
    fn socket(&mut self, this: &Resource<TcpSocket>) -> SocketResult<&mut Socket> {
        Ok(self.table.get_mut(&retag::<_, Socket>(this))?)
    }

    /// Makes `socket` the owner of a connection's two streams.
    fn attach(&mut self, socket: &Resource<Socket>, stream: Stream) -> SocketResult<Streams> {
        let (local, peer) = (stream.local_addr(), stream.peer_addr());
        let (reader, writer) = split(stream);
        let input: DynInputStream = Box::new(reader.clone());
        let output: DynOutputStream = Box::new(writer.clone());
        let input = self.table.push_child(input, socket)?;
        let output = self.table.push_child(output, socket)?;
        self.table.get_mut(socket)?.state = State::Connected(Connection { local, peer, reader, writer });
        Ok((input, output))
    }
}

impl tcp_create_socket::Host for Sockets<'_> {
    fn create_tcp_socket(&mut self, family: IpAddressFamily) -> SocketResult<Resource<TcpSocket>> {
        Ok(give(&self.table.push(Socket::new(family))?))
    }
}

impl Host for Sockets<'_> {}

impl HostTcpSocket for Sockets<'_> {
    async fn start_bind(
        &mut self,
        this: Resource<TcpSocket>,
        network: Resource<Network>,
        local_address: IpSocketAddress,
    ) -> SocketResult<()> {
        self.table.get(&network)?;
        let address = SocketAddr::from(local_address);
        let net = self.net;
        let socket = self.table.get_mut(&retag::<_, Socket>(&this))?;
        socket.check_idle()?;
        if !matches!(socket.state, State::Fresh) {
            return Err(ErrorCode::InvalidState.into());
        }
        socket.check_family(address)?;
        let bound = net.bind(address.ip(), address.port()).map_err(|error| code(&error))?;
        socket.state = State::Bound(bound);
        Ok(socket.start(Started::Bind)?)
    }

    fn finish_bind(&mut self, this: Resource<TcpSocket>) -> SocketResult<()> {
        Ok(self.socket(&this)?.finish(Started::Bind)?)
    }

    fn start_connect(
        &mut self,
        this: Resource<TcpSocket>,
        network: Resource<Network>,
        remote_address: IpSocketAddress,
    ) -> SocketResult<()> {
        self.table.get(&network)?;
        let peer = SocketAddr::from(remote_address);
        let net = self.net.clone();
        let socket = self.socket(&this)?;
        socket.check_idle()?;
        socket.check_family(peer)?;
        if peer.port() == 0 || peer.ip().is_unspecified() {
            return Err(ErrorCode::InvalidArgument.into());
        }
        let connecting: Connecting = match std::mem::replace(&mut socket.state, State::Closed) {
            State::Fresh => Box::pin(async move { net.connect(peer).await }),
            State::Bound(bound) => Box::pin(bound.connect(peer)),
            other => {
                socket.state = other;
                return Err(ErrorCode::InvalidState.into());
            }
        };
        socket.state = State::Connecting(connecting);
        Ok(socket.start(Started::Connect)?)
    }

    fn finish_connect(&mut self, this: Resource<TcpSocket>) -> SocketResult<Streams> {
        let socket = self.socket(&this)?;
        if socket.started != Some(Started::Connect) {
            return Err(ErrorCode::NotInProgress.into());
        }
        socket.poll_now();
        if matches!(socket.state, State::Connecting(_)) {
            return Err(ErrorCode::WouldBlock.into());
        }
        socket.started = None;
        match std::mem::replace(&mut socket.state, State::Closed) {
            State::Settled(Ok(stream)) => self.attach(&retag(&this), *stream),
            State::Settled(Err(code)) => Err(code.into()),
            _ => Err(ErrorCode::InvalidState.into()),
        }
    }

    async fn start_listen(&mut self, this: Resource<TcpSocket>) -> SocketResult<()> {
        let socket = self.socket(&this)?;
        socket.check_idle()?;
        let bound = match std::mem::replace(&mut socket.state, State::Closed) {
            State::Bound(bound) => bound,
            other => {
                socket.state = other;
                return Err(ErrorCode::InvalidState.into());
            }
        };
        let listener = bound.listen(socket.backlog).map_err(|error| code(&error))?;
        socket.state = State::Listening(Incoming { listener, waiting: None });
        Ok(socket.start(Started::Listen)?)
    }

    fn finish_listen(&mut self, this: Resource<TcpSocket>) -> SocketResult<()> {
        Ok(self.socket(&this)?.finish(Started::Listen)?)
    }

    fn accept(
        &mut self,
        this: Resource<TcpSocket>,
    ) -> SocketResult<(Resource<TcpSocket>, Resource<DynInputStream>, Resource<DynOutputStream>)> {
        let socket = self.socket(&this)?;
        socket.check_idle()?;
        socket.poll_now();
        let State::Listening(incoming) = &mut socket.state else {
            return Err(ErrorCode::InvalidState.into());
        };
        let stream = match incoming.waiting.take() {
            None => return Err(ErrorCode::WouldBlock.into()),
            Some(Err(error)) => return Err(code(&error).into()),
            Some(Ok(stream)) => stream,
        };
        let accepted = Socket { options: socket.options, ..Socket::new(socket.family) };
        let accepted = self.table.push(accepted)?;
        let (input, output) = self.attach(&accepted, stream)?;
        Ok((give(&accepted), input, output))
    }

    fn local_address(&mut self, this: Resource<TcpSocket>) -> SocketResult<IpSocketAddress> {
        match &self.socket(&this)?.state {
            State::Bound(bound) => Ok(bound.local_addr().into()),
            State::Listening(incoming) => Ok(incoming.listener.local_addr().into()),
            State::Connected(connection) => Ok(connection.local.into()),
            _ => Err(ErrorCode::InvalidState.into()),
        }
    }

    fn remote_address(&mut self, this: Resource<TcpSocket>) -> SocketResult<IpSocketAddress> {
        match &self.socket(&this)?.state {
            State::Connected(connection) => Ok(connection.peer.into()),
            _ => Err(ErrorCode::InvalidState.into()),
        }
    }

    fn is_listening(&mut self, this: Resource<TcpSocket>) -> wasmtime::Result<bool> {
        let socket = self.table.get(&retag::<_, Socket>(&this))?;
        Ok(matches!(socket.state, State::Listening(_)))
    }

    fn address_family(&mut self, this: Resource<TcpSocket>) -> wasmtime::Result<IpAddressFamily> {
        Ok(self.table.get(&retag::<_, Socket>(&this))?.family)
    }

    fn set_listen_backlog_size(&mut self, this: Resource<TcpSocket>, value: u64) -> SocketResult<()> {
        let socket = self.socket(&this)?;
        let size = positive(value)?;
        match socket.state {
            // A queue keeps the size that it was made with.
            State::Listening(_) => Err(ErrorCode::NotSupported.into()),
            State::Fresh | State::Bound(_) => {
                socket.backlog = usize::try_from(size).unwrap_or(usize::MAX);
                Ok(())
            }
            _ => Err(ErrorCode::InvalidState.into()),
        }
    }

    fn keep_alive_enabled(&mut self, this: Resource<TcpSocket>) -> SocketResult<bool> {
        Ok(self.socket(&this)?.options.keep_alive)
    }

    fn set_keep_alive_enabled(&mut self, this: Resource<TcpSocket>, value: bool) -> SocketResult<()> {
        self.socket(&this)?.options.keep_alive = value;
        Ok(())
    }

    fn keep_alive_idle_time(&mut self, this: Resource<TcpSocket>) -> SocketResult<u64> {
        Ok(self.socket(&this)?.options.keep_alive_idle_ns)
    }

    fn set_keep_alive_idle_time(&mut self, this: Resource<TcpSocket>, value: u64) -> SocketResult<()> {
        self.socket(&this)?.options.keep_alive_idle_ns = positive(value)?;
        Ok(())
    }

    fn keep_alive_interval(&mut self, this: Resource<TcpSocket>) -> SocketResult<u64> {
        Ok(self.socket(&this)?.options.keep_alive_interval_ns)
    }

    fn set_keep_alive_interval(&mut self, this: Resource<TcpSocket>, value: u64) -> SocketResult<()> {
        self.socket(&this)?.options.keep_alive_interval_ns = positive(value)?;
        Ok(())
    }

    fn keep_alive_count(&mut self, this: Resource<TcpSocket>) -> SocketResult<u32> {
        Ok(self.socket(&this)?.options.keep_alive_count)
    }

    fn set_keep_alive_count(&mut self, this: Resource<TcpSocket>, value: u32) -> SocketResult<()> {
        self.socket(&this)?.options.keep_alive_count = positive(value)?;
        Ok(())
    }

    fn hop_limit(&mut self, this: Resource<TcpSocket>) -> SocketResult<u8> {
        Ok(self.socket(&this)?.options.hop_limit)
    }

    fn set_hop_limit(&mut self, this: Resource<TcpSocket>, value: u8) -> SocketResult<()> {
        self.socket(&this)?.options.hop_limit = positive(value)?;
        Ok(())
    }

    fn receive_buffer_size(&mut self, this: Resource<TcpSocket>) -> SocketResult<u64> {
        Ok(self.socket(&this)?.options.receive_buffer_bytes)
    }

    fn set_receive_buffer_size(&mut self, this: Resource<TcpSocket>, value: u64) -> SocketResult<()> {
        self.socket(&this)?.options.receive_buffer_bytes = positive(value)?;
        Ok(())
    }

    fn send_buffer_size(&mut self, this: Resource<TcpSocket>) -> SocketResult<u64> {
        Ok(self.socket(&this)?.options.send_buffer_bytes)
    }

    fn set_send_buffer_size(&mut self, this: Resource<TcpSocket>, value: u64) -> SocketResult<()> {
        self.socket(&this)?.options.send_buffer_bytes = positive(value)?;
        Ok(())
    }

    fn subscribe(&mut self, this: Resource<TcpSocket>) -> wasmtime::Result<Resource<DynPollable>> {
        wasmtime_wasi::p2::subscribe(self.table, retag::<_, Socket>(&this))
    }

    fn shutdown(&mut self, this: Resource<TcpSocket>, how: ShutdownType) -> SocketResult<()> {
        let State::Connected(connection) = &self.socket(&this)?.state else {
            return Err(ErrorCode::InvalidState.into());
        };
        if matches!(how, ShutdownType::Receive | ShutdownType::Both) {
            connection.reader.shut_down();
        }
        if matches!(how, ShutdownType::Send | ShutdownType::Both) {
            connection.writer.shut_down();
        }
        Ok(())
    }

    fn drop(&mut self, this: Resource<TcpSocket>) -> wasmtime::Result<()> {
        self.table.delete(give::<_, Socket>(&this))?;
        Ok(())
    }
}

fn positive<T: Default + PartialEq>(value: T) -> Result<T, ErrorCode> {
    if value == T::default() {
        return Err(ErrorCode::InvalidArgument);
    }
    Ok(value)
}
