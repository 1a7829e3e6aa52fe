//! What a node does with a pod: environment, volumes, probes, restarts, statuses, logs.

use anyhow::{Context as _, Result, bail, ensure};
use coracle_testkit::{Cluster, eventually};
use k8s_openapi::api::core::v1::{ContainerStatus, Event, Pod};
use kube::Api;
use kube::api::{DeleteParams, ListParams, LogParams};

fn cli(name: &str, args: &str, extra: &str) -> String {
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{role: test}}}}
spec:
  restartPolicy: Never
  containers:
  - name: c
    image: coracle.local/samples/cli:latest
    args: [{args}]
{extra}"
    )
}

fn container(pod: &Pod) -> Option<&ContainerStatus> {
    pod.status.as_ref()?.container_statuses.as_ref()?.first()
}

/// Waits for the pod's container to end, and returns exit code and reason.
async fn ended(cluster: &Cluster, name: &str) -> Result<(i32, String, String)> {
    let pods: Api<Pod> = Api::default_namespaced(cluster.client());
    eventually(&format!("{name} to end"), || async {
        let pod = pods.get(name).await?;
        let state = container(&pod).and_then(|c| c.state.as_ref()?.terminated.clone());
        match state {
            Some(t) => Ok((t.exit_code, t.reason.unwrap_or_default(), t.message.unwrap_or_default())),
            None => bail!("{}", serde_json::to_string(&pod.status)?),
        }
    })
    .await
}

/// Waits for a waiting reason, and returns its message.
async fn waiting(cluster: &Cluster, name: &str, reason: &str) -> Result<String> {
    let pods: Api<Pod> = Api::default_namespaced(cluster.client());
    eventually(&format!("{name} to be in {reason}"), || async {
        let pod = pods.get(name).await?;
        let state = container(&pod).and_then(|c| c.state.as_ref()?.waiting.clone());
        match state {
            Some(w) if w.reason.as_deref() == Some(reason) => Ok(w.message.unwrap_or_default()),
            _ => bail!("{}", serde_json::to_string(&pod.status)?),
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn arguments_environment_and_files_reach_the_guest() -> Result<()> {
    let cluster = Cluster::start().await?;
    cluster
        .apply(
            "apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {colour: blue, motd.txt: 'hello from a file'}
---
apiVersion: v1
kind: Secret
metadata: {name: keys}
stringData: {token: s3cret}
",
        )
        .await?;
    let extra = "    workingDir: /work
    env:
    - {name: PLAIN, value: 'v-$(COLOUR)'}
    - {name: COLOUR, valueFrom: {configMapKeyRef: {name: settings, key: colour}}}
    - {name: AGAIN, value: 'v-$(COLOUR)'}
    - {name: TOKEN, valueFrom: {secretKeyRef: {name: keys, key: token}}}
    - {name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
    - {name: MEM, valueFrom: {resourceFieldRef: {resource: limits.memory}}}
    resources: {limits: {memory: 64Mi}}
    volumeMounts:
    - {name: cm, mountPath: /etc/settings, readOnly: true}
    - {name: scratch, mountPath: /work}
  volumes:
  - {name: cm, configMap: {name: settings}}
  - {name: scratch, emptyDir: {}}
";
    let args = "args, env, 'cat:/etc/settings/motd.txt', 'write:/work/a=written', 'cat:/work/a', 'exit:7'";
    cluster.apply(&cli("show", args, extra)).await?;
    ensure!(ended(&cluster, "show").await?.0 == 7);
    let pods: Api<Pod> = Api::default_namespaced(cluster.client());
    let log = pods.logs("show", &LogParams::default()).await?;
    for wanted in [
        "exit:7\n",
        "PLAIN=v-$(COLOUR)\n",
        "COLOUR=blue\n",
        "AGAIN=v-blue\n",
        "TOKEN=s3cret\n",
        "POD=show\n",
        "MEM=67108864\n",
        "HOSTNAME=show\n",
        "KUBERNETES_SERVICE_HOST=10.0.0.1\n",
        "hello from a file",
        "written",
    ] {
        ensure!(log.contains(wanted), "{wanted:?} is not in:\n{log}");
    }
    ensure!(!log.contains("CARGO") && !log.contains("PATH=/"), "the host's environment leaked:\n{log}");
    cluster.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_account_token_is_mounted_and_works() -> Result<()> {
    let cluster = Cluster::start().await?;
    let args = "'cat:/var/run/secrets/kubernetes.io/serviceaccount/token'";
    cluster.apply(&cli("tok", args, "")).await?;
    ensure!(ended(&cluster, "tok").await?.0 == 0);
    let pods: Api<Pod> = Api::default_namespaced(cluster.client());
    let token = pods.logs("tok", &LogParams::default()).await?;
    ensure!(token.trim().split('.').count() == 3, "{token}");
    cluster.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ends_have_the_reasons_that_users_know() -> Result<()> {
    let cluster = Cluster::start().await?;
    cluster.apply(&cli("ok", "'exit:0'", "")).await?;
    cluster.apply(&cli("err", "'exit:3'", "")).await?;
    ensure!(ended(&cluster, "ok").await? == (0, "Completed".into(), String::new()));
    let (code, reason, _) = ended(&cluster, "err").await?;
    ensure!((code, reason.as_str()) == (3, "Error"));

    let hog =
        cli("hog", "", "    resources: {limits: {memory: 32Mi}}\n").replace("samples/cli", "samples/memhog");
    cluster.apply(&hog).await?;
    let (code, reason, _) = ended(&cluster, "hog").await?;
    ensure!((code, reason.as_str()) == (137, "OOMKilled"));

    cluster.apply(&cli("trap", "", "").replace("samples/cli", "samples/crash")).await?;
    let (code, reason, message) = ended(&cluster, "trap").await?;
    ensure!(reason == "Error" && code > 128 && message.contains("unreachable"), "{code} {reason} {message}");

    let pods: Api<Pod> = Api::default_namespaced(cluster.client());
    let phase = |p: Pod| p.status.and_then(|s| s.phase).unwrap_or_default();
    eventually("phases", || async {
        let phases = [phase(pods.get("ok").await?), phase(pods.get("err").await?)];
        ensure!(phases == ["Succeeded", "Failed"], "{phases:?}");
        Ok(())
    })
    .await?;
    cluster.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crashing_container_is_restarted_with_back_off() -> Result<()> {
    let cluster = Cluster::start().await?;
    let pod = cli("loop", "'echo:once more', 'exit:1'", "")
        .replace("restartPolicy: Never", "restartPolicy: Always");
    cluster.apply(&pod).await?;
    let message = waiting(&cluster, "loop", "CrashLoopBackOff").await?;
    ensure!(message.contains("back-off"), "{message}");
    let pods: Api<Pod> = Api::default_namespaced(cluster.client());
    let pod = pods.get("loop").await?;
    let status = container(&pod).context("no status")?;
    let last = status.last_state.as_ref().and_then(|s| s.terminated.as_ref()).map(|t| t.exit_code);
    ensure!(last == Some(1) && status.restart_count >= 1, "{status:?}");
    let previous = pods.logs("loop", &LogParams { previous: true, ..LogParams::default() }).await?;
    ensure!(previous.contains("once more"), "{previous}");
    cluster.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spinning_guest_is_killed_and_disturbs_nobody() -> Result<()> {
    let cluster = Cluster::start().await?;
    let spin = cli("spin", "", "  terminationGracePeriodSeconds: 1\n").replace("samples/cli", "samples/spin");
    cluster.apply(&spin).await?;
    cluster.ready_pod("default", "spin").await?;
    cluster.apply(&cli("beside", "'exit:0'", "")).await?;
    ensure!(ended(&cluster, "beside").await?.0 == 0);
    let pods: Api<Pod> = Api::default_namespaced(cluster.client());
    pods.delete("spin", &DeleteParams::default()).await?;
    eventually("the spinning pod to be gone", || async {
        ensure!(pods.get_opt("spin").await?.is_none());
        Ok(())
    })
    .await?;
    cluster.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn probes_gate_readiness_and_restart_the_sick() -> Result<()> {
    let cluster = Cluster::start().await?;
    cluster
        .apply(
            "apiVersion: v1
kind: Pod
metadata: {name: sick}
spec:
  containers:
  - name: c
    image: coracle.local/samples/hello:latest
    ports: [{containerPort: 8080}]
    readinessProbe: {httpGet: {path: /, port: 9999}, periodSeconds: 1}
    livenessProbe: {httpGet: {path: /, port: 9999}, periodSeconds: 1, failureThreshold: 2, terminationGracePeriodSeconds: 1}
",
        )
        .await?;
    let pods: Api<Pod> = Api::default_namespaced(cluster.client());
    eventually("a restart by the liveness probe", || async {
        let pod = pods.get("sick").await?;
        let status = container(&pod).context("no status")?;
        ensure!(status.restart_count >= 1 && !status.ready, "{status:?}");
        Ok(())
    })
    .await?;
    let events: Api<Event> = Api::default_namespaced(cluster.client());
    let seen = events.list(&ListParams::default()).await?;
    ensure!(seen.items.iter().any(|e| e.reason.as_deref() == Some("Unhealthy")));
    cluster.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn init_containers_come_first() -> Result<()> {
    let cluster = Cluster::start().await?;
    cluster
        .apply(
            "apiVersion: v1
kind: Pod
metadata: {name: staged}
spec:
  restartPolicy: Never
  initContainers:
  - {name: first, image: 'coracle.local/samples/cli:latest', args: ['write:/shared/a=prepared'], volumeMounts: [{name: v, mountPath: /shared}]}
  containers:
  - {name: c, image: 'coracle.local/samples/cli:latest', args: ['cat:/shared/a'], volumeMounts: [{name: v, mountPath: /shared}]}
  volumes: [{name: v, emptyDir: {}}]
",
        )
        .await?;
    ensure!(ended(&cluster, "staged").await?.0 == 0);
    let pods: Api<Pod> = Api::default_namespaced(cluster.client());
    ensure!(pods.logs("staged", &LogParams::default()).await?.contains("prepared"));
    cluster.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn missing_things_are_named() -> Result<()> {
    let cluster = Cluster::start().await?;
    let missing_map = "    env:\n    - {name: X, valueFrom: {configMapKeyRef: {name: nowhere, key: k}}}\n";
    cluster.apply(&cli("nomap", "'exit:0'", missing_map)).await?;
    let message = waiting(&cluster, "nomap", "CreateContainerConfigError").await?;
    ensure!(message.contains("nowhere"), "{message}");

    cluster.apply(&cli("noimage", "'exit:0'", "").replace("samples/cli:latest", "samples/none:v1")).await?;
    let pods: Api<Pod> = Api::default_namespaced(cluster.client());
    eventually("the image to be reported missing", || async {
        let pod = pods.get("noimage").await?;
        let state = container(&pod).and_then(|c| c.state.as_ref()?.waiting.clone()).unwrap_or_default();
        let reason = state.reason.unwrap_or_default();
        ensure!(["ErrImagePull", "ImagePullBackOff"].contains(&reason.as_str()), "{reason}");
        Ok(())
    })
    .await?;
    cluster.stop().await;
    Ok(())
}
