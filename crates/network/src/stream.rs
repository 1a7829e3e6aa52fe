//! A connected stream as a guest, a probe or a node port sees it: an in-memory pipe, or a
//! socket of the host network where the fabric led out of the cluster. The addresses are
//! always the fabric's, never the host's.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::pipe::End;
use crate::ports::PortLease;

/// A bidirectional byte stream. `shutdown` half-closes it; dropping it closes it, with a
/// reset where input was left unread.
pub struct Stream {
    io: Io,
    local: SocketAddr,
    peer: SocketAddr,
    /// Frees the source port when the stream goes.
    _lease: Option<PortLease>,
}

/// What carries the bytes.
#[derive(Debug)]
pub(crate) enum Io {
    Pipe(End),
    Host(TcpStream),
}

impl Stream {
    pub(crate) fn new(io: Io, local: SocketAddr, peer: SocketAddr, lease: Option<PortLease>) -> Self {
        Self { io, local, peer, _lease: lease }
    }

    /// The address this side has in the fabric.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// The address that was dialled, or that the connection came from.
    pub fn peer_addr(&self) -> SocketAddr {
        self.peer
    }

    /// Closes with a reset: the other side's next read, after what is on its way, fails.
    pub fn abort(self) {
        match self.io {
            Io::Pipe(end) => end.abort(),
            Io::Host(socket) => {
                // Where the option is refused the peer gets an orderly close instead.
                let _ = socket.set_zero_linger();
            }
        }
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stream({} -> {})", self.local, self.peer)
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Io::Pipe(end) => end.poll_read(cx, buf),
            Io::Host(socket) => Pin::new(socket).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().io {
            Io::Pipe(end) => end.poll_write(cx, data),
            Io::Host(socket) => Pin::new(socket).poll_write(cx, data),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Io::Pipe(_) => Poll::Ready(Ok(())),
            Io::Host(socket) => Pin::new(socket).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Io::Pipe(end) => {
                end.finish();
                Poll::Ready(Ok(()))
            }
            Io::Host(socket) => Pin::new(socket).poll_shutdown(cx),
        }
    }
}
