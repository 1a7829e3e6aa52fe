//! Watches.

use super::{Error, Op, Subject, TxnRequest, key, next, only, prefix, put};
use crate::kv::{DeleteRequest, EventKind, WatchStream};

pub(super) async fn live(s: &Subject) {
    s.put("/live/before", "").await;
    let mut stream = s.watch(prefix("/live/"), 0, false).await.unwrap();
    s.put("/other", "").await;
    let first = s.put("/live/a", "1").await;
    let ops = vec![put("/live/c", "3"), put("/elsewhere", ""), put("/live/b", "2")];
    s.txn(TxnRequest { success: ops, ..TxnRequest::default() }).await;
    s.delete(key("/live/a")).await;
    let (revision, events) = next(&mut stream).await.unwrap();
    assert_eq!((revision, events.len()), (first, 1));
    assert_eq!(
        (events[0].kind, events[0].kv.value.as_ref(), events[0].kv.version),
        (EventKind::Put, &b"1"[..], 1)
    );
    let (revision, events) = next(&mut stream).await.unwrap();
    assert_eq!(revision, first + 1);
    let keys: Vec<_> = events.iter().map(|event| event.kv.key.as_ref()).collect();
    assert_eq!(keys, [b"/live/c", b"/live/b"], "one message, in the transaction's order");
    let (revision, events) = next(&mut stream).await.unwrap();
    let gone = &events[0];
    assert_eq!((revision, gone.kind, &gone.kv.key[..]), (first + 2, EventKind::Delete, &b"/live/a"[..]));
    assert_eq!(
        (gone.kv.mod_revision, gone.kv.create_revision, gone.kv.version, gone.prev.as_ref()),
        (first + 2, 0, 0, None)
    );
}

pub(super) async fn from_the_past(s: &Subject) {
    let begin = s.put("/past/a", "1").await;
    s.put("/past/a", "2").await;
    s.put("/other", "").await;
    s.delete(key("/past/a")).await;
    let mut stream = s.watch(key("/past/a"), begin, false).await.unwrap();
    let kinds = [(begin, EventKind::Put), (begin + 1, EventKind::Put), (begin + 3, EventKind::Delete)];
    for (revision, kind) in kinds {
        let (at, events) = next(&mut stream).await.unwrap();
        assert_eq!((at, events.len(), events[0].kind), (revision, 1, kind));
    }
    s.put("/past/a", "3").await;
    assert_eq!(next(&mut stream).await.unwrap().0, begin + 4);
}

pub(super) async fn joins_without_gap(s: &Subject) {
    const WRITES: i64 = 3_000;
    let begin = s.put("/gap/0", "").await;
    let kv = s.kv.clone();
    let writer = tokio::spawn(async move {
        for i in 1..WRITES {
            let put = put(&format!("/gap/{}", i % 7), &i.to_string());
            kv.txn(only(put)).await.unwrap();
        }
    });
    // Watchers begin at the same revision while history is being made.
    let mut streams: Vec<WatchStream> = Vec::new();
    for _ in 0..10 {
        streams.push(s.watch(prefix("/gap/"), begin, false).await.unwrap());
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    for stream in &mut streams {
        for expected in begin..begin + WRITES {
            let (revision, events) = next(stream).await.unwrap();
            assert_eq!((revision, events.len()), (expected, 1), "nothing missed, nothing twice, in order");
        }
    }
    writer.await.unwrap();
}

pub(super) async fn from_the_future(s: &Subject) {
    let begin = s.revision().await;
    let mut stream = s.watch(key("/future/a"), begin + 3, false).await.unwrap();
    for value in ["1", "2", "3", "4"] {
        s.put("/future/a", value).await;
    }
    assert_eq!(next(&mut stream).await.unwrap().0, begin + 3);
    assert_eq!(next(&mut stream).await.unwrap().0, begin + 4);
}

pub(super) async fn previous_values(s: &Subject) {
    let begin = s.put("/prev/a", "1").await;
    let mut live = s.watch(prefix("/prev/"), 0, true).await.unwrap();
    s.put("/prev/a", "2").await;
    s.txn(only(Op::Delete(DeleteRequest { range: key("/prev/a"), prev_kv: false }))).await;
    s.put("/prev/a", "3").await;
    let mut past = s.watch(prefix("/prev/"), begin + 1, true).await.unwrap();
    for stream in [&mut live, &mut past] {
        for expected in [Some("1"), Some("2"), None] {
            let (_, events) = next(stream).await.unwrap();
            let prev = events[0].prev.as_ref().map(|kv| std::str::from_utf8(&kv.value).unwrap());
            assert_eq!(prev, expected);
        }
    }
}

pub(super) async fn several_watchers(s: &Subject) {
    let mut streams = Vec::new();
    for range in [key("/many/a"), key("/many/a"), key("/many/b"), prefix("/many/")] {
        streams.push(s.watch(range, 0, false).await.unwrap());
    }
    drop(streams.remove(1));
    let a = s.put("/many/a", "").await;
    let b = s.put("/many/b", "").await;
    for (stream, expected) in streams.iter_mut().zip([vec![a], vec![b], vec![a, b]]) {
        for revision in expected {
            assert_eq!(next(stream).await.unwrap().0, revision);
        }
    }
    let error = s.watch(key(""), 0, false).await.map(drop);
    assert_eq!(error, Err(Error::EmptyKey));
}
