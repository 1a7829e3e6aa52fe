//! The main job: a manifest is applied, a wasm pod behind a Service answers on a node port.

use anyhow::{Result, ensure};
use coracle_testkit::{Cluster, eventually};
use k8s_openapi::api::core::v1::Node;
use kube::Api;

const HELLO: &str = include_str!("../../wasm-samples/hello.yaml");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sample_answers_on_its_node_port() -> Result<()> {
    let cluster = Cluster::start().await?;
    cluster.apply(HELLO).await?;
    let port = cluster.node_port("default", "hello").await?;
    ensure!(port == 30080);
    let mut pods = std::collections::BTreeSet::new();
    eventually("all three pods to answer", || async {
        let (code, body) = cluster.http_get(cluster.node_ip(0), port, "/greet").await?;
        ensure!(code == 200, "{code} {body}");
        Ok(body)
    })
    .await?;
    for _ in 0..200 {
        if let Ok((200, body)) = cluster.http_get(cluster.node_ip(0), port, "/").await {
            pods.insert(body);
        }
        if pods.len() == 3 {
            break;
        }
    }
    ensure!(pods.len() == 3, "answers: {pods:?}");
    cluster.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn applying_again_changes_nothing() -> Result<()> {
    let cluster = Cluster::start().await?;
    cluster.apply(HELLO).await?;
    let generation = || async {
        let api: Api<k8s_openapi::api::apps::v1::Deployment> = Api::default_namespaced(cluster.client());
        let metadata = api.get("hello").await?.metadata;
        // The controller's own first write must not be taken for the second apply's.
        let numbered = metadata.annotations.unwrap_or_default();
        ensure!(numbered.contains_key("deployment.kubernetes.io/revision"), "{numbered:?}");
        Ok(metadata.generation)
    };
    let before = eventually("the Deployment to have its revision", generation).await?;
    cluster.apply(HELLO).await?;
    ensure!(generation().await? == before);
    cluster.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_registers_with_true_facts() -> Result<()> {
    let cluster = Cluster::start().await?;
    let nodes: Api<Node> = Api::all(cluster.client());
    let node = nodes.list(&Default::default()).await?.items.remove(0);
    let labels = node.metadata.labels.clone().unwrap_or_default();
    ensure!(labels.get("kubernetes.io/os").map(String::as_str) == Some("linux"), "{labels:?}");
    ensure!(labels.contains_key("kubernetes.io/arch") && labels.contains_key("kubernetes.io/hostname"));
    let status = node.status.unwrap_or_default();
    let cpus = std::thread::available_parallelism()?.get().to_string();
    ensure!(status.capacity.unwrap_or_default()["cpu"].0 == cpus);
    let info = status.node_info.unwrap_or_default();
    ensure!(info.kubelet_version.starts_with("v1.36."), "{info:?}");
    ensure!(node.spec.unwrap_or_default().pod_cidr.is_some());
    cluster.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_clusters_of_one_machine_do_not_collide() -> Result<()> {
    let (a, b) = tokio::try_join!(Cluster::start().into_future(), Cluster::start().into_future())?;
    a.apply(HELLO).await?;
    b.apply(HELLO).await?;
    for cluster in [&a, &b] {
        eventually("hello to answer", || async {
            let (code, _) = cluster.http_get(cluster.node_ip(0), 30080, "/").await?;
            ensure!(code == 200);
            Ok(())
        })
        .await?;
    }
    a.stop().await;
    b.stop().await;
    Ok(())
}

use std::future::IntoFuture as _;
