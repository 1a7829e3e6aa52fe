//! Placement: spreading over nodes, and saying why a pod stays where it is not.

use std::collections::BTreeSet;

use anyhow::{Result, bail, ensure};
use coracle_testkit::{Cluster, eventually};
use k8s_openapi::api::core::v1::{Event, Node, Pod};
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::json;

fn pod(name: &str, extra: &str) -> String {
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: p}}}}
spec:
  {extra}
  containers:
  - {{name: c, image: 'coracle.local/samples/hello:latest', resources: {{requests: {{cpu: 10m}}}}}}
"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_spread_over_two_nodes() -> Result<()> {
    let cluster = Cluster::start().agents(2).await?;
    for i in 0..6 {
        cluster.apply(&pod(&format!("p{i}"), "terminationGracePeriodSeconds: 1")).await?;
    }
    let mut nodes = BTreeSet::new();
    for i in 0..6 {
        let ready = cluster.ready_pod("default", &format!("p{i}")).await?;
        nodes.insert(ready.spec.unwrap_or_default().node_name);
    }
    ensure!(nodes.len() == 2, "{nodes:?}");
    cluster.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unschedulable_pod_says_why_and_goes_when_it_can() -> Result<()> {
    let cluster = Cluster::start().await?;
    cluster.apply(&pod("picky", "nodeSelector: {disk: fast}")).await?;
    let events: Api<Event> = Api::default_namespaced(cluster.client());
    let message = eventually("a FailedScheduling event", || async {
        let all = events.list(&ListParams::default()).await?;
        match all.items.into_iter().find(|e| e.reason.as_deref() == Some("FailedScheduling")) {
            Some(event) => Ok(event.message.unwrap_or_default()),
            None => bail!("none"),
        }
    })
    .await?;
    ensure!(
        message.starts_with("0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector"),
        "{message}"
    );
    let pods: Api<Pod> = Api::default_namespaced(cluster.client());
    let status = pods.get("picky").await?.status.unwrap_or_default();
    let condition = status.conditions.unwrap_or_default().into_iter().find(|c| c.type_ == "PodScheduled");
    ensure!(condition.is_some_and(|c| c.status == "False" && c.reason.as_deref() == Some("Unschedulable")));

    let nodes: Api<Node> = Api::all(cluster.client());
    let name = nodes.list(&ListParams::default()).await?.items[0].metadata.name.clone().unwrap_or_default();
    nodes
        .patch(
            &name,
            &PatchParams::default(),
            &Patch::Merge(json!({"metadata": {"labels": {"disk": "fast"}}})),
        )
        .await?;
    cluster.ready_pod("default", "picky").await?;
    cluster.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cordoned_node_takes_no_pods() -> Result<()> {
    let cluster = Cluster::start().agents(2).await?;
    let nodes: Api<Node> = Api::all(cluster.client());
    let names: Vec<String> =
        nodes.list(&ListParams::default()).await?.items.into_iter().filter_map(|n| n.metadata.name).collect();
    nodes
        .patch(&names[0], &PatchParams::default(), &Patch::Merge(json!({"spec": {"unschedulable": true}})))
        .await?;
    for i in 0..3 {
        cluster.apply(&pod(&format!("p{i}"), "terminationGracePeriodSeconds: 1")).await?;
    }
    for i in 0..3 {
        let ready = cluster.ready_pod("default", &format!("p{i}")).await?;
        ensure!(ready.spec.unwrap_or_default().node_name.as_ref() == Some(&names[1]));
    }
    cluster.stop().await;
    Ok(())
}
