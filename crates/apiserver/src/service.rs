//! The component: [`Service`] runs an API server, [`Handle`] reaches it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use coracle_store::Kv;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::health::Readiness;
use crate::registry::{self, Registry};
use crate::router::Router;
use crate::{bootstrap, listener};

/// Why an API server could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: choose another port or stop what uses it")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The registry could not read the store.
    #[error("the registry could not start")]
    Registry(#[source] registry::StartError),
    /// Objects that every cluster has could not be written.
    #[error("bootstrap of {what} failed: {why}")]
    Bootstrap {
        /// The object concerned.
        what: String,
        /// What the registry answered.
        why: String,
    },
}

/// An API server that listens but does not answer yet.
pub struct Service {
    config: Arc<Config>,
    listener: std::net::TcpListener,
    registry: Registry,
    handle: Handle,
}

impl Service {
    /// Binds the address; connections wait until [`Service::run`].
    ///
    /// # Errors
    /// [`Error::Listen`] when the address is taken or not ours.
    pub fn new(config: Config, kv: Arc<dyn Kv>) -> Result<Self, Error> {
        let refused = |source| Error::Listen { address: config.listen, source };
        let listener = std::net::TcpListener::bind(config.listen).map_err(refused)?;
        listener.set_nonblocking(true).map_err(refused)?;
        let local_addr = listener.local_addr().map_err(refused)?;
        let registry = Registry::new(
            kv.clone(),
            registry::Config {
                service_cidr: config.service_cidr,
                node_ports: config.node_ports.clone(),
                ..registry::Config::default()
            },
        );
        let config = Arc::new(config);
        let readiness = Readiness::new();
        let router = Router::new(config.clone(), registry.clone(), kv, readiness.clone());
        let handle = Handle { router, local_addr, readiness };
        Ok(Self { config, listener, registry, handle })
    }

    /// A way to reach the server, also before it runs.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Serves until `shutdown`: reads the store, writes what every cluster has, then
    /// accepts connections. In-process callers are served from the same moment on.
    ///
    /// # Errors
    /// [`Error::Registry`] and [`Error::Bootstrap`] at start; afterwards none.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), Error> {
        let Self { config, listener, registry, handle } = self;
        let address = handle.local_addr;
        let listener = TcpListener::from_std(listener).map_err(|source| Error::Listen { address, source })?;
        // The registry outlives the listener, so that what is under way can finish; it ends
        // with this function, also when start-up fails half-way.
        let running = CancellationToken::new();
        let _stop = running.clone().drop_guard();

        tokio::select! {
            started = start(&config, &registry, &handle, &running) => started?,
            () = shutdown.cancelled() => return Ok(()),
        }
        tracing::info!(%address, "API server is ready");

        let stopping = handle.readiness.stopping();
        let serving =
            listener::serve(listener, config.tls.clone(), handle.router.clone(), &config.limits, &stopping);
        tokio::join!(serving, async {
            shutdown.cancelled().await;
            stopping.cancel();
        });
        Ok(())
    }
}

/// Everything before the first request: reads the store, writes what every cluster has, and
/// learns the roles.
async fn start(
    config: &Config,
    registry: &Registry,
    handle: &Handle,
    running: &CancellationToken,
) -> Result<(), Error> {
    registry.start(running.clone()).await.map_err(Error::Registry)?;
    handle.readiness.registry_started();
    bootstrap::run(config, registry, handle.local_addr).await?;
    handle.readiness.bootstrapped();
    handle.router.authorizer().follow(registry, running).synced().await;
    handle.readiness.authorizer_synced();
    Ok(())
}

/// Reaches an API server; cheap to clone.
#[derive(Clone)]
pub struct Handle {
    router: Router,
    local_addr: SocketAddr,
    readiness: Readiness,
}

impl Handle {
    /// The server as a `tower::Service` for callers in the same process. The caller's
    /// identity is a [`coracle_api::user::UserInfo`] request extension; without one the
    /// request is anonymous.
    #[must_use]
    pub fn router(&self) -> Router {
        self.router.clone()
    }

    /// The address that is listened on, with the port that the system chose.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Waits until the server answers every kind of request. Never returns if it fails to
    /// start; wait for [`Service::run`] beside it.
    pub async fn ready(&self) {
        self.readiness.ready().await;
    }
}
