//! Closed by default: who shows nothing gets nothing.

use anyhow::{Result, ensure};
use coracle_testkit::{Cluster, tool};
use serde_json::Value;

async fn curl(cluster: &Cluster, arguments: &[&str]) -> Result<Option<(u16, String)>> {
    let Some(program) = tool("curl") else { return Ok(None) };
    let mut all = vec!["-sk", "-w", "\n%{http_code}"];
    all.extend_from_slice(arguments);
    let output = cluster.run(&program, &all).await?;
    let (body, code) = output.rsplit_once('\n').unwrap_or(("", "0"));
    Ok(Some((code.parse()?, body.to_owned())))
}

fn server(cluster: &Cluster) -> Result<String> {
    let text = std::fs::read_to_string(cluster.kubeconfig())?;
    let line = text.lines().find_map(|l| l.trim().strip_prefix("server: "));
    Ok(line.unwrap_or_default().to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_reads_health_and_version_only() -> Result<()> {
    let cluster = Cluster::start().agents(0).await?;
    let server = server(&cluster)?;
    for (path, wanted) in [
        ("/version", 200),
        ("/healthz", 200),
        ("/readyz", 200),
        ("/api/v1/namespaces", 401),
        ("/api/v1/secrets", 401),
        ("/metrics", 401),
        ("/apis", 401),
    ] {
        let Some((code, body)) = curl(&cluster, &[&format!("{server}{path}")]).await? else { return Ok(()) };
        ensure!(code == wanted || (wanted == 401 && code == 403), "{path}: {code} {body}");
    }
    cluster.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_tokens_are_refused_and_identity_headers_ignored() -> Result<()> {
    let cluster = Cluster::start().agents(0).await?;
    let url = format!("{}/api/v1/namespaces", server(&cluster)?);
    for header in [
        "Authorization: Bearer nonsense",
        "Authorization: Bearer eyJhbGciOiJub25lIn0.e30.",
        "X-Remote-User: kubernetes-admin",
        "Impersonate-User: kubernetes-admin",
    ] {
        let Some((code, body)) = curl(&cluster, &["-H", header, &url]).await? else { return Ok(()) };
        ensure!(code == 401 || code == 403, "{header}: {code} {body}");
        let status: Value = serde_json::from_str(&body)?;
        ensure!(status["kind"] == "Status", "{body}");
    }
    cluster.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_are_for_their_owner_only() -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let cluster = Cluster::start().agents(0).await?;
    let mode = std::fs::metadata(cluster.kubeconfig())?.permissions().mode();
    ensure!(mode & 0o777 == 0o600, "{mode:o}");
    let mode = std::fs::metadata(cluster.data_dir())?.permissions().mode();
    ensure!(mode & 0o777 == 0o700, "{mode:o}");
    cluster.stop().await;
    Ok(())
}
