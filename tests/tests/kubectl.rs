//! The real kubectl, unmodified.

use std::path::Path;

use anyhow::{Result, ensure};
use coracle_testkit::{Cluster, eventually, tool};

const HELLO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../wasm-samples/hello.yaml");

async fn kubectl(cluster: &Cluster, program: &Path, line: &str) -> Result<String> {
    let arguments: Vec<&str> = line.split(' ').collect();
    cluster.run(program, &arguments).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_users_first_session() -> Result<()> {
    let Some(program) = tool("kubectl") else { return Ok(()) };
    let cluster = Cluster::start().await?;
    let run = |line: String| {
        let (cluster, program) = (&cluster, &program);
        async move { kubectl(cluster, program, &line).await }
    };

    ensure!(run("version -o json".into()).await?.contains("v1.36."));
    let applied = run(format!("apply -f {HELLO}")).await?;
    ensure!(
        applied.contains("deployment.apps/hello created") && applied.contains("service/hello created"),
        "{applied}"
    );
    let again = run(format!("apply -f {HELLO}")).await?;
    ensure!(again.contains("deployment.apps/hello unchanged"), "{again}");
    run("rollout status deployment/hello --timeout=60s".into()).await?;
    run("wait --for=condition=Available deployment/hello --timeout=60s".into()).await?;

    let pods = run("get pods -A -o wide".into()).await?;
    let header = pods.lines().next().unwrap_or_default();
    for column in ["NAMESPACE", "NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP", "NODE"] {
        ensure!(header.contains(column), "{header}");
    }
    ensure!(pods.matches("1/1").count() == 3 && pods.matches("Running").count() == 3, "{pods}");
    ensure!(run("get nodes".into()).await?.contains("Ready"));
    ensure!(run("get svc,deploy,rs,ep,endpointslices".into()).await?.contains("30080"));
    ensure!(run("get deployment hello -o yaml".into()).await?.contains("replicas: 3"));
    ensure!(
        run("get pods -l app=hello -o jsonpath={.items[*].status.phase}".into()).await?
            == "Running Running Running"
    );

    run("scale deployment/hello --replicas=1".into()).await?;
    eventually("one pod", || async {
        let left = run("get pods -l app=hello --no-headers".into()).await?;
        ensure!(left.lines().count() == 1, "{left}");
        Ok(())
    })
    .await?;
    let (code, _) = cluster.http_get(cluster.node_ip(0), 30080, "/").await?;
    ensure!(code == 200);
    run("logs deployment/hello".into()).await?;
    let described = run("describe pods -l app=hello".into()).await?;
    ensure!(described.contains("Started"), "{described}");
    ensure!(run("explain deployment.spec.replicas".into()).await?.contains("<integer>"));
    ensure!(run("api-resources".into()).await?.contains("deployments"));
    run("label deployment hello tier=front".into()).await?;
    run("annotate deployment hello note=x".into()).await?;
    run("set env deployment/hello GREETING=hi".into()).await?;
    run("rollout status deployment/hello --timeout=60s".into()).await?;
    ensure!(run("rollout history deployment/hello".into()).await?.contains('2'));
    run("rollout undo deployment/hello".into()).await?;
    run("rollout status deployment/hello --timeout=60s".into()).await?;
    ensure!(run("get events".into()).await?.contains("Scheduled"));
    run(format!("delete -f {HELLO}")).await?;
    eventually("nothing to be left", || async {
        let left = run("get pods -o name".into()).await?;
        ensure!(left.is_empty(), "{left}");
        Ok(())
    })
    .await?;
    cluster.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mistakes_are_told_in_kubernetes_words() -> Result<()> {
    let Some(program) = tool("kubectl") else { return Ok(()) };
    let cluster = Cluster::start().agents(0).await?;
    for (line, wanted) in [
        ("get pod nowhere", "pods \"nowhere\" not found"),
        ("get gadgets", "the server doesn't have a resource type \"gadgets\""),
        ("delete namespace default", "forbidden"),
        ("label node nowhere a=b", "nodes \"nowhere\" not found"),
    ] {
        let arguments: Vec<&str> = line.split(' ').collect();
        let output = cluster.run_raw(&program, &arguments).await?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(!output.status.success() && said.contains(wanted), "{line}: {said}");
    }
    let file = tempfile::NamedTempFile::new()?;
    let path = file.path().display().to_string();
    for (text, wanted) in [
        ("apiVersion: v1\nkind: Namespace\nmetadata: {name: UPPER}\n", "Invalid value: \"UPPER\""),
        (
            "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {colour: blue, containers: []}\n",
            "unknown field \"spec.colour\"",
        ),
    ] {
        std::fs::write(file.path(), text)?;
        let output = cluster.run_raw(&program, &["apply", "-f", &path]).await?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(!output.status.success() && said.contains(wanted), "{text}: {said}");
    }
    cluster.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_follow_a_running_container() -> Result<()> {
    let Some(program) = tool("kubectl") else { return Ok(()) };
    let cluster = Cluster::start().await?;
    cluster
        .apply(
            "apiVersion: v1
kind: Pod
metadata: {name: talker}
spec:
  restartPolicy: Never
  containers: [{name: c, image: 'coracle.local/samples/cli:latest', args: ['echo:first', 'sleep:1500', 'echo:last']}]
",
        )
        .await?;
    cluster.ready_pod("default", "talker").await?;
    let all = kubectl(&cluster, &program, "logs -f talker").await?;
    ensure!(all == "first\nlast\n", "{all:?}");
    ensure!(kubectl(&cluster, &program, "logs --tail=1 talker").await? == "last\n");
    cluster.stop().await;
    Ok(())
}
