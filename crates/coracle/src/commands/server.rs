//! `coracle server` and `coracle apiserver`: a master in the foreground.

use std::net::SocketAddr;

use anyhow::{Result, bail};

use super::told_to_stop;
use crate::cli;
use crate::datadir::DataDir;
use crate::progress::Progress;
use crate::server::{Server, ServerConfig};

pub(super) async fn run(arguments: cli::Server, controllers: bool) -> Result<()> {
    if arguments.join.is_some() {
        bail!("joining other masters is not available yet: run a single `coracle server`");
    }
    if !arguments.datastore_endpoints.is_empty() {
        bail!("an external etcd is not available yet: leave --datastore-endpoints out");
    }
    if arguments.etcd_listen.is_some() {
        bail!("the etcd v3 API is not available yet: leave --etcd-listen out");
    }
    let progress = Progress::on_terminal();
    let dir = DataDir::open(&arguments.dir.data_dir)?;
    let config = ServerConfig {
        dir: dir.path().to_owned(),
        ephemeral: false,
        listen: SocketAddr::new(arguments.bind_address, arguments.port),
        controllers,
    };
    let mut stop = std::pin::pin!(told_to_stop());
    let mut server = tokio::select! {
        started = Server::start(config, progress) => started?,
        told = &mut stop => return told,
    };
    println!("ready in {} ms", progress.elapsed_ms());
    println!("kubeconfig: {}", server.kubeconfig_path().display());
    let ended = tokio::select! {
        error = server.failed() => Err(error),
        told = stop => told,
    };
    server.stop().await;
    ended
}
