//! The Python client of Kubernetes, unmodified.

use std::path::Path;

use anyhow::Result;
use coracle_testkit::{Cluster, python_client};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/python/session.py");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_creates_watches_and_deletes() -> Result<()> {
    let Some(python) = python_client() else { return Ok(()) };
    let cluster = Cluster::start().await?;
    cluster.run(Path::new(&python), &[SCRIPT]).await?;
    cluster.stop().await;
    Ok(())
}
