//! The embedded engine passes the suite that all engines must pass.
#![allow(clippy::unwrap_used)]

use std::{path::PathBuf, sync::Arc};

use coracle_store::{
    Embedded, EmbeddedConfig,
    clock::ManualClock,
    conformance::{CASES, Subject},
};

async fn run(dir: Option<PathBuf>) {
    let clock = ManualClock::default();
    let config = EmbeddedConfig { clock: Arc::new(clock.clone()), ..EmbeddedConfig::new(dir) };
    let kv = Embedded::open(config).await.unwrap();
    let subject = Subject::new(kv.clone(), move |by| {
        clock.advance(by);
        Box::pin(std::future::ready(()))
    });
    for (name, case) in CASES {
        println!("{name}");
        case(&subject).await;
    }
    kv.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_disk() {
    let dir = tempfile::tempdir().unwrap();
    run(Some(dir.path().join("store"))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_memory() {
    run(None).await;
}
