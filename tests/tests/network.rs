//! Services: from a guest by name, from the host by node port, on and off the pod's node.

use anyhow::{Context as _, Result, ensure};
use coracle_testkit::{Cluster, eventually};
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::Api;
use kube::api::ListParams;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const WEB: &str = "apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  containers:
  - {name: c, image: 'coracle.local/samples/hello:latest', ports: [{containerPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_answers_from_either_node() -> Result<()> {
    let cluster = Cluster::start().agents(2).await?;
    cluster.apply(WEB).await?;
    cluster.ready_pod("default", "web").await?;
    let port = cluster.node_port("default", "web").await?;
    for node in 0..2 {
        let body = eventually(&format!("node {node} to answer"), || async {
            let (code, body) = cluster.http_get(cluster.node_ip(node), port, "/").await?;
            ensure!(code == 200);
            Ok(body)
        })
        .await?;
        ensure!(body.contains("web"), "{body}");
    }
    cluster.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_calls_a_service_by_name_from_every_node() -> Result<()> {
    let cluster = Cluster::start().agents(2).await?;
    cluster.apply(WEB).await?;
    cluster.ready_pod("default", "web").await?;
    let pods: Api<Pod> = Api::default_namespaced(cluster.client());
    let home = pods.get("web").await?.spec.and_then(|s| s.node_name).context("no node")?;
    for (index, name) in ["node-1", "node-2"].into_iter().enumerate() {
        cluster
            .apply(&format!(
                "apiVersion: v1
kind: Pod
metadata: {{name: caller-{index}, labels: {{app: caller-{index}}}}}
spec:
  nodeName: {name}
  containers:
  - name: c
    image: coracle.local/samples/caller:latest
    env: [{{name: TARGET_URL, value: 'http://web.default.svc.cluster.local/'}}]
    ports: [{{containerPort: 8080}}]
---
apiVersion: v1
kind: Service
metadata: {{name: caller-{index}}}
spec:
  type: NodePort
  selector: {{app: caller-{index}}}
  ports: [{{port: 80, targetPort: 8080}}]
"
            ))
            .await?;
        cluster.ready_pod("default", &format!("caller-{index}")).await?;
        let port = cluster.node_port("default", &format!("caller-{index}")).await?;
        let body = eventually(&format!("the caller on {name} (web is on {home})"), || async {
            let (code, body) = cluster.http_get(cluster.node_ip(0), port, "/").await?;
            ensure!(code == 200 && body.contains("web"), "{code} {body}");
            Ok(body)
        })
        .await?;
        ensure!(body.contains("web"), "{body}");
    }
    cluster.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_serves_raw_tcp() -> Result<()> {
    let cluster = Cluster::start().await?;
    cluster
        .apply(
            "apiVersion: v1
kind: Pod
metadata: {name: echo, labels: {app: echo}}
spec:
  containers:
  - {name: c, image: 'coracle.local/samples/tcp-echo:latest', ports: [{containerPort: 7}]}
---
apiVersion: v1
kind: Service
metadata: {name: echo}
spec:
  type: NodePort
  selector: {app: echo}
  ports: [{port: 7}]
",
        )
        .await?;
    cluster.ready_pod("default", "echo").await?;
    let port = cluster.node_port("default", "echo").await?;
    let said = eventually("the echo", || async {
        let mut stream = tokio::net::TcpStream::connect((cluster.node_ip(0), port)).await?;
        stream.write_all(b"ahoy\n").await?;
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).await?;
        Ok(answer)
    })
    .await?;
    ensure!(&said == b"ahoy\n");
    cluster.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_taken_node_port_is_an_event_and_no_failure() -> Result<()> {
    let cluster = Cluster::start().await?;
    let taken = tokio::net::TcpListener::bind((cluster.node_ip(0), 30123)).await?;
    cluster.apply(&WEB.replace("targetPort: 8080}", "targetPort: 8080, nodePort: 30123}")).await?;
    let events: Api<Event> = Api::default_namespaced(cluster.client());
    eventually("an event on the Service", || async {
        let all = events.list(&ListParams::default()).await?;
        let found = all.items.iter().any(|e| {
            e.involved_object.kind.as_deref() == Some("Service")
                && e.message.as_deref().is_some_and(|m| m.contains("30123"))
        });
        ensure!(found, "{} events", all.items.len());
        Ok(())
    })
    .await?;
    drop(taken);
    cluster.stop().await;
    Ok(())
}
