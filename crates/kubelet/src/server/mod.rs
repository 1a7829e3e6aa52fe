//! The node API: container logs, pods and health, over mutual TLS.
//!
//! Whoever connects must show a certificate of the cluster's authority that names the API
//! server or an administrator. Everything else is refused before it is looked at.

mod container_logs;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use axum::{Extension, Json};
use coracle_plan::kubelet::ContainerPhase;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::shared::Shared;

/// Connections at the same time; more wait to be accepted.
const CONNECTIONS_MAX: usize = 1024;
/// Requests at the same time on one HTTP/2 connection.
const STREAMS_MAX: u32 = 128;
/// How long a client may take for its handshake and for the head of a request.
const HEAD_LIMIT: Duration = Duration::from_secs(10);
/// Names that the API server shows, besides the group below.
const API_SERVERS: [&str; 2] = ["system:apiserver-kubelet-client", "kube-apiserver-kubelet-client"];
/// The group of administrators.
const MASTERS: &str = "system:masters";

/// Who is at the other end of a connection.
#[derive(Debug, Clone)]
enum Peer {
    /// No certificate.
    Anonymous,
    /// A certificate of the cluster's authority.
    Known { name: String, groups: Vec<String> },
}

/// An open port of the node API.
pub(crate) struct Server {
    listener: TcpListener,
    address: SocketAddr,
}

impl Server {
    /// Opens the port.
    pub(crate) async fn bind(address: SocketAddr) -> Result<Self, Error> {
        let failed = |source| Error::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until shutdown.
    pub(crate) async fn run(self, shared: Arc<Shared>, shutdown: CancellationToken) {
        let acceptor = TlsAcceptor::from(Arc::clone(&shared.config.tls));
        let router = router(shared);
        let turns = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let Ok(turn) = Arc::clone(&turns).acquire_owned().await else { return };
            let stream = tokio::select! {
                () = shutdown.cancelled() => return,
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        tracing::warn!(%error, "the node API cannot accept a connection");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        continue;
                    }
                },
            };
            let work = serve(stream, acceptor.clone(), router.clone());
            let shutdown = shutdown.clone();
            tokio::spawn(async move {
                tokio::select! {
                    () = shutdown.cancelled() => {}
                    () = work => {}
                }
                drop(turn);
            });
        }
    }
}

async fn serve(stream: TcpStream, acceptor: TlsAcceptor, router: Router) {
    let stream = match tokio::time::timeout(HEAD_LIMIT, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(%error, "a handshake with the node API failed");
            return;
        }
        Err(_) => return,
    };
    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let peer = match certificate.and_then(coracle_pki::tls::peer_identity) {
        Some((name, groups)) => Peer::Known { name, groups },
        None => Peer::Anonymous,
    };
    let service = TowerToHyperService::new(router.layer(Extension(peer)));
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_LIMIT);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(STREAMS_MAX);
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a connection to the node API broke off");
    }
}

fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route("/pods", get(pods))
        .route("/metrics", get(metrics))
        .route("/containerLogs/{namespace}/{pod}/{container}", get(container_logs::serve))
        .route("/exec/{*rest}", any(not_implemented))
        .route("/attach/{*rest}", any(not_implemented))
        .route("/portForward/{*rest}", any(not_implemented))
        .layer(middleware::from_fn(authorize))
        .with_state(shared)
}

/// Lets the API server and administrators in.
async fn authorize(Extension(peer): Extension<Peer>, request: Request, next: Next) -> Response {
    match &peer {
        Peer::Anonymous => {
            (StatusCode::UNAUTHORIZED, "a client certificate of the cluster is needed\n").into_response()
        }
        Peer::Known { name, groups }
            if API_SERVERS.contains(&name.as_str()) || groups.iter().any(|g| g == MASTERS) =>
        {
            next.run(request).await
        }
        Peer::Known { name, .. } => {
            let text = format!("Forbidden (user={name}, resource=nodes, subresource=proxy)\n");
            (StatusCode::FORBIDDEN, text).into_response()
        }
    }
}

async fn not_implemented() -> Response {
    let text = "exec, attach and port-forward are not offered by this kubelet yet\n";
    (StatusCode::NOT_IMPLEMENTED, text).into_response()
}

async fn pods(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let items: Vec<Value> = shared.pods.all().iter().map(|entry| json!(&*entry.seen().pod)).collect();
    Json(json!({ "kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items }))
}

async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    let entries = shared.pods.all();
    let running = entries
        .iter()
        .map(|entry| {
            let seen = entry.seen();
            seen.containers.iter().filter(|c| c.state == ContainerPhase::Running).count()
        })
        .sum::<usize>();
    let text = format!(
        "# HELP kubelet_active_pods Pods bound to this node.\n\
         # TYPE kubelet_active_pods gauge\n\
         kubelet_active_pods {}\n\
         # HELP kubelet_running_containers Containers that run.\n\
         # TYPE kubelet_running_containers gauge\n\
         kubelet_running_containers{{container_state=\"running\"}} {running}\n",
        entries.len()
    );
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}

#[cfg(test)]
mod tests;
