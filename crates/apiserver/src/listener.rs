//! The TLS accept loop.
//!
//! One task accepts; every connection is a task of its own: TLS handshake, identity of the
//! client certificate (already verified against the cluster's authority by rustls), then
//! HTTP/1.1 or HTTP/2. The identity travels as a typed request extension ([`Peer`]).
//! Owns the count of open connections; never looks into a request.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use coracle_api::user::UserInfo;
use coracle_pki::tls::peer_identity;
use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;

use crate::config::Limits;
use crate::router::Router;

/// Pause after an accept that failed for want of file descriptors, so that the loop does
/// not spin until some are free again.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);
/// Largest head of an HTTP/1 request, in bytes; beyond it: 431. Room for long selectors.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Largest header list of an HTTP/2 request, in bytes; beyond it: 431.
const HEADER_LIST_BYTES_MAX: u32 = 64 * 1024;
/// Bytes that one HTTP/2 stream may send ahead of our reading (kube-apiserver's figure).
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
/// Bytes that all streams of a connection may send ahead of our reading.
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
/// How often an idle HTTP/2 connection is asked whether its client still lives.
const PING_INTERVAL: Duration = Duration::from_secs(30);
/// How long the answer to that may take before the connection is closed.
const PING_TIMEOUT: Duration = Duration::from_secs(15);

/// Where a request came from over TLS, and who the client certificate says it is.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    /// The client's address.
    pub(crate) address: SocketAddr,
    /// The user of the client certificate, if one was shown.
    pub(crate) certificate: Option<Arc<UserInfo>>,
}

/// Accepts connections until `shutdown`, then lets those that are open finish for as long
/// as [`Limits::drain`] allows.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    router: Router,
    limits: &Limits,
    shutdown: &CancellationToken,
) {
    let connections = Arc::new(Semaphore::new(limits.connections));
    let shared = Arc::new(Shared {
        tls: TlsAcceptor::from(tls),
        http: http(limits),
        router,
        handshake_timeout: limits.handshake_timeout,
        shutdown: shutdown.clone(),
        cut: CancellationToken::new(),
    });
    let tasks = TaskTracker::new();
    let accepting = async {
        while let Ok(permit) = connections.clone().acquire_owned().await {
            match listener.accept().await {
                Ok((stream, address)) => {
                    tasks.spawn(connection(shared.clone(), stream, address, permit));
                }
                Err(error) => accept_failed(&error).await,
            }
        }
    };
    tokio::select! {
        () = accepting => {}
        () = shutdown.cancelled() => {}
    }
    drop(listener);
    tasks.close();
    if tokio::time::timeout(limits.drain, tasks.wait()).await.is_err() {
        tracing::debug!(open = tasks.len(), "cutting connections that are still open");
        shared.cut.cancel();
        tasks.wait().await;
    }
}

/// What every connection needs.
struct Shared {
    tls: TlsAcceptor,
    http: Builder<TokioExecutor>,
    router: Router,
    handshake_timeout: Duration,
    /// Finish what is under way and take no more requests.
    shutdown: CancellationToken,
    /// Close at once.
    cut: CancellationToken,
}

fn http(limits: &Limits) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.handshake_timeout)
        .max_buf_size(HEAD_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams_per_connection)
        .max_header_list_size(HEADER_LIST_BYTES_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    builder
}

async fn accept_failed(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    if matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted) {
        return;
    }
    tracing::warn!(%error, "accepting a connection failed");
    tokio::time::sleep(ACCEPT_RETRY).await;
}

async fn connection(
    shared: Arc<Shared>,
    stream: TcpStream,
    address: SocketAddr,
    permit: OwnedSemaphorePermit,
) {
    let _permit = permit;
    if let Err(error) = stream.set_nodelay(true) {
        tracing::trace!(%address, %error, "TCP_NODELAY was refused");
    }
    let handshake = tokio::time::timeout(shared.handshake_timeout, shared.tls.accept(stream));
    let stream = tokio::select! {
        () = shared.shutdown.cancelled() => return,
        done = handshake => match done {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                tracing::debug!(%address, %error, "TLS handshake failed");
                return;
            }
            Err(_) => {
                tracing::debug!(%address, "TLS handshake took too long");
                return;
            }
        },
    };
    let certificate = stream
        .get_ref()
        .1
        .peer_certificates()
        .and_then(<[_]>::first)
        .and_then(peer_identity)
        .map(|(name, groups)| Arc::new(UserInfo::new(name, groups)));
    let peer = Peer { address, certificate };
    let router = shared.router.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(peer.clone());
        let mut router = router.clone();
        async move { Ok::<_, Infallible>(router.call(request).await.unwrap_or_else(|never| match never {})) }
    });
    let serving = shared.http.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(serving);
    let outcome = tokio::select! {
        outcome = serving.as_mut() => outcome,
        () = shared.shutdown.cancelled() => {
            serving.as_mut().graceful_shutdown();
            tokio::select! {
                outcome = serving => outcome,
                () = shared.cut.cancelled() => return,
            }
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%address, %error, "connection ended with an error");
    }
}
