//! Input that is too much, or nonsense: a clear 4xx, and the server lives on.

use anyhow::{Result, ensure};
use coracle_testkit::Cluster;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, PostParams};
use serde_json::{Value, json};

async fn refused(client: &kube::Client, path: &str, body: Vec<u8>, wanted: u16) -> Result<()> {
    let request = http_request(path, body)?;
    match client.request::<Value>(request).await {
        Err(kube::Error::Api(status)) => ensure!(status.code == wanted, "{path}: {status:?}"),
        other => anyhow::bail!("{path}: {other:?}"),
    }
    Ok(())
}

fn http_request(path: &str, body: Vec<u8>) -> Result<http::Request<Vec<u8>>> {
    Ok(http::Request::post(path).header("content-type", "application/json").body(body)?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nonsense_gets_a_status_and_harms_nothing() -> Result<()> {
    let cluster = Cluster::start().agents(0).await?;
    let client = cluster.client();
    let maps = "/api/v1/namespaces/default/configmaps";
    let deep = format!("{{\"a\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
    refused(&client, maps, b"{".to_vec(), 400).await?;
    refused(&client, maps, b"\xff\xfe".to_vec(), 400).await?;
    refused(&client, maps, deep.into_bytes(), 400).await?;
    refused(&client, maps, vec![b' '; 4 << 20], 413).await?;
    let wrong =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "UPPER"}, "data": {"k": "v"}});
    refused(&client, maps, serde_json::to_vec(&wrong)?, 422).await?;
    let quantity = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": "1e9999999999"}}}]}});
    let began = std::time::Instant::now();
    let request = http_request("/api/v1/namespaces/default/pods", serde_json::to_vec(&quantity)?)?;
    ensure!(client.request::<Value>(request).await.is_err());
    ensure!(began.elapsed().as_secs() < 5, "a quantity took {:?}", began.elapsed());
    let api: Api<ConfigMap> = Api::default_namespaced(client);
    let good: ConfigMap = serde_json::from_value(json!({"metadata": {"name": "still-alive"}}))?;
    api.create(&PostParams::default(), &good).await?;
    cluster.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn server_side_apply_shares_fields_and_refuses_conflicts() -> Result<()> {
    use kube::api::{Patch, PatchParams};
    let cluster = Cluster::start().agents(0).await?;
    let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client());
    let apply = async |params: PatchParams, data: serde_json::Value| {
        let body =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "tug"}, "data": data});
        maps.patch("tug", &params, &Patch::Apply(&body)).await
    };
    apply(PatchParams::apply("alpha"), json!({"rope": "long", "flag": "red"})).await?;
    let answer = apply(PatchParams::apply("beta"), json!({"rope": "short"})).await;
    ensure!(matches!(&answer, Err(kube::Error::Api(s)) if s.code == 409), "{answer:?}");
    apply(PatchParams::apply("beta").force(), json!({"rope": "short", "own": "b"})).await?;
    // alpha lost the rope and drops the flag; what beta states stays.
    let left = apply(PatchParams::apply("alpha"), json!({})).await?;
    let data = left.data.unwrap_or_default();
    ensure!(data.keys().eq(["own", "rope"]), "{data:?}");
    let managers: Vec<_> =
        left.metadata.managed_fields.into_iter().flatten().filter_map(|m| m.manager).collect();
    // An empty map is stated, and so owned, as much as a full one.
    ensure!(managers == ["alpha", "beta"], "{managers:?}");
    cluster.stop().await;
    Ok(())
}
