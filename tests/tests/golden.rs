//! Conversations recorded from a real kube-apiserver, replayed against ours.
//!
//! `golden-agreeing.txt` lists the conversations that agree; one of them that differs fails
//! the test. Those not listed are run too, and the ones that agree by now are named, so that
//! the list only grows.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Result, ensure};
use coracle_testkit::{Cluster, python_client, skip};

const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/golden");
const AGREEING: &str = include_str!("../golden-agreeing.txt");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conversations_that_agreed_still_agree() -> Result<()> {
    let corpus = Path::new(CORPUS);
    if !corpus.is_dir() {
        skip("golden", "the recorded conversations are not beside this checkout");
        return Ok(());
    }
    let Some(python) = python_client() else { return Ok(()) };
    let cluster = Cluster::start().agents(0).await?;
    let kubeconfig = cluster.kubeconfig();
    let (replay, kubeconfig) = (corpus.join("replay.py"), kubeconfig.display().to_string());
    let arguments = [&replay.display().to_string(), "--kubeconfig", &kubeconfig, "-j", "4"];
    let output = cluster.run_raw(&python, &arguments).await?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(said.contains(" passed, "), "{said}{}", String::from_utf8_lossy(&output.stderr));

    let differing: BTreeSet<&str> =
        said.lines().filter_map(|l| l.strip_prefix("DIFFERS cases/")?.split(' ').next()).collect();
    let expected: BTreeSet<&str> =
        AGREEING.lines().filter(|l| !l.starts_with('#') && !l.is_empty()).collect();
    let broken: Vec<&&str> = expected.intersection(&differing).collect();
    ensure!(broken.is_empty(), "these agreed before: {broken:?}\n{said}");
    let all = said.lines().last().unwrap_or_default();
    println!("golden: {all}; {} are required", expected.len());
    cluster.stop().await;
    Ok(())
}
