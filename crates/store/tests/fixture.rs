//! Stores written by older versions open, with everything that was in them.
//!
//! `tests/fixtures/v1` is the directory of a running store, as a crash would leave it: part
//! in the state file, part in the log. `CORACLE_WRITE_FIXTURE=DIR cargo test -p
//! coracle-store --test fixture` writes one of the present format; a new format gets a new
//! directory and keeps the old ones.
#![allow(clippy::unwrap_used)]

use std::{fs, path::Path};

use coracle_store::{
    Compare, CompareResult, CompareTarget, DeleteRequest, Embedded, EmbeddedConfig, Error, KeyRange, Kv, Op,
    PutRequest, RangeRequest, TxnRequest, WatchMessage, WatchRequest,
};

fn put(key: &str, value: &str, lease: i64) -> Op {
    Op::Put(PutRequest { lease, ..PutRequest::new(key.to_owned(), value.to_owned()) })
}

fn txn(success: Vec<Op>) -> TxnRequest {
    let always = KeyRange::Key("/none".into());
    let always = Compare { range: always, result: CompareResult::Equal, target: CompareTarget::Version(0) };
    TxnRequest { compare: vec![always], success, failure: vec![] }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for name in ["VERSION", "log.redb", "state.redb"] {
        fs::copy(from.join(name), to.join(name)).unwrap();
    }
}

/// Revisions 2 to 7, compacted at 3; the last two are only in the log.
async fn write(fixture: &Path) {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("store");
    let open = || Embedded::open(EmbeddedConfig::new(Some(dir.clone())));
    let kv = open().await.unwrap();
    assert_eq!(kv.lease_grant(77, 86_400).await.unwrap().id, 77);
    kv.txn(txn(vec![put("/a", "1", 0), put("/leased", "l", 77)])).await.unwrap();
    kv.txn(txn(vec![put("/a", "2", 0)])).await.unwrap();
    kv.txn(txn(vec![put("/b", "1", 0), Op::Txn(txn(vec![put("/c", "1", 0)]))])).await.unwrap();
    kv.compact(3).await.unwrap();
    let gone = Op::Delete(DeleteRequest { range: KeyRange::prefix("/b"), prev_kv: true });
    kv.txn(txn(vec![gone])).await.unwrap();
    kv.shutdown().await;
    let kv = open().await.unwrap();
    kv.txn(txn(vec![put("/a", "3", 0)])).await.unwrap();
    kv.txn(txn(vec![put("/d", "only in the log", 77)])).await.unwrap();
    copy(&dir, fixture);
    kv.shutdown().await;
}

async fn check(fixture: &Path) {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("store");
    copy(fixture, &dir);
    let kv = Embedded::open(EmbeddedConfig::new(Some(dir))).await.unwrap();
    let status = kv.status().await.unwrap();
    assert_eq!((status.revision, status.compact_revision), (7, 3));
    let read = |revision| RangeRequest { revision, ..RangeRequest::new(KeyRange::prefix("/")) };
    let states: [(i64, &[(&str, &str)]); 5] = [
        (3, &[("/a", "2"), ("/leased", "l")]),
        (4, &[("/a", "2"), ("/b", "1"), ("/c", "1"), ("/leased", "l")]),
        (5, &[("/a", "2"), ("/c", "1"), ("/leased", "l")]),
        (6, &[("/a", "3"), ("/c", "1"), ("/leased", "l")]),
        (0, &[("/a", "3"), ("/c", "1"), ("/d", "only in the log"), ("/leased", "l")]),
    ];
    for (revision, expected) in states {
        let kvs = kv.range(read(revision)).await.unwrap().kvs;
        let kvs: Vec<_> = kvs.iter().map(|kv| (kv.key.as_ref(), kv.value.as_ref())).collect();
        let expected: Vec<_> = expected.iter().map(|(k, v)| (k.as_bytes(), v.as_bytes())).collect();
        assert_eq!(kvs, expected, "at revision {revision}");
    }
    assert_eq!(kv.range(read(2)).await, Err(Error::Compacted { compact_revision: 3 }));
    let range = KeyRange::prefix("/");
    let request = WatchRequest { range, start_revision: 3, prev_kv: true, progress_notify: false };
    let mut stream = kv.watch(request).await.unwrap();
    for expected in [3, 4, 5, 6, 7] {
        let message = stream.recv().await.unwrap().unwrap();
        assert!(matches!(message, WatchMessage::Events { revision, .. } if revision == expected));
    }
    kv.lease_revoke(77).await.unwrap();
    assert_eq!(kv.range(read(0)).await.unwrap().count, 2, "its lease knew its keys");
    kv.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn version_1_opens() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    if let Some(dir) = std::env::var_os("CORACLE_WRITE_FIXTURE") {
        write(Path::new(&dir)).await;
        check(Path::new(&dir)).await;
    }
    check(&fixtures.join("v1")).await;
}
