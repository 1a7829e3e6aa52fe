//! Serves a `wasi:http/proxy` component: the runtime accepts connections on the pod's
//! network and gives every request an instance of its own, so that requests share nothing
//! and a trap ends one of them. A container without requests has no instance at all.
//!
//! HTTP/1.1 and HTTP/2 with prior knowledge. Connections and requests in flight are
//! bounded: beyond that many, they wait.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use coracle_network::{Listener, Stream};
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::sync::{Semaphore, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode, Scheme};
use wasmtime_wasi_http::{Error, WasiHttpView};

use crate::guest::Guest;
use crate::workload::Workload;

/// Connections of one container at a time; later ones wait in the listener's queue.
const CONNECTIONS_MAX: usize = 1024;
/// Instances of one container at a time; later requests wait for one to end.
const REQUESTS_MAX: usize = 128;
/// How long a client may take to send the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Streams of one HTTP/2 connection at a time.
const STREAMS_MAX: u32 = 128;

type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, Error>;

/// Why a server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Served {
    /// It was asked to stop, and every request got its answer.
    Drained,
    /// One request alone wanted more memory than the container may have.
    OutOfMemory,
    /// The pod left the network.
    Detached,
}

/// A component behind a listener. Clones are the same server.
#[derive(Clone)]
pub(crate) struct Server {
    inner: Arc<Inner>,
}

struct Inner {
    workload: Arc<Workload>,
    component: ProxyPre<Guest>,
    connections: Arc<Semaphore>,
    requests: Arc<Semaphore>,
    /// Connections and guests that have not ended.
    tasks: TaskTracker,
    /// Ends guests at once.
    kill: CancellationToken,
    out_of_memory: CancellationToken,
}

impl Server {
    pub(crate) fn new(workload: Arc<Workload>, component: ProxyPre<Guest>) -> Self {
        Self {
            inner: Arc::new(Inner {
                workload,
                component,
                connections: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
                requests: Arc::new(Semaphore::new(REQUESTS_MAX)),
                tasks: TaskTracker::new(),
                kill: CancellationToken::new(),
                out_of_memory: CancellationToken::new(),
            }),
        }
    }

    /// Serves until told to `stop`, and then until what was in flight has ended. Dropping
    /// the future ends everything at once.
    pub(crate) async fn run(self, mut listener: Listener, stop: CancellationToken) -> Served {
        let inner = &self.inner;
        let _kill = inner.kill.clone().drop_guard();
        let ended = loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break Served::Drained,
                () = inner.out_of_memory.cancelled() => break Served::OutOfMemory,
                accepted = accept(inner, &mut listener) => accepted,
            };
            let Some((stream, permit)) = accepted else {
                break Served::Detached;
            };
            let (server, stop) = (self.clone(), stop.clone());
            let kill = inner.kill.clone();
            inner.tasks.spawn(async move {
                kill.run_until_cancelled(server.connection(stream, stop)).await;
                drop(permit);
            });
        };
        drop(listener);
        if ended != Served::Drained {
            inner.kill.cancel();
        }
        inner.tasks.close();
        tokio::select! {
            () = inner.tasks.wait() => ended,
            () = inner.out_of_memory.cancelled() => Served::OutOfMemory,
        }
    }

    async fn connection(&self, stream: Stream, stop: CancellationToken) {
        let server = self.clone();
        let service = service_fn(move |request| {
            let server = server.clone();
            async move { Ok::<_, Infallible>(server.answer(request).await) }
        });
        let mut http = auto::Builder::new(TokioExecutor::new());
        http.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
        http.http2().timer(TokioTimer::new()).max_concurrent_streams(STREAMS_MAX);
        let connection = http.serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        let served = tokio::select! {
            served = connection.as_mut() => served,
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = served {
            tracing::debug!(%error, "connection ended");
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        match self.request(request).await {
            Ok(response) => response,
            Err((status, message)) => plain(status, message),
        }
    }

    async fn request(
        &self,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, (StatusCode, &'static str)> {
        let inner = Arc::clone(&self.inner);
        if request.uri().authority().is_none() && !request.headers().contains_key(header::HOST) {
            return Err((StatusCode::BAD_REQUEST, "the request names no host\n"));
        }
        let permit = Arc::clone(&inner.requests).acquire_owned().await;
        let (sender, receiver) = oneshot::channel();
        // A client that goes away before there is an answer takes its guest with it.
        let abandoned = inner.kill.child_token();
        let waiting = abandoned.clone().drop_guard();
        let guest = inner.tasks.spawn({
            let inner = Arc::clone(&inner);
            async move {
                let handled = abandoned.run_until_cancelled(inner.handle(request, sender)).await;
                drop(permit);
                handled
            }
        });
        match receiver.await {
            Ok(Ok(response)) => {
                waiting.disarm();
                Ok(response)
            }
            Ok(Err(code)) => {
                tracing::debug!(?code, "the guest answered with an error");
                Err((StatusCode::BAD_GATEWAY, "the application answered with an error\n"))
            }
            Err(_) => match guest.await {
                Ok(Some(Handled::OutOfMemory)) => {
                    Err((StatusCode::SERVICE_UNAVAILABLE, "the application is out of memory\n"))
                }
                _ => Err((StatusCode::INTERNAL_SERVER_ERROR, "the application failed\n")),
            },
        }
    }
}

/// How a request's guest ended.
enum Handled {
    Done,
    Failed,
    OutOfMemory,
}

type ResponseSender = oneshot::Sender<Result<Response<Body>, ErrorCode>>;

impl Inner {
    async fn handle(&self, request: Request<Incoming>, sender: ResponseSender) -> Handled {
        let run = Box::pin(self.instance(request, sender));
        let host = self.workload.host();
        let (result, denied, alone) = self.workload.account().run(host.ticker(), run).await;
        let Err(error) = result else {
            return Handled::Done;
        };
        if denied && alone {
            self.out_of_memory.cancel();
        }
        self.workload.complain(&format!("request failed: {}", crate::exit::describe(&error)));
        if denied { Handled::OutOfMemory } else { Handled::Failed }
    }

    /// Runs one request in an instance of its own. With the result: whether it was refused
    /// memory, and whether no other instance held any then.
    async fn instance(
        &self,
        request: Request<Incoming>,
        sender: ResponseSender,
    ) -> (wasmtime::Result<()>, bool, bool) {
        let mut store = match self.workload.store() {
            Ok(store) => store,
            Err(error) => return (Err(error), false, false),
        };
        let result = async {
            let request = store.data_mut().http().new_incoming_request(Scheme::Http, request)?;
            let out = store.data_mut().http().new_response_outparam(sender)?;
            let proxy = self.component.instantiate_async(&mut store).await?;
            proxy.wasi_http_incoming_handler().call_handle(&mut store, request, out).await
        }
        .await;
        let memory = store.data().memory();
        (result, memory.denied(), !memory.others_hold_memory())
    }
}

async fn accept(
    inner: &Inner,
    listener: &mut Listener,
) -> Option<(Stream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = Arc::clone(&inner.connections).acquire_owned().await.ok()?;
    let stream = listener.accept().await.ok()?;
    Some((stream, permit))
}

fn plain(status: StatusCode, message: &'static str) -> Response<Body> {
    let body = Full::new(Bytes::from_static(message.as_bytes()));
    let mut response = Response::new(body.map_err(Error::from).boxed_unsync());
    *response.status_mut() = status;
    let text = header::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, text);
    response
}
