//! Conversations recorded from a real kube-apiserver, replayed against ours.
//!
//! `golden-agreeing.txt` lists the conversations that agree; one of them that differs fails
//! the test. Those not listed are run too, and the ones that agree by now are named, so that
//! the list only grows.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

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
    let said = replay(&cluster, &python, &[corpus.join("cases")], "4").await?;
    let expected: BTreeSet<&str> =
        AGREEING.lines().filter(|l| !l.starts_with('#') && !l.is_empty()).collect();
    let broken = differing(&said);
    let broken: Vec<&&str> = expected.intersection(&broken).collect();
    if !broken.is_empty() {
        // Some conversations wait for what happens by itself, with a limit that a busy machine
        // may miss: they get a second chance, one at a time.
        let files: Vec<PathBuf> = broken.iter().map(|name| corpus.join("cases").join(name)).collect();
        let again = replay(&cluster, &python, &files, "1").await?;
        ensure!(differing(&again).is_empty(), "these agreed before:\n{again}");
    }
    println!("golden: {}; {} are required", said.lines().last().unwrap_or_default(), expected.len());
    cluster.stop().await;
    Ok(())
}

/// What the replay prints.
async fn replay(cluster: &Cluster, python: &Path, cases: &[PathBuf], jobs: &str) -> Result<String> {
    let program = Path::new(CORPUS).join("replay.py").display().to_string();
    let kubeconfig = cluster.kubeconfig().display().to_string();
    let cases: Vec<String> = cases.iter().map(|c| c.display().to_string()).collect();
    let mut arguments = vec![program.as_str(), "--kubeconfig", &kubeconfig, "-j", jobs];
    arguments.extend(cases.iter().map(String::as_str));
    let output = cluster.run_raw(python, &arguments).await?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(said.contains(" passed, "), "{said}{}", String::from_utf8_lossy(&output.stderr));
    Ok(said)
}

/// Area and file of every conversation that differed.
fn differing(said: &str) -> BTreeSet<&str> {
    said.lines().filter_map(|l| l.strip_prefix("DIFFERS cases/")?.split(' ').next()).collect()
}
