//! One connection between two nodes, multiplexed by yamux. A task drives it: it hands out
//! streams that this side asks for, passes on those that the peer opens, and closes the
//! connection after a long time without any.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, Sleep};
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt, TokioAsyncReadCompatExt};
use tokio_util::sync::CancellationToken;
use tracing::debug;
pub(crate) use yamux::Mode;

/// Streams that yamux carries on one connection, of both sides together.
const STREAMS_MAX: usize = 4096;
/// Streams that one side opens; further connects wait for one to end. Below half of the
/// whole, because a finished stream counts for yamux until its task has noticed.
const STREAMS_OPENED_MAX: usize = 1900;
/// Streams of the peer that are open at once; a further one is reset.
const STREAMS_ACCEPTED_MAX: usize = 2000;
/// Requests for a stream that wait for the task.
const REQUESTS_MAX: usize = 64;
/// A connection without streams for this long, at least, is closed.
const IDLE_CHECK: Duration = Duration::from_secs(120);
/// How long an orderly close may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

type Request = oneshot::Sender<yamux::Stream>;
type Connection<T> = yamux::Connection<Compat<T>>;

/// A handle to a connection.
#[derive(Clone)]
pub(crate) struct Link {
    requests: mpsc::Sender<Request>,
    places: Arc<Semaphore>,
    active: Arc<AtomicUsize>,
}

/// A stream of a connection.
pub(crate) struct LinkStream {
    io: Compat<yamux::Stream>,
    _active: Active,
    _place: Option<OwnedSemaphorePermit>,
}

/// Counts one stream while it lives.
struct Active(Arc<AtomicUsize>);

impl Link {
    /// Starts the task of a connection; `accept` gets the streams that the peer opens.
    pub(crate) fn start<T>(
        socket: T,
        mode: Mode,
        accept: impl Fn(LinkStream) + Send + 'static,
        stop: CancellationToken,
    ) -> Self
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let mut config = yamux::Config::default();
        config.set_max_num_streams(STREAMS_MAX);
        let (sender, requests) = mpsc::channel(REQUESTS_MAX);
        let link = Self {
            requests: sender,
            places: Arc::new(Semaphore::new(STREAMS_OPENED_MAX)),
            active: Arc::default(),
        };
        let driver = Driver {
            connection: yamux::Connection::new(socket.compat(), config, mode),
            requests,
            waiting: None,
            abandoned: false,
            idle: Box::pin(tokio::time::sleep(IDLE_CHECK)),
            used: true,
            active: Arc::clone(&link.active),
        };
        tokio::spawn(driver.run(accept, stop));
        link
    }

    /// Whether no stream can be opened any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.requests.is_closed()
    }

    /// Opens a stream; `None` when the connection has closed.
    pub(crate) async fn open(&self) -> Option<LinkStream> {
        let place = Arc::clone(&self.places).acquire_owned().await.ok()?;
        let active = Active::new(&self.active);
        let (request, opened) = oneshot::channel();
        self.requests.send(request).await.ok()?;
        let stream = opened.await.ok()?;
        Some(LinkStream { io: stream.compat(), _active: active, _place: Some(place) })
    }
}

/// The task's state.
struct Driver<T> {
    connection: Connection<T>,
    requests: mpsc::Receiver<Request>,
    waiting: Option<Request>,
    /// Nobody holds a handle any more.
    abandoned: bool,
    idle: Pin<Box<Sleep>>,
    /// Whether a stream was opened since the last check.
    used: bool,
    active: Arc<AtomicUsize>,
}

enum Event {
    Accepted(yamux::Stream),
    Opened(Request, yamux::Stream),
    IdleCheck,
    Closed(Option<yamux::ConnectionError>),
}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Driver<T> {
    async fn run(mut self, accept: impl Fn(LinkStream) + Send, stop: CancellationToken) {
        loop {
            let event = stop.run_until_cancelled(poll_fn(|cx| self.poll(cx))).await;
            match event {
                Some(Event::Accepted(stream)) => {
                    self.used = true;
                    if self.active.load(Ordering::Relaxed) < STREAMS_ACCEPTED_MAX + STREAMS_OPENED_MAX {
                        let _active = Active::new(&self.active);
                        accept(LinkStream { io: stream.compat(), _active, _place: None });
                    }
                }
                Some(Event::Opened(request, stream)) => {
                    self.used = true;
                    // Whoever asked may have given up; the stream is then dropped.
                    let _ = request.send(stream);
                }
                Some(Event::IdleCheck) if self.is_used() => {
                    self.idle.as_mut().reset(Instant::now() + IDLE_CHECK);
                }
                Some(Event::Closed(reason)) => {
                    if let Some(error) = reason {
                        debug!(%error, "tunnel broke");
                    }
                    return;
                }
                Some(Event::IdleCheck) | None => return self.close().await,
            }
        }
    }

    fn is_used(&mut self) -> bool {
        std::mem::take(&mut self.used) || self.active.load(Ordering::Relaxed) > 0
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        match self.connection.poll_next_inbound(cx) {
            Poll::Ready(Some(Ok(stream))) => return Poll::Ready(Event::Accepted(stream)),
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Event::Closed(Some(error))),
            Poll::Ready(None) => return Poll::Ready(Event::Closed(None)),
            Poll::Pending => {}
        }
        if self.waiting.is_none() && !self.abandoned {
            match self.requests.poll_recv(cx) {
                Poll::Ready(Some(request)) => self.waiting = Some(request),
                Poll::Ready(None) => self.abandoned = true,
                Poll::Pending => {}
            }
        }
        if let Some(request) = self.waiting.take() {
            match self.connection.poll_new_outbound(cx) {
                Poll::Ready(Ok(stream)) => return Poll::Ready(Event::Opened(request, stream)),
                Poll::Ready(Err(error)) => return Poll::Ready(Event::Closed(Some(error))),
                Poll::Pending => self.waiting = Some(request),
            }
        }
        self.idle.as_mut().poll(cx).map(|()| Event::IdleCheck)
    }

    /// Refuses further requests, so that their senders dial anew, and says goodbye.
    async fn close(mut self) {
        self.requests.close();
        while self.requests.try_recv().is_ok() {}
        let close = poll_fn(|cx| self.connection.poll_close(cx));
        // A peer that does not answer is left.
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, close).await;
    }
}

impl Active {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl AsyncRead for LinkStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_read(cx, buf)
    }
}

impl AsyncWrite for LinkStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, data)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}
