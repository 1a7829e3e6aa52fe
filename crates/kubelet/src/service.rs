//! Wires a kubelet's parts and runs them.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use coracle_client::Informers;
use coracle_client::events::Recorder;
use k8s_openapi::api::core::v1::{Pod, Service as KubeService};
use kube::Client;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::error::Error;
use crate::pods::Pods;
use crate::probes::Probes;
use crate::server::Server;
use crate::shared::Shared;
use crate::{node, pleg};

/// A kubelet, ready to run.
pub struct Service {
    config: Config,
    client: Client,
}

impl Service {
    /// Checks the settings and makes the directories. `client` acts as
    /// `system:node:<name>`.
    ///
    /// # Errors
    /// When the node has no name or a directory cannot be made.
    pub fn new(config: Config, client: Client) -> Result<Self, Error> {
        if config.node_name.is_empty() {
            return Err(Error::NoName);
        }
        make_private(&config.state_dir)?;
        make_private(&config.log_dir)?;
        Ok(Self { config, client })
    }

    /// Runs until `shutdown`. Pods go on running: the next kubelet finds them.
    ///
    /// # Errors
    /// When the node API cannot listen. Whatever goes wrong later shows in the Node's and
    /// the pods' statuses and is tried again.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), Error> {
        let Self { config, client } = self;
        let address = SocketAddr::new(config.node_ip, config.node_api_port);
        let server = Server::bind(address).await?;
        let address = server.address();

        let informers = Informers::new(client.clone(), shutdown.clone());
        let selector = format!("spec.nodeName={}", config.node_name);
        let pods = informers.get_filtered::<Pod>(None, Some(&selector));
        let services = informers.get::<KubeService>();
        let recorder = Recorder::new(client.clone(), "kubelet", &config.node_name);
        let shared = Arc::new(Shared::new(config, client, recorder, services));

        let timers = async {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = Pods::run_timers(Arc::clone(&shared)) => {}
                () = Probes::run(Arc::clone(&shared)) => {}
            }
        };
        tokio::join!(
            node::run(Arc::clone(&shared), informers, address, shutdown.clone()),
            pleg::run(Arc::clone(&shared), pods, shutdown.clone()),
            server.run(Arc::clone(&shared), shutdown.clone()),
            timers,
        );
        Ok(())
    }
}

fn make_private(path: &Path) -> Result<(), Error> {
    let failed = |source| Error::Directory { path: path.to_owned(), source };
    fs::create_dir_all(path).map_err(failed)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(failed)
}
