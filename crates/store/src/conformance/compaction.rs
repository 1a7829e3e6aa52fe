//! Compaction. Last in the suite, since it takes away everybody's history.

use super::{Error, Subject, key, next, prefix};
use crate::kv::{RangeRequest, TxnRequest};

pub(super) async fn forgets_what_was_overwritten(s: &Subject) {
    let begin = s.put("/com/a", "1").await;
    s.put("/com/b", "1").await;
    s.put("/com/a", "2").await;
    s.delete(key("/com/b")).await;
    let end = s.put("/com/a", "3").await;
    let at = begin + 3;
    s.kv.compact(at).await.unwrap();
    assert_eq!(s.kv.status().await.unwrap().compact_revision, at);
    let read = |revision| RangeRequest { revision, ..RangeRequest::new(prefix("/com/")) };
    let compacted = Error::Compacted { compact_revision: at };
    assert_eq!(s.kv.range(read(at - 1)).await, Err(compacted.clone()));
    let then = s.kv.range(read(at)).await.unwrap();
    assert_eq!((then.kvs.len(), then.kvs[0].value.as_ref()), (1, &b"2"[..]), "the state as of then is kept");
    assert_eq!(s.kv.range(read(end)).await.unwrap().kvs[0].version, 3);
    let past = TxnRequest { success: vec![super::Op::Range(read(at - 1))], ..TxnRequest::default() };
    assert_eq!(s.kv.txn(past).await, Err(compacted.clone()));
    assert_eq!(s.watch(prefix("/com/"), at - 1, false).await.map(drop), Err(compacted.clone()));
    let mut stream = s.watch(prefix("/com/"), at, false).await.unwrap();
    assert_eq!(next(&mut stream).await.unwrap().0, at, "the revision compacted at can still be watched");
    assert_eq!(next(&mut stream).await.unwrap().0, end);
    assert_eq!(s.kv.compact(at).await, Err(compacted.clone()));
    assert_eq!(s.kv.compact(at - 1).await, Err(compacted));
    assert_eq!(s.kv.compact(end + 1).await, Err(Error::FutureRevision));
    s.kv.compact(end).await.unwrap();
    assert_eq!(s.get("/com/a").await.unwrap().version, 3);
}
