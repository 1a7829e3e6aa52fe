//! Single components in the foreground: controllers, scheduler, proxy, runtime.

use anyhow::{Context as _, Result};
use coracle_client::Informers;
use coracle_client::leader::{Durations, Elector};
use coracle_network::{Egress, Fabric};
use kube::config::Kubeconfig;
use tokio_util::sync::CancellationToken;

use super::nodes::unix_path;
use super::told_to_stop;
use crate::agent::{CLUSTER_DOMAIN, STOP_LIMIT, open_images};
use crate::cli::{ProxyAlone, Remote, RuntimeAlone};
use crate::datadir::DataDir;
use crate::server::{agent, controllers_config};
use crate::tasks::Tasks;

pub(super) async fn controller_manager(arguments: Remote) -> Result<()> {
    let client = coracle_client::remote(&arguments.kubeconfig, &agent("controller-manager")).await?;
    let config = controllers_config(&authority(&arguments)?);
    elected("kube-controller-manager", client, move |client, informers, stop| {
        coracle_controllers::Service::new(config, client, informers).run(stop)
    })
    .await
}

pub(super) async fn scheduler(arguments: Remote) -> Result<()> {
    let client = coracle_client::remote(&arguments.kubeconfig, &agent("scheduler")).await?;
    elected("kube-scheduler", client, |client, informers, stop| {
        coracle_scheduler::Service::new(coracle_scheduler::Config::default(), client, informers).run(stop)
    })
    .await
}

pub(super) async fn proxy(arguments: ProxyAlone) -> Result<()> {
    let client = coracle_client::remote(&arguments.kubeconfig, &agent("proxy")).await?;
    let config = coracle_proxy::Config {
        node_name: arguments.node_name.unwrap_or_else(crate::host_name),
        network_endpoint: unix_path(&arguments.network_endpoint)?,
        cluster_domain: CLUSTER_DOMAIN.into(),
    };
    let stop = CancellationToken::new();
    let informers = Informers::new(client.clone(), stop.clone());
    let mut tasks = Tasks::default();
    tasks.spawn("proxy", coracle_proxy::Service::new(config, client, informers).run(stop.clone()));
    until_stopped(tasks, stop).await
}

pub(super) async fn runtime(arguments: RuntimeAlone) -> Result<()> {
    let dir = DataDir::open(&arguments.dir.data_dir)?;
    let node_name = arguments.node_name.unwrap_or_else(crate::host_name);
    let node_dir = dir.path().join(&node_name);
    crate::datadir::make_private(&node_dir)?;
    let stop = CancellationToken::new();
    let mut tasks = Tasks::default();
    let fabric = Fabric::new(coracle_network::Config {
        egress: Egress::Allow,
        ..coracle_network::Config::new(node_name, arguments.node_ip)
    })?;
    tasks.spawn("network", fabric.clone().run(stop.clone()));
    let socket = node_dir.join("runtime.sock");
    let config = coracle_runtime::Config { socket: socket.clone(), state_dir: node_dir.join("runtime") };
    let images = open_images(Some(&dir.path().join("images")))?;
    tasks.spawn("runtime", coracle_runtime::Service::new(config, images, fabric)?.run(stop.clone()));
    println!("CRI: unix://{}", socket.display());
    until_stopped(tasks, stop).await
}

/// Runs `work` while this process leads.
async fn elected<F, Fut, E>(name: &'static str, client: kube::Client, work: F) -> Result<()>
where
    F: FnOnce(kube::Client, Informers, CancellationToken) -> Fut + Send + 'static,
    Fut: Future<Output = Result<(), E>> + Send + 'static,
    E: Into<anyhow::Error> + Send + 'static,
{
    let stop = CancellationToken::new();
    let informers = Informers::new(client.clone(), stop.clone());
    let identity = format!("{}_{}", crate::host_name(), std::process::id());
    let elector = Elector::new(client.clone(), "kube-system", name, &identity, Durations::default());
    let (mut tasks, told) = (Tasks::default(), stop.clone());
    tasks.spawn(name, crate::server::lead(elector, told, move |stop| work(client, informers, stop)));
    until_stopped(tasks, stop).await
}

async fn until_stopped(mut tasks: Tasks, stop: CancellationToken) -> Result<()> {
    let ended = tokio::select! {
        error = tasks.first_end() => Err(error),
        told = told_to_stop() => told,
    };
    stop.cancel();
    tasks.finish(STOP_LIMIT).await;
    ended
}

/// The authority of the cluster that the kubeconfig names, PEM: what pods are told to trust.
fn authority(arguments: &Remote) -> Result<String> {
    use base64::Engine as _;
    let config = Kubeconfig::read_from(&arguments.kubeconfig)?;
    let cluster = config.clusters.into_iter().find_map(|c| c.cluster).unwrap_or_default();
    if let Some(file) = cluster.certificate_authority {
        return std::fs::read_to_string(&file).with_context(|| file);
    }
    let text = cluster.certificate_authority_data.context("the kubeconfig names no certificate authority")?;
    Ok(String::from_utf8(base64::engine::general_purpose::STANDARD.decode(text)?)?)
}
