//! Reads.

use super::{Subject, key, names, prefix, put};
use crate::kv::{Error, KeyRange, RangeRequest, RangeResponse, TxnRequest};

pub(super) async fn put_and_get(s: &Subject) {
    assert_eq!(s.get("/pg/a").await, None);
    let first = s.put("/pg/a", "1").await;
    let second = s.put("/pg/a", "2").await;
    assert_eq!(second, first + 1, "each put takes one revision");
    let kv = s.get("/pg/a").await.unwrap();
    assert_eq!(
        (kv.value.as_ref(), kv.create_revision, kv.mod_revision, kv.version, kv.lease),
        (&b"2"[..], first, second, 2, 0)
    );
    s.delete(key("/pg/a")).await;
    assert_eq!(s.get("/pg/a").await, None);
    let again = s.put("/pg/a", "3").await;
    let kv = s.get("/pg/a").await.unwrap();
    assert_eq!((kv.create_revision, kv.version), (again, 1), "deleting begins a new life");
    let empty = s.put("/pg/empty", "").await;
    assert_eq!(s.get("/pg/empty").await.unwrap().mod_revision, empty, "an empty value is a value");
}

async fn range(s: &Subject, request: RangeRequest) -> RangeResponse {
    s.kv.range(request).await.unwrap()
}

pub(super) async fn bounds_limits_and_counts(s: &Subject) {
    let puts = ["a", "b", "b/1", "b/2", "c", "\u{7f}"]
        .iter()
        .map(|name| put(&format!("/bl/{name}"), name))
        .collect();
    s.txn(TxnRequest { success: puts, ..TxnRequest::default() }).await;
    let read = |range: KeyRange| RangeRequest::new(range);
    let ranges = [
        (key("/bl/b"), vec!["/bl/b"]),
        (prefix("/bl/b"), vec!["/bl/b", "/bl/b/1", "/bl/b/2"]),
        (KeyRange::Range("/bl/b".into(), "/bl/c".into()), vec!["/bl/b", "/bl/b/1", "/bl/b/2"]),
        (KeyRange::Range("/bl/c".into(), "/bl/b".into()), vec![]),
        (KeyRange::Range("/bl/b".into(), "/bl/b".into()), vec![]),
        (KeyRange::Range("/bl/b/2".into(), "/bm".into()), vec!["/bl/b/2", "/bl/c", "/bl/\u{7f}"]),
    ];
    for (keys, expected) in ranges {
        assert_eq!(names(&range(s, read(keys.clone())).await.kvs), expected, "{keys:?}");
    }
    assert!(range(s, read(KeyRange::From("/bl/c".into()))).await.count >= 2);
    assert!(range(s, read(prefix(""))).await.count >= 6, "everything");
    let limited = range(s, RangeRequest { limit: 2, ..read(prefix("/bl/")) }).await;
    assert_eq!((names(&limited.kvs), limited.more, limited.count), (vec!["/bl/a", "/bl/b"], true, 6));
    let exact = range(s, RangeRequest { limit: 6, ..read(prefix("/bl/")) }).await;
    assert_eq!((exact.kvs.len(), exact.more), (6, false));
    let counted = range(s, RangeRequest { count_only: true, ..read(prefix("/bl/")) }).await;
    assert_eq!((counted.kvs.len(), counted.more, counted.count), (0, false, 6));
    let keys = range(s, RangeRequest { keys_only: true, serializable: true, ..read(prefix("/bl/")) }).await;
    assert!(keys.kvs.iter().all(|kv| kv.value.is_empty() && kv.version == 1) && keys.kvs.len() == 6);
    assert_eq!(s.kv.range(read(key(""))).await, Err(Error::EmptyKey));
}

pub(super) async fn past_and_future_revisions(s: &Subject) {
    let begin = s.put("/pf/a", "1").await;
    s.put("/pf/b", "1").await;
    s.put("/pf/a", "2").await;
    s.delete(prefix("/pf/")).await;
    let end = s.put("/pf/b", "2").await;
    let expected: [&[(&str, &str)]; 5] = [
        &[("/pf/a", "1")],
        &[("/pf/a", "1"), ("/pf/b", "1")],
        &[("/pf/a", "2"), ("/pf/b", "1")],
        &[],
        &[("/pf/b", "2")],
    ];
    for (revision, expected) in (begin..).zip(expected) {
        let response = range(s, RangeRequest { revision, ..RangeRequest::new(prefix("/pf/")) }).await;
        let kvs: Vec<_> = response.kvs.iter().map(|kv| (kv.key.as_ref(), kv.value.as_ref())).collect();
        let expected: Vec<_> = expected.iter().map(|(k, v)| (k.as_bytes(), v.as_bytes())).collect();
        assert_eq!(kvs, expected, "at revision {}", revision - begin);
        assert_eq!(response.revision, end, "the header tells the present");
    }
    let future = RangeRequest { revision: end + 1, ..RangeRequest::new(prefix("/pf/")) };
    assert_eq!(s.kv.range(future).await, Err(Error::FutureRevision));
}
