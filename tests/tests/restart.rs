//! State on disk: what was acknowledged is there after a restart, and pods run again.

use anyhow::{Result, ensure};
use coracle_testkit::{Cluster, eventually};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::Api;
use kube::api::PostParams;
use serde_json::json;

const HELLO: &str = include_str!("../../wasm-samples/hello.yaml");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_cluster_is_as_it_was() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let data = dir.path().join("data");
    let cluster = Cluster::start().data_dir(&data).await?;
    cluster.apply(HELLO).await?;
    let api: Api<ConfigMap> = Api::default_namespaced(cluster.client());
    let map: ConfigMap = serde_json::from_value(json!({"metadata": {"name": "kept"}, "data": {"k": "v"}}))?;
    let before = api.create(&PostParams::default(), &map).await?;
    eventually("hello to answer", || async {
        let (code, _) = cluster.http_get(cluster.node_ip(0), 30080, "/").await?;
        ensure!(code == 200);
        Ok(())
    })
    .await?;
    cluster.stop().await;

    let cluster = Cluster::start().data_dir(&data).await?;
    let api: Api<ConfigMap> = Api::default_namespaced(cluster.client());
    ensure!(api.get("kept").await? == before);
    eventually("hello to answer again", || async {
        let (code, _) = cluster.http_get(cluster.node_ip(0), 30080, "/").await?;
        ensure!(code == 200);
        Ok(())
    })
    .await?;
    let pods: Api<Pod> = Api::default_namespaced(cluster.client());
    eventually("the same three pods to be Ready", || async {
        let all = pods.list(&Default::default()).await?.items;
        ensure!(all.len() == 3 && all.iter().all(coracle_testkit::pod_is_ready), "{} pods", all.len());
        Ok(())
    })
    .await?;
    cluster.stop().await;
    Ok(())
}
