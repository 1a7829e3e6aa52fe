//! `coracle agent`, `coracle kubelet` and the kubeconfigs that they run with.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use coracle_client::Informers;
use coracle_pki::{Credential, Pki};
use kube::config::Kubeconfig;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::told_to_stop;
use crate::agent::{Agent, AgentClients, AgentConfig, node_credential, open_images};
use crate::cli;
use crate::datadir::DataDir;
use crate::server::{agent as user_agent, kubeconfig_text};

pub(super) async fn agent(arguments: cli::Agent) -> Result<()> {
    if arguments.server.is_some() || arguments.token.is_some() {
        bail!(
            "joining by token is not available yet: make a credential with `coracle kubeconfig --node NAME --node-ip IP` on the master and start the agent with --kubeconfig"
        );
    }
    let Some(kubeconfig) = arguments.kubeconfig else { bail!("an agent needs --kubeconfig") };
    let endpoint = arguments.container_runtime_endpoint.as_deref().map(unix_path).transpose()?;
    run(&arguments.dir.data_dir, &kubeconfig, arguments.node_name, arguments.node_ip, endpoint).await
}

pub(super) async fn kubelet(arguments: cli::KubeletAlone) -> Result<()> {
    let endpoint = unix_path(&arguments.container_runtime_endpoint)?;
    run(
        &arguments.dir.data_dir,
        &arguments.kubeconfig,
        arguments.node_name,
        arguments.node_ip,
        Some(endpoint),
    )
    .await
}

async fn run(
    data_dir: &Path,
    kubeconfig: &Path,
    node_name: Option<String>,
    node_ip: IpAddr,
    runtime_endpoint: Option<PathBuf>,
) -> Result<()> {
    let dir = DataDir::open(data_dir)?;
    let node_name = node_name.unwrap_or_else(crate::host_name);
    let (credential, ca_pem) = inline_credential(kubeconfig)?;
    let node = coracle_client::remote(kubeconfig, &user_agent("kubelet")).await?;
    let proxy = coracle_client::remote(kubeconfig, &user_agent("proxy")).await?;
    let stop_informers = CancellationToken::new();
    let clients = AgentClients {
        node,
        proxy: proxy.clone(),
        proxy_informers: Informers::new(proxy, stop_informers.clone()),
    };
    let images = open_images(Some(&dir.path().join("images")))?;
    let config = AgentConfig {
        dir: dir.path().join(&node_name),
        node_name,
        node_ip,
        runtime_endpoint,
        credential,
        ca_pem,
    };
    let mut agent = Agent::start(config, clients, images).await?;
    println!("node {} is running", agent.node_name());
    let ended = tokio::select! {
        error = agent.failed() => Err(error),
        told = told_to_stop() => told,
    };
    agent.stop().await;
    stop_informers.cancel();
    ended
}

pub(super) fn kubeconfig(arguments: &cli::KubeconfigArgs) -> Result<()> {
    let path = arguments.dir.data_dir.join("kubeconfig");
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("no cluster has run on {}", arguments.dir.data_dir.display()))?;
    let Some(node) = &arguments.node else {
        print!("{text}");
        return Ok(());
    };
    let keys = arguments.dir.data_dir.join("pki");
    if !keys.join("ca.key").is_file() {
        bail!("{} holds no authority; this must run on a master that keeps its state", keys.display());
    }
    let pki = Pki::load_or_create(Some(&keys))?;
    let server = Kubeconfig::from_yaml(&text)?
        .clusters
        .into_iter()
        .find_map(|c| c.cluster?.server)
        .with_context(|| format!("{} names no server", path.display()))?;
    let credential = node_credential(&pki, node, arguments.node_ip)?;
    print!("{}", kubeconfig_text(pki.ca_pem(), &server, &credential, &format!("system:node:{node}")));
    Ok(())
}

/// Certificate, key and authority that a kubeconfig holds inline, as `coracle kubeconfig`
/// writes them.
fn inline_credential(path: &Path) -> Result<(Credential, String)> {
    use base64::Engine as _;
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let config: Value = serde_saphyr::from_str(&text).with_context(|| path.display().to_string())?;
    let decode = |pointer: &str| -> Result<String> {
        let what = pointer.rsplit('/').next().unwrap_or_default();
        let text = config.pointer(pointer).and_then(Value::as_str);
        let text = text.with_context(|| format!("{} holds no inline {what}", path.display()))?;
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(text)
            .with_context(|| format!("{what} of {}", path.display()))?;
        String::from_utf8(bytes).with_context(|| format!("{what} of {}", path.display()))
    };
    let credential = Credential {
        cert_pem: decode("/users/0/user/client-certificate-data")?,
        key_pem: decode("/users/0/user/client-key-data")?,
    };
    Ok((credential, decode("/clusters/0/cluster/certificate-authority-data")?))
}

/// The path of a `unix://` endpoint.
pub(super) fn unix_path(endpoint: &str) -> Result<PathBuf> {
    match endpoint.strip_prefix("unix://") {
        Some(path) if path.starts_with('/') => Ok(PathBuf::from(path)),
        _ => bail!("{endpoint:?} is no endpoint of the form unix:///path"),
    }
}
