//! The component: its configuration, its life, its errors.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use coracle_cri::MESSAGE_BYTES_MAX;
use coracle_cri::runtime::v1::image_service_server::ImageServiceServer;
use coracle_cri::runtime::v1::runtime_service_server::RuntimeServiceServer;
use coracle_images::Store;
use coracle_network::{Fabric, node_network_server};
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use crate::host::{Host, HostError};
use crate::node::Node;
use crate::record::{Records, StateError};
use crate::service::Cri;

/// How long guests may take to be gone when the runtime stops.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(3);

/// How long clients may take to close their connections then.
const HANG_UP_TIMEOUT: Duration = Duration::from_millis(500);

/// Where a runtime serves and keeps its state.
#[derive(Debug, Clone)]
pub struct Config {
    /// The unix socket of CRI and NodeNetwork.
    pub socket: PathBuf,
    /// Directory of sandboxes' and containers' records; made when absent.
    pub state_dir: PathBuf,
}

/// A runtime, ready to serve.
pub struct Service {
    config: Config,
    node: Arc<Node>,
    fabric: Fabric,
}

/// A runtime could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Guests cannot run here.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The state directory cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The socket cannot be served.
    #[error(transparent)]
    Bind(#[from] coracle_cri::BindError),
    /// The server ended by itself.
    #[error("the runtime's server failed")]
    Serve(#[from] tonic::transport::Error),
}

impl Service {
    /// Takes up the state that an earlier process left: sandboxes return to the network
    /// under their addresses, containers that ran are exited.
    ///
    /// The image store may be shared with other nodes of the process; the fabric is this
    /// node's, and is run by whoever made it.
    ///
    /// # Errors
    /// When guests cannot run here, or the state directory cannot be used.
    pub fn new(config: Config, images: Store, fabric: Fabric) -> Result<Self, Error> {
        let host = Host::shared()?;
        let records = Records::open(&config.state_dir)?;
        let node = Node::new(host, images, fabric.clone(), records);
        Ok(Self { config, node, fabric })
    }

    /// Serves until `shutdown`; then ends every guest.
    ///
    /// # Errors
    /// When the socket cannot be served.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), Error> {
        let incoming = coracle_cri::bind(&self.config.socket).await?;
        let cri = Cri {
            node: Arc::clone(&self.node),
            state_dir: self.config.state_dir,
            shutdown: shutdown.clone(),
        };
        let runtime = RuntimeServiceServer::new(cri.clone())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        let images = ImageServiceServer::new(cri)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        let serving = Server::builder()
            .add_service(runtime)
            .add_service(images)
            .add_service(node_network_server(self.fabric))
            .serve_with_incoming_shutdown(incoming, shutdown.clone().cancelled_owned());
        // Clients that do not hang up when told are not waited for.
        let patience = async {
            shutdown.cancelled().await;
            tokio::time::sleep(HANG_UP_TIMEOUT).await;
        };
        let served = tokio::select! {
            served = serving => served.map_err(Error::from),
            () = patience => Ok(()),
        };
        self.node.shut_down(SHUTDOWN_TIMEOUT).await;
        served
    }
}
