//! `/healthz`, `/livez`, `/readyz` and their single checks, in kube-apiserver's text form.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::Body;
use coracle_store::Kv;
use http::{Response, StatusCode};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::request::Query;
use crate::respond;

/// How long the store may take to answer a check before it counts as failed.
const STORE_TIMEOUT: Duration = Duration::from_secs(2);

/// How far start-up and shutdown are; shared by the service, the router and its callers.
#[derive(Clone)]
pub(crate) struct Readiness(Arc<State>);

struct State {
    registry: AtomicBool,
    bootstrap: AtomicBool,
    stopping: CancellationToken,
    ready: watch::Sender<bool>,
}

impl Readiness {
    pub(crate) fn new() -> Self {
        Self(Arc::new(State {
            registry: AtomicBool::new(false),
            bootstrap: AtomicBool::new(false),
            stopping: CancellationToken::new(),
            ready: watch::Sender::new(false),
        }))
    }

    /// The watch caches follow the store.
    pub(crate) fn registry_started(&self) {
        self.0.registry.store(true, Ordering::Release);
    }

    /// What every cluster has is there.
    pub(crate) fn bootstrapped(&self) {
        self.0.bootstrap.store(true, Ordering::Release);
    }

    /// Roles and bindings are known: the last step of start-up.
    pub(crate) fn authorizer_synced(&self) {
        self.0.ready.send_replace(true);
    }

    /// Cancelled once no new work is wanted; ends watches and other streams.
    pub(crate) fn stopping(&self) -> CancellationToken {
        self.0.stopping.clone()
    }

    /// Waits for the end of start-up.
    pub(crate) async fn ready(&self) {
        let mut ready = self.0.ready.subscribe();
        // The sender lives in `self`, so waiting cannot fail.
        let _ = ready.wait_for(|ready| *ready).await;
    }
}

/// One thing that is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Check {
    Ping,
    Store,
    Caches,
    Roles,
    Shutdown,
}

impl Check {
    /// The name in paths and texts: kube-apiserver's, so that probes of one check work.
    const fn name(self) -> &'static str {
        match self {
            Self::Ping => "ping",
            Self::Store => "etcd",
            Self::Caches => "informer-sync",
            Self::Roles => "poststarthook/rbac/bootstrap-roles",
            Self::Shutdown => "shutdown",
        }
    }
}

const HEALTHZ: &[Check] = &[Check::Ping, Check::Store, Check::Caches, Check::Roles];
const LIVEZ: &[Check] = &[Check::Ping];
const READYZ: &[Check] = &[Check::Ping, Check::Store, Check::Caches, Check::Roles, Check::Shutdown];

/// Whether a path belongs here.
pub(crate) fn is_health_path(path: &str) -> bool {
    let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    matches!(first, "healthz" | "livez" | "readyz")
}

/// Answers a path that [`is_health_path`] knows.
pub(crate) async fn answer(path: &str, query: &Query, readiness: &Readiness, kv: &dyn Kv) -> Response<Body> {
    let path = path.trim_matches('/');
    let (endpoint, only) = path.split_once('/').map_or((path, None), |(e, c)| (e, Some(c)));
    let checks = match endpoint {
        "healthz" => HEALTHZ,
        "livez" => LIVEZ,
        "readyz" => READYZ,
        _ => return respond::page_not_found(),
    };
    if let Some(only) = only {
        let Some(check) = checks.iter().find(|c| c.name() == only) else { return respond::page_not_found() };
        return if passes(*check, readiness, kv).await {
            respond::text(StatusCode::OK, "ok")
        } else {
            let text = format!("internal server error: {only} failed\n");
            respond::text(StatusCode::INTERNAL_SERVER_ERROR, text)
        };
    }
    let excluded: Vec<&str> = query.all("exclude").collect();
    let mut lines = String::new();
    let mut healthy = true;
    for check in checks {
        let name = check.name();
        if excluded.contains(&name) {
            lines.push_str(&format!("[+]{name} excluded: ok\n"));
        } else if passes(*check, readiness, kv).await {
            lines.push_str(&format!("[+]{name} ok\n"));
        } else {
            healthy = false;
            lines.push_str(&format!("[-]{name} failed: reason withheld\n"));
        }
    }
    if !healthy {
        lines.push_str(&format!("{endpoint} check failed\n"));
        return respond::text(StatusCode::INTERNAL_SERVER_ERROR, lines);
    }
    if query.get("verbose").is_none() {
        return respond::text(StatusCode::OK, "ok");
    }
    lines.push_str(&format!("{endpoint} check passed\n"));
    respond::text(StatusCode::OK, lines)
}

async fn passes(check: Check, readiness: &Readiness, kv: &dyn Kv) -> bool {
    match check {
        Check::Ping => true,
        Check::Store => {
            tokio::time::timeout(STORE_TIMEOUT, kv.status()).await.is_ok_and(|status| status.is_ok())
        }
        Check::Caches => readiness.0.registry.load(Ordering::Acquire),
        Check::Roles => readiness.0.bootstrap.load(Ordering::Acquire) && *readiness.0.ready.borrow(),
        Check::Shutdown => !readiness.0.stopping.is_cancelled(),
    }
}
