//! The way of a request through the front, and the `tower::Service` that callers see.
//!
//! Order: request id → who asks → in-flight limit → may they → deadline → the handler.
//! Around it all: a fence that turns a panic into a 500, metrics, and the headers that every
//! answer carries. Streams (watches, logs) have no deadline and do not count as in flight;
//! they end when the server stops.

mod dispatch;

use std::any::Any;
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use axum::body::Body;
use coracle_api::status::Status;
use coracle_api::user::UserInfo;
use coracle_store::Kv;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use http::header::{CACHE_CONTROL, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Request, Response, StatusCode};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;
use tower::Service;

use crate::authn::Authenticator;
use crate::authz::{Authorizer, RoleWrites};
use crate::config::Config;
use crate::discovery::Discovery;
use crate::health::Readiness;
use crate::hooks::Hooks;
use crate::listener::Peer;
use crate::metrics::{Metrics, RequestLabels, Running};
use crate::openapi::OpenApi;
use crate::registry::Registry;
use crate::request::{RequestInfo, Verb};
use crate::{negotiate, respond};

/// Header that identifies a request in logs and towards its sender.
const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");
/// Longest id that a client may choose, in bytes; a longer one is replaced.
const AUDIT_ID_BYTES_MAX: usize = 64;
/// What a client that was refused for load is told to wait, in seconds.
const RETRY_AFTER_S: u32 = 1;

/// The API as a `tower::Service`; clones share everything.
///
/// A request with a [`UserInfo`] extension is that user's; see [`crate::Handle::router`].
#[derive(Clone)]
pub struct Router(Arc<Front>);

/// What all requests share.
pub(crate) struct Front {
    config: Arc<Config>,
    registry: Registry,
    kv: Arc<dyn Kv>,
    readiness: Readiness,
    stopping: CancellationToken,
    authenticator: Arc<Authenticator>,
    authorizer: Authorizer,
    role_writes: RoleWrites,
    reads: Semaphore,
    writes: Semaphore,
    metrics: Metrics,
    discovery: Discovery,
    openapi: OpenApi,
    hooks: Hooks,
}

impl Router {
    pub(crate) fn new(
        config: Arc<Config>,
        registry: Registry,
        kv: Arc<dyn Kv>,
        readiness: Readiness,
    ) -> Self {
        let authorizer = Authorizer::default();
        let authenticator = Arc::new(Authenticator::new(&config, &registry));
        let hooks = Hooks::new(config.clone(), registry.clone(), authenticator.clone(), authorizer.clone());
        Self(Arc::new(Front {
            reads: Semaphore::new(config.limits.reads_in_flight),
            writes: Semaphore::new(config.limits.writes_in_flight),
            stopping: readiness.stopping(),
            config,
            registry,
            kv,
            readiness,
            authenticator,
            authorizer,
            role_writes: RoleWrites::default(),
            metrics: Metrics::new(),
            discovery: Discovery::default(),
            openapi: OpenApi::default(),
            hooks,
        }))
    }

    pub(crate) fn authorizer(&self) -> &Authorizer {
        &self.0.authorizer
    }
}

impl Service<Request<Body>> for Router {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let front = self.0.clone();
        Box::pin(async move { Ok(front.answer(request).await) })
    }
}

/// Whether a request streams, and so has no deadline.
fn is_stream(info: &RequestInfo) -> bool {
    info.is_resource
        && (info.verb == Verb::Watch
            || matches!(
                info.subresource.as_deref(),
                Some("log" | "exec" | "attach" | "portforward" | "proxy")
            ))
}

impl Front {
    async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let started = Instant::now();
        let (parts, body) = request.into_parts();
        let info = RequestInfo::parse(&parts.method, parts.uri.path(), parts.uri.query());
        let audit_id = audit_id(&parts);
        let outcome = AssertUnwindSafe(self.steps(&parts, &info, body)).catch_unwind().await;
        let mut response = match outcome {
            Ok(Ok(response)) => response,
            Ok(Err(status)) => respond::status(&status, negotiate::error_format(&parts.headers)),
            Err(panic) => {
                tracing::error!(path = %info.path, panic = panic_text(&*panic), "a handler panicked");
                let status = Status::internal("the handler of this request failed");
                respond::status(&status, negotiate::error_format(&parts.headers))
            }
        };
        let headers = response.headers_mut();
        headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache, private"));
        let took = started.elapsed();
        tracing::debug!(
            method = %info.method, path = %info.path, code = response.status().as_u16(),
            from = parts.extensions.get::<Peer>().map(|peer| tracing::field::display(peer.address)),
            micros = took.as_micros(), audit_id = audit_id.to_str().unwrap_or_default(), "request"
        );
        response.headers_mut().insert(AUDIT_ID, audit_id);
        let labels = self.labels(&info, response.status());
        self.metrics.answered(&labels, (!is_stream(&info)).then_some(took));
        response
    }

    /// Everything that may refuse the request, then the handler.
    async fn steps(&self, parts: &Parts, info: &RequestInfo, body: Body) -> Result<Response<Body>, Status> {
        let user = self.authenticator.identify(parts, &self.authorizer).await?;
        if is_stream(info) {
            self.authorizer.authorize(&user, info)?;
            let running = self.metrics.start_long(info.verb.as_str(), &info.group, self.known_plural(info));
            let response = self.dispatch(parts, info, user, body).await?;
            return Ok(self.until_stopped(response, running));
        }
        let _permit = self.admit(&user, info)?;
        let _running = self.metrics.start(info.verb.is_write());
        self.authorizer.authorize(&user, info)?;
        let handled = self.dispatch(parts, info, user, body);
        match tokio::time::timeout(self.config.limits.request_timeout, handled).await {
            Ok(answer) => answer,
            Err(_) => Err(Status::timeout("request did not complete within the allotted timeout", 0)),
        }
    }

    /// A place among the requests under way. Members of `system:masters` (among them our own
    /// components) always get one, so that load by users cannot lock the operator out.
    fn admit(&self, user: &UserInfo, info: &RequestInfo) -> Result<Option<SemaphorePermit<'_>>, Status> {
        if user.in_group(UserInfo::MASTERS) || !info.is_resource {
            return Ok(None);
        }
        let limit = if info.verb.is_write() { &self.writes } else { &self.reads };
        limit.try_acquire().map(Some).map_err(|_| {
            self.metrics.refused();
            Status::too_many_requests("Too many requests, please try again later.", RETRY_AFTER_S)
        })
    }

    /// Ends a streamed body when the server stops, and counts it until then.
    fn until_stopped(&self, response: Response<Body>, running: Running) -> Response<Body> {
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return response;
        }
        let stopping = self.stopping.clone();
        response.map(|body| {
            let frames = body.into_data_stream().inspect(move |_| {
                let _counted = &running;
            });
            Body::from_stream(frames.take_until(stopping.cancelled_owned()))
        })
    }

    /// The plural if it is served; what clients make up never becomes a label.
    fn known_plural<'a>(&self, info: &'a RequestInfo) -> &'a str {
        let known = info.is_resource
            && self.registry.resources().find(&info.group, &info.version, &info.plural).is_some();
        if known { &info.plural } else { "" }
    }

    fn labels(&self, info: &RequestInfo, code: StatusCode) -> RequestLabels {
        let resource = self.known_plural(info).to_owned();
        let known = !resource.is_empty();
        let when_known = |text: &str| if known { text.to_owned() } else { String::new() };
        RequestLabels {
            verb: info.verb.as_str(),
            group: when_known(&info.group),
            version: when_known(&info.version),
            subresource: match info.subresource.as_deref() {
                Some(sub) if self.is_subresource(info, sub) => sub.to_owned(),
                _ => String::new(),
            },
            scope: match (known, &info.name, &info.namespace) {
                (false, ..) => "",
                (true, Some(_), _) => "resource",
                (true, None, Some(_)) => "namespace",
                (true, None, None) => "cluster",
            },
            code: code.as_u16(),
            resource,
        }
    }

    fn is_subresource(&self, info: &RequestInfo, sub: &str) -> bool {
        let index = self.registry.resources();
        index
            .find(&info.group, &info.version, &info.plural)
            .is_some_and(|row| row.resource.subresource(sub).is_some())
    }
}

/// The id of a request: the client's own if it is short and printable, else a new one.
fn audit_id(parts: &Parts) -> HeaderValue {
    let given = parts.headers.get(AUDIT_ID).filter(|id| (1..=AUDIT_ID_BYTES_MAX).contains(&id.len()));
    if let Some(given) = given.filter(|id| id.to_str().is_ok()) {
        return given.clone();
    }
    HeaderValue::from_str(&uuid::Uuid::new_v4().to_string())
        .unwrap_or_else(|_| HeaderValue::from_static("unknown"))
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&'static str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("of unknown cause")
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Method;

    #[test]
    fn only_watches_and_streams_have_no_deadline() {
        let table = [
            ("/api/v1/pods?watch=1", true),
            ("/api/v1/namespaces/a/pods/p/log", true),
            ("/api/v1/namespaces/a/pods/p/exec", true),
            ("/api/v1/namespaces/a/pods/p/status", false),
            ("/api/v1/pods", false),
            ("/healthz", false),
        ];
        for (uri, want) in table {
            let (path, query) = uri.split_once('?').map_or((uri, None), |(p, q)| (p, Some(q)));
            assert_eq!(is_stream(&RequestInfo::parse(&Method::GET, path, query)), want, "{uri}");
        }
    }

    #[test]
    fn ids_of_clients_are_kept_when_they_are_short() {
        let id = |text: &str| {
            let (parts, ()) = Request::builder().header(AUDIT_ID, text).body(()).unwrap().into_parts();
            audit_id(&parts)
        };
        assert_eq!(id("mine"), "mine");
        assert_ne!(id(&"x".repeat(AUDIT_ID_BYTES_MAX + 1)).len(), AUDIT_ID_BYTES_MAX + 1);
        assert_eq!(id("").len(), 36);
    }
}
