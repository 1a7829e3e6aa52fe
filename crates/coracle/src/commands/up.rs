//! `coracle up`: a cluster in the foreground.

use std::io::Write as _;

use anyhow::{Result, bail};
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::api::{DynamicObject, ListParams};
use kube::runtime::watcher;

use super::told_to_stop;
use crate::cli::Up;
use crate::cluster::{Cluster, ClusterConfig};
use crate::manifest::{self, Document};
use crate::progress::Progress;

pub(super) async fn run(arguments: Up) -> Result<()> {
    if arguments.servers > 1 {
        bail!("several masters in one process are not available yet: leave --servers at 1");
    }
    // A mistake in a manifest is told before anything is started.
    let mut documents = Vec::new();
    for file in &arguments.manifests {
        documents.extend(manifest::read(file)?);
    }
    let progress = Progress::on_terminal();
    let config = ClusterConfig {
        data_dir: (!arguments.ephemeral).then(|| arguments.dir.data_dir.clone()),
        ephemeral: arguments.ephemeral,
        bind: arguments.bind_address,
        port: arguments.port,
        agents: arguments.agents,
        node_ip: arguments.node_ip,
    };
    let mut stop = std::pin::pin!(told_to_stop());
    let mut cluster = tokio::select! {
        started = Cluster::start(config, progress) => started?,
        told = &mut stop => return told,
    };
    let served = serve(&mut cluster, &documents, progress, stop).await;
    cluster.stop().await;
    served
}

async fn serve(
    cluster: &mut Cluster,
    documents: &[Document],
    progress: Progress,
    stop: impl Future<Output = Result<()>>,
) -> Result<()> {
    let kubeconfig = cluster.kubeconfig_path().display().to_string();
    say(&format!("ready in {} ms", progress.elapsed_ms()))?;
    say(&format!("kubeconfig: {kubeconfig}"))?;
    say(&format!("export KUBECONFIG={kubeconfig}"))?;
    let client = cluster.admin_client();
    tokio::select! {
        applied = apply_and_tell(&client, documents) => applied?,
        error = cluster.failed() => return Err(error),
        told = stop => return told,
    }
    Ok(())
}

/// Applies the manifests, tells where their Services answer, and then never returns.
async fn apply_and_tell(client: &kube::Client, documents: &[Document]) -> Result<()> {
    let mut applied = Vec::new();
    for document in documents {
        applied.push(manifest::apply(client, document).await?);
    }
    for object in &applied {
        if let Some((name, urls)) = node_port_urls(client, object).await? {
            has_endpoint(client, object).await?;
            say(&format!("service {name}: {}", urls.join(" ")))?;
        }
    }
    std::future::pending().await
}

/// Name and addresses of a Service with node ports.
async fn node_port_urls(
    client: &kube::Client,
    object: &DynamicObject,
) -> Result<Option<(String, Vec<String>)>> {
    if object.types.as_ref().is_none_or(|t| t.kind != "Service" || t.api_version != "v1") {
        return Ok(None);
    }
    let (namespace, name) = names(object);
    let service = Api::<Service>::namespaced(client.clone(), &namespace).get(&name).await?;
    let ports = service.spec.and_then(|s| s.ports).unwrap_or_default();
    let nodes = Api::<Node>::all(client.clone()).list(&ListParams::default().limit(1)).await?;
    let addresses = nodes.items.into_iter().next().and_then(|n| n.status?.addresses).unwrap_or_default();
    let Some(address) = addresses.iter().find(|a| a.type_ == "InternalIP") else { return Ok(None) };
    let urls: Vec<String> = ports
        .iter()
        .filter(|p| p.protocol.as_deref() != Some("UDP"))
        .filter_map(|p| Some(format!("http://{}:{}/", address.address, p.node_port?)))
        .collect();
    Ok((!urls.is_empty()).then(|| (format!("{namespace}/{name}"), urls)))
}

/// Waits until the Service of that name has a ready endpoint.
async fn has_endpoint(client: &kube::Client, service: &DynamicObject) -> Result<()> {
    use futures::StreamExt as _;
    use kube::runtime::WatchStreamExt as _;
    let (namespace, name) = names(service);
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), &namespace);
    let config = watcher::Config::default().labels(&format!("kubernetes.io/service-name={name}"));
    let mut changes = std::pin::pin!(watcher(slices, config).default_backoff().applied_objects());
    while let Some(slice) = changes.next().await {
        let ready = |e: &k8s_openapi::api::discovery::v1::Endpoint| {
            e.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true)
        };
        if slice.is_ok_and(|s| s.endpoints.unwrap_or_default().iter().any(ready)) {
            break;
        }
    }
    Ok(())
}

fn names(object: &DynamicObject) -> (String, String) {
    let meta = &object.metadata;
    (meta.namespace.clone().unwrap_or_else(|| "default".into()), meta.name.clone().unwrap_or_default())
}

fn say(line: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}
