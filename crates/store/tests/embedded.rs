//! What the embedded engine does beyond the trait: restarts, its directory, its bounds.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use coracle_store::{
    Embedded, EmbeddedConfig, Error, KeyRange, Kv, Op, OpenError, PutRequest, RangeRequest, TxnRequest,
    WatchMessage, WatchRequest, clock::ManualClock,
};

struct Scratch {
    _dir: tempfile::TempDir,
    path: PathBuf,
    clock: ManualClock,
}

impl Scratch {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { path: dir.path().join("store"), _dir: dir, clock: ManualClock::default() }
    }

    fn config(&self) -> EmbeddedConfig {
        EmbeddedConfig { clock: Arc::new(self.clock.clone()), ..EmbeddedConfig::new(Some(self.path.clone())) }
    }

    async fn open(&self) -> Arc<Embedded> {
        Embedded::open(self.config()).await.unwrap()
    }
}

fn only(put: PutRequest) -> TxnRequest {
    TxnRequest { success: vec![Op::Put(put)], ..TxnRequest::default() }
}

async fn put(kv: &Embedded, key: &str, value: &str) -> i64 {
    kv.txn(only(PutRequest::new(key.to_owned(), value.to_owned()))).await.unwrap().revision
}

async fn get(kv: &Embedded, key: &str) -> Option<Vec<u8>> {
    let read = RangeRequest::new(KeyRange::Key(key.to_owned().into()));
    kv.range(read).await.unwrap().kvs.pop().map(|kv| kv.value.to_vec())
}

fn watch(prefix: &str, start_revision: i64) -> WatchRequest {
    WatchRequest {
        range: KeyRange::prefix(prefix.to_owned()),
        start_revision,
        prev_kv: false,
        progress_notify: false,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_changes_nothing() {
    let scratch = Scratch::new();
    let kv = scratch.open().await;
    assert_eq!(kv.status().await.unwrap().revision, 1, "as a new etcd");
    let first = put(&kv, "/a", "1").await;
    put(&kv, "/a", "2").await;
    kv.shutdown().await;
    kv.shutdown().await;
    assert_eq!(kv.range(RangeRequest::new(KeyRange::prefix(""))).await, Err(Error::Closed));
    for round in 0..3 {
        let kv = scratch.open().await;
        let status = kv.status().await.unwrap();
        assert_eq!((status.revision, status.leader), (first + 1 + round, true));
        assert!(status.db_bytes > 0 && status.applied_index > 0);
        let past = RangeRequest { revision: first, ..RangeRequest::new(KeyRange::prefix("/a")) };
        assert_eq!(kv.range(past).await.unwrap().kvs[0].value, "1");
        assert_eq!(put(&kv, "/b", "").await, first + 2 + round);
        kv.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn leaving_without_shutdown_loses_nothing() {
    let scratch = Scratch::new();
    for round in 0..3 {
        let kv = scratch.open().await;
        for i in 0..round {
            assert_eq!(get(&kv, &format!("/{i}")).await.unwrap(), b"v");
        }
        put(&kv, &format!("/{round}"), "v").await;
        // What a process that exits does to its own: the copy is the disk as of now.
        let copy = scratch.path.with_extension("copy");
        copy_dir(&scratch.path, &copy);
        kv.shutdown().await;
        fs::remove_dir_all(&scratch.path).unwrap();
        fs::rename(&copy, &scratch.path).unwrap();
    }
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_directory_is_ours_alone() {
    let scratch = Scratch::new();
    let kv = scratch.open().await;
    assert_eq!(fs::metadata(&scratch.path).unwrap().permissions().mode() & 0o777, 0o700);
    for entry in fs::read_dir(&scratch.path).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", entry.file_name());
    }
    assert!(matches!(Embedded::open(scratch.config()).await.err().unwrap(), OpenError::Locked { .. }));
    kv.shutdown().await;
    fs::write(scratch.path.join("VERSION"), "format 9\noldest-reader 9\n").unwrap();
    let error = Embedded::open(scratch.config()).await.err().unwrap();
    assert!(error.to_string().contains("use a newer version"), "{error}");
    fs::write(scratch.path.join("VERSION"), "format 1\noldest-reader 1\n").unwrap();
    fs::write(scratch.path.join("state.redb"), "not a database").unwrap();
    let error = Embedded::open(scratch.config()).await.err().unwrap();
    assert!(matches!(&error, OpenError::Damaged { path, .. } if path.ends_with("state.redb")), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_does_not_grow_for_ever() {
    let scratch = Scratch::new();
    let kv = scratch.open().await;
    let value = "x".repeat(64 * 1024);
    for _ in 0..8 {
        let puts = (0..100).map(|i| {
            let put = PutRequest::new(format!("/{}", i % 10), value.clone());
            kv.txn(only(put))
        });
        for put in futures::future::join_all(puts).await {
            put.unwrap();
        }
    }
    let entries = kv.status().await.unwrap().applied_index;
    kv.shutdown().await;
    let kv = scratch.open().await;
    assert_eq!(kv.status().await.unwrap().applied_index, entries + 1, "nothing but the new term's entry");
    kv.shutdown().await;
    // 50 MiB went through it.
    let log = fs::metadata(scratch.path.join("log.redb")).unwrap().len();
    assert!(log <= 33 * 1024 * 1024, "log of {log} bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lagging_watcher_is_dropped_and_delays_nobody() {
    let kv = Embedded::open(EmbeddedConfig::default()).await.unwrap();
    let mut slow = kv.watch(watch("/", 0)).await.unwrap();
    let mut quick = kv.watch(watch("/", 0)).await.unwrap();
    let begin = kv.status().await.unwrap().revision;
    const WRITES: i64 = 9_000;
    let reader = tokio::spawn(async move {
        for expected in begin + 1..=begin + WRITES {
            let message = quick.recv().await.unwrap().unwrap();
            assert!(matches!(message, WatchMessage::Events { revision, .. } if revision == expected));
        }
    });
    for _ in 0..WRITES / 100 {
        let puts = (0..100).map(|i| kv.txn(only(PutRequest::new(format!("/{i}"), "v"))));
        futures::future::join_all(puts).await;
    }
    reader.await.unwrap();
    let mut last = begin;
    let end = loop {
        match slow.recv().await {
            Some(Ok(WatchMessage::Events { revision, .. })) => {
                assert_eq!(revision, last + 1);
                last = revision;
            }
            other => break other,
        }
    };
    assert!(matches!(end, Some(Err(Error::WatchLagging))), "{end:?}");
    assert!(slow.recv().await.is_none());
    let mut again = kv.watch(watch("/", last + 1)).await.unwrap();
    let message = again.recv().await.unwrap().unwrap();
    assert!(
        matches!(message, WatchMessage::Events { revision, .. } if revision == last + 1),
        "it goes on from there"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_end_when_the_store_does() {
    let kv = Embedded::open(EmbeddedConfig::default()).await.unwrap();
    let mut stream = kv.watch(watch("/", 0)).await.unwrap();
    kv.shutdown().await;
    assert!(matches!(stream.recv().await, Some(Err(Error::Closed))));
    assert!(stream.recv().await.is_none());
    assert_eq!(kv.txn(TxnRequest::default()).await, Err(Error::Closed));
}

#[tokio::test(flavor = "multi_thread")]
async fn quiet_watches_hear_how_far_they_are() {
    let scratch = Scratch::new();
    let kv = scratch.open().await;
    let mut stream = kv.watch(WatchRequest { progress_notify: true, ..watch("/mine", 0) }).await.unwrap();
    let mut silent = kv.watch(watch("/mine", 0)).await.unwrap();
    let revision = put(&kv, "/other", "").await;
    scratch.clock.advance(Duration::from_secs(11));
    let message = stream.recv().await.unwrap().unwrap();
    assert!(matches!(message, WatchMessage::Progress { revision: at } if at == revision));
    assert!(silent.try_recv().is_err());
    kv.shutdown().await;
}

async fn granted(kv: &Embedded, key: &str, ttl_s: i64) -> i64 {
    let lease = kv.lease_grant(0, ttl_s).await.unwrap().id;
    kv.txn(only(PutRequest { lease, ..PutRequest::new(key.to_owned(), "v") })).await.unwrap();
    lease
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_survive_a_restart_and_never_run_out_early() {
    let scratch = Scratch::new();
    let kv = scratch.open().await;
    let mut ids = vec![granted(&kv, "/short", 60).await];
    scratch.clock.advance(Duration::from_secs(50));
    kv.shutdown().await;
    let kv = scratch.open().await;
    scratch.clock.advance(Duration::from_secs(50));
    assert!(kv.lease_keep_alive(ids[0]).await.is_ok(), "it has its full time again");
    ids.push(granted(&kv, "/other", 60).await);
    assert_ne!(ids[0], ids[1]);
    let mut stream = kv.watch(watch("/short", 0)).await.unwrap();
    scratch.clock.advance(Duration::from_secs(61));
    assert!(matches!(stream.recv().await, Some(Ok(WatchMessage::Events { .. }))), "and then it ends");
    assert_eq!(get(&kv, "/short").await, None);
    kv.shutdown().await;
}

/// Waits until the engine's own tasks did what the clock told them.
async fn until(mut condition: impl AsyncFnMut() -> bool) {
    let patience = tokio::time::Instant::now() + Duration::from_secs(20);
    while !condition().await {
        assert!(tokio::time::Instant::now() < patience, "it never came");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn long_leases_are_checkpointed() {
    let scratch = Scratch::new();
    let kv = scratch.open().await;
    let kept = granted(&kv, "/kept", 1_000).await;
    let left = granted(&kv, "/left", 1_000).await;
    let applied = async || kv.status().await.unwrap().applied_index;
    let before = applied().await;
    scratch.clock.advance(Duration::from_secs(600));
    until(async || applied().await > before).await;
    let before = applied().await;
    kv.lease_keep_alive(kept).await.unwrap();
    assert!(applied().await > before, "a renewal takes back the checkpoint");
    kv.shutdown().await;
    let kv = scratch.open().await;
    let mut stream = kv.watch(watch("/", 0)).await.unwrap();
    scratch.clock.advance(Duration::from_secs(500));
    let Some(Ok(WatchMessage::Events { events, .. })) = stream.recv().await else { panic!("no event") };
    assert_eq!(events[0].kv.key, "/left", "400 s were left of 1000");
    assert_eq!(kv.lease_keep_alive(left).await, Err(Error::LeaseNotFound));
    assert!(kv.lease_keep_alive(kept).await.is_ok());
    kv.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_was_dropped_can_be_opened_again() {
    let scratch = Scratch::new();
    let kv = scratch.open().await;
    put(&kv, "/a", "1").await;
    drop(kv);
    let mut kv = None;
    until(async || {
        kv = Embedded::open(scratch.config()).await.ok();
        kv.is_some()
    })
    .await;
    let kv = kv.unwrap();
    assert_eq!(get(&kv, "/a").await.unwrap(), b"1");
    kv.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_memory_stores_do_not_meet() {
    let (one, two) =
        tokio::join!(Embedded::open(EmbeddedConfig::default()), Embedded::open(EmbeddedConfig::default()));
    let (one, two) = (one.unwrap(), two.unwrap());
    put(&one, "/a", "1").await;
    assert_eq!(get(&two, "/a").await, None);
}
