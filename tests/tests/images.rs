//! Images that users bring: loading, running by name, and refusing what cannot run.

use anyhow::{Result, bail, ensure};
use coracle_testkit::{Cluster, eventually};
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::Api;
use kube::api::{ListParams, LogParams};

const CLI: &[u8] = include_bytes!("../../wasm-samples/prebuilt/cli.wasm");

/// `(module (import "alien" "beam" (func)) (func (export "_start")))`, assembled by hand from
/// the binary format of the WebAssembly core specification.
const ALIEN: &[u8] = &[
    0, b'a', b's', b'm', 1, 0, 0, 0, // magic, version
    1, 4, 1, 0x60, 0, 0, // one type: () -> ()
    2, 14, 1, 5, b'a', b'l', b'i', b'e', b'n', 4, b'b', b'e', b'a', b'm', 0, 0, // import
    3, 2, 1, 0, // one function of type 0
    7, 10, 1, 6, b'_', b's', b't', b'a', b'r', b't', 0, 1, // export
    10, 4, 1, 2, 0, 0x0b, // its empty body
];

fn pod(name: &str, image: &str) -> String {
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  restartPolicy: Never
  containers: [{{name: c, image: '{image}', args: ['echo:mine']}}]
"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loaded_image_runs_without_a_pull_even_as_latest() -> Result<()> {
    let cluster = Cluster::start().await?;
    cluster.load_image(CLI, "mine/tool:latest")?;
    cluster.apply(&pod("mine", "mine/tool:latest")).await?;
    let pods: Api<Pod> = Api::default_namespaced(cluster.client());
    eventually("the loaded image to run", || async {
        let log = pods.logs("mine", &LogParams::default()).await?;
        ensure!(log.contains("mine"), "{log}");
        Ok(())
    })
    .await?;
    cluster.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_module_with_foreign_imports_is_refused_by_name() -> Result<()> {
    let cluster = Cluster::start().await?;
    cluster.load_image(ALIEN, "alien:v1")?;
    cluster.apply(&pod("alien", "alien:v1")).await?;
    let pods: Api<Pod> = Api::default_namespaced(cluster.client());
    let message = eventually("the container to be refused", || async {
        let pod = pods.get("alien").await?;
        let statuses = pod.status.clone().and_then(|s| s.container_statuses).unwrap_or_default();
        let state = statuses.first().and_then(|c| c.state.clone()).unwrap_or_default();
        let message = state
            .waiting
            .and_then(|w| w.message)
            .or_else(|| state.terminated.and_then(|t| t.message))
            .unwrap_or_default();
        if message.contains("alien") { Ok(message) } else { bail!("{}", serde_json::to_string(&pod.status)?) }
    })
    .await?;
    ensure!(message.contains("beam"), "{message}");
    let events: Api<Event> = Api::default_namespaced(cluster.client());
    eventually("an event that names the import", || async {
        let all = events.list(&ListParams::default()).await?;
        ensure!(all.items.iter().any(|e| e.message.as_deref().is_some_and(|m| m.contains("beam"))));
        Ok(())
    })
    .await?;
    cluster.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_are_no_wasm_are_refused() -> Result<()> {
    let cluster = Cluster::start().await?;
    let refused = cluster.load_image(b"\x7fELF and so on", "elf:v1");
    ensure!(refused.is_err(), "a file that is not wasm was taken");
    cluster.stop().await;
    Ok(())
}
