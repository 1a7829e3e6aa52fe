//! Workload controllers, garbage collection and namespaces, with real pods.

use anyhow::{Result, bail, ensure};
use coracle_testkit::{Cluster, eventually};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, ServiceAccount};
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::json;

fn deployment(replicas: u32, message: &str) -> String {
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{name: web}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      containers:
      - name: web
        image: coracle.local/samples/hello:latest
        env: [{{name: MESSAGE, value: {message}}}]
        ports: [{{containerPort: 8080}}]
        readinessProbe: {{httpGet: {{path: /, port: 8080}}, periodSeconds: 1}}
"
    )
}

async fn available(cluster: &Cluster, replicas: i32) -> Result<Deployment> {
    let api: Api<Deployment> = Api::default_namespaced(cluster.client());
    eventually(&format!("{replicas} replicas to be available"), || async {
        let d = api.get("web").await?;
        let status = d.status.clone().unwrap_or_default();
        let done = status.observed_generation == d.metadata.generation
            && status.available_replicas.unwrap_or(0) == replicas
            && status.updated_replicas.unwrap_or(0) == replicas
            && status.replicas.unwrap_or(0) == replicas;
        if done { Ok(d) } else { bail!("{}", serde_json::to_string(&status)?) }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_rolls_and_keeps_its_history() -> Result<()> {
    let cluster = Cluster::start().await?;
    cluster.apply(&deployment(3, "one")).await?;
    available(&cluster, 3).await?;
    cluster.apply(&deployment(3, "two")).await?;
    let rolled = available(&cluster, 3).await?;
    let annotations = rolled.metadata.annotations.unwrap_or_default();
    ensure!(annotations.get("deployment.kubernetes.io/revision").map(String::as_str) == Some("2"));

    let sets: Api<ReplicaSet> = Api::default_namespaced(cluster.client());
    let mut sizes: Vec<i32> = sets
        .list(&ListParams::default())
        .await?
        .items
        .into_iter()
        .map(|rs| rs.spec.unwrap_or_default().replicas.unwrap_or(-1))
        .collect();
    sizes.sort_unstable();
    ensure!(sizes == [0, 3], "{sizes:?}");

    cluster.apply(&deployment(1, "two")).await?;
    available(&cluster, 1).await?;
    cluster.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleting_a_deployment_takes_its_pods_along() -> Result<()> {
    let cluster = Cluster::start().await?;
    cluster.apply(&deployment(2, "x")).await?;
    available(&cluster, 2).await?;
    let api: Api<Deployment> = Api::default_namespaced(cluster.client());
    api.delete("web", &DeleteParams::background()).await?;
    let pods: Api<Pod> = Api::default_namespaced(cluster.client());
    let sets: Api<ReplicaSet> = Api::default_namespaced(cluster.client());
    eventually("everything to be gone", || async {
        let (p, s) = (pods.list(&ListParams::default()).await?, sets.list(&ListParams::default()).await?);
        ensure!(p.items.is_empty() && s.items.is_empty(), "{} pods, {} sets", p.items.len(), s.items.len());
        Ok(())
    })
    .await?;
    cluster.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_runs_to_completion_and_another_to_its_limit() -> Result<()> {
    let cluster = Cluster::start().await?;
    let job = |name: &str, code: u8| {
        format!(
            "apiVersion: batch/v1
kind: Job
metadata: {{name: {name}}}
spec:
  completions: 2
  parallelism: 2
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      containers:
      - {{name: c, image: 'coracle.local/samples/cli:latest', args: ['echo:working', 'exit:{code}']}}
"
        )
    };
    cluster.apply(&job("good", 0)).await?;
    cluster.apply(&job("bad", 3)).await?;
    let jobs: Api<Job> = Api::default_namespaced(cluster.client());
    for (name, condition) in [("good", "Complete"), ("bad", "Failed")] {
        eventually(&format!("job {name} to be {condition}"), || async {
            let status = jobs.get(name).await?.status.unwrap_or_default();
            let conditions = status.conditions.clone().unwrap_or_default();
            if conditions.iter().any(|c| c.type_ == condition && c.status == "True") {
                return Ok(());
            }
            bail!("{}", serde_json::to_string(&status)?)
        })
        .await?;
    }
    ensure!(jobs.get("good").await?.status.unwrap_or_default().succeeded == Some(2));
    cluster.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_is_furnished_and_emptied() -> Result<()> {
    let cluster = Cluster::start().agents(0).await?;
    cluster.apply("apiVersion: v1\nkind: Namespace\nmetadata: {name: team}\n").await?;
    let accounts: Api<ServiceAccount> = Api::namespaced(cluster.client(), "team");
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client(), "team");
    eventually("the default ServiceAccount", || async { Ok(accounts.get("default").await?) }).await?;
    let ca = eventually("the root CA", || async { Ok(maps.get("kube-root-ca.crt").await?) }).await?;
    ensure!(ca.data.unwrap_or_default()["ca.crt"].contains("BEGIN CERTIFICATE"));

    cluster.apply("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: team}\n").await?;
    let namespaces: Api<Namespace> = Api::all(cluster.client());
    namespaces.delete("team", &DeleteParams::default()).await?;
    eventually("the namespace to be gone", || async {
        ensure!(namespaces.get_opt("team").await?.is_none());
        Ok(())
    })
    .await?;
    ensure!(maps.list(&ListParams::default()).await?.items.is_empty());
    cluster.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_orphan_stays_when_asked() -> Result<()> {
    let cluster = Cluster::start().agents(0).await?;
    cluster.apply(&deployment(1, "x")).await?;
    let sets: Api<ReplicaSet> = Api::default_namespaced(cluster.client());
    let set = eventually("the replica set", || async {
        match sets.list(&ListParams::default()).await?.items.pop() {
            Some(set) => Ok(set),
            None => bail!("none"),
        }
    })
    .await?;
    let name = set.metadata.name.unwrap_or_default();
    let api: Api<Deployment> = Api::default_namespaced(cluster.client());
    api.delete("web", &DeleteParams::orphan()).await?;
    eventually("the deployment to be gone", || async {
        ensure!(api.get_opt("web").await?.is_none());
        Ok(())
    })
    .await?;
    let kept = sets.get(&name).await?;
    ensure!(kept.metadata.owner_references.unwrap_or_default().is_empty());
    cluster.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scaling_through_the_subresource() -> Result<()> {
    let cluster = Cluster::start().await?;
    cluster.apply(&deployment(1, "x")).await?;
    available(&cluster, 1).await?;
    let api: Api<Deployment> = Api::default_namespaced(cluster.client());
    let patch = Patch::Merge(json!({"spec": {"replicas": 4}}));
    api.patch_scale("web", &PatchParams::default(), &patch).await?;
    available(&cluster, 4).await?;
    cluster.stop().await;
    Ok(())
}
