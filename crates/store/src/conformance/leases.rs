//! Leases.

use std::time::Duration;

use super::{Error, Op, PutRequest, Subject, key, next, only, prefix};
use crate::kv::{EventKind, LEASE_TTL_S_MAX};

async fn leased(s: &Subject, name: &str, lease: i64) -> i64 {
    s.txn(only(Op::Put(PutRequest { lease, ..PutRequest::new(name.to_owned(), "v") }))).await.revision
}

pub(super) async fn expiry(s: &Subject) {
    let lease = s.kv.lease_grant(0, 2).await.unwrap();
    assert!(lease.id != 0 && lease.ttl_s >= 2);
    leased(s, "/exp/b", lease.id).await;
    leased(s, "/exp/a", lease.id).await;
    let begin = s.put("/exp/c", "").await;
    let mut stream = s.watch(prefix("/exp/"), 0, false).await.unwrap();
    (s.advance)(Duration::from_secs(lease.ttl_s as u64 + 1)).await;
    let (revision, events) = next(&mut stream).await.unwrap();
    let gone: Vec<_> = events.iter().map(|event| (event.kind, event.kv.key.as_ref())).collect();
    assert_eq!(revision, begin + 1, "one revision");
    assert_eq!(gone, [(EventKind::Delete, &b"/exp/a"[..]), (EventKind::Delete, &b"/exp/b"[..])]);
    assert_eq!(s.kv.lease_keep_alive(lease.id).await, Err(Error::LeaseNotFound));
    assert!(s.get("/exp/a").await.is_none() && s.get("/exp/c").await.is_some());
}

pub(super) async fn keep_alive(s: &Subject) {
    let lease = s.kv.lease_grant(0, 3).await.unwrap();
    leased(s, "/ka/a", lease.id).await;
    for _ in 0..3 {
        (s.advance)(Duration::from_secs(2)).await;
        assert_eq!(s.kv.lease_keep_alive(lease.id).await, Ok(lease));
    }
    assert!(s.get("/ka/a").await.is_some(), "it would have run out long ago");
    assert_eq!(s.kv.lease_keep_alive(123_456_789).await, Err(Error::LeaseNotFound));
    s.kv.lease_revoke(lease.id).await.unwrap();
}

pub(super) async fn attachment(s: &Subject) {
    let one = s.kv.lease_grant(7_001, 600).await.unwrap();
    assert_eq!(one.id, 7_001);
    assert_eq!(s.kv.lease_grant(7_001, 600).await, Err(Error::LeaseExists));
    assert_eq!(s.kv.lease_grant(7_003, LEASE_TTL_S_MAX + 1).await, Err(Error::LeaseTtlTooLarge));
    s.kv.lease_grant(7_002, 600).await.unwrap();
    for name in ["/att/stays", "/att/moves", "/att/detached"] {
        leased(s, name, 7_001).await;
    }
    leased(s, "/att/moves", 7_002).await;
    s.put("/att/detached", "").await;
    s.delete(key("/att/gone")).await;
    assert_eq!(s.get("/att/moves").await.unwrap().lease, 7_002);
    s.kv.lease_revoke(7_001).await.unwrap();
    assert!(s.get("/att/stays").await.is_none());
    assert!(s.get("/att/moves").await.is_some() && s.get("/att/detached").await.is_some());
    s.kv.lease_revoke(7_002).await.unwrap();
    assert!(s.get("/att/moves").await.is_none());
}

pub(super) async fn revocation(s: &Subject) {
    let lease = s.kv.lease_grant(0, 600).await.unwrap().id;
    let begin = leased(s, "/rev/a", lease).await;
    s.delete(key("/rev/a")).await;
    s.put("/rev/a", "not leased").await;
    s.kv.lease_revoke(lease).await.unwrap();
    assert_eq!(s.revision().await, begin + 2, "nothing to delete, so no revision");
    assert_eq!(s.kv.lease_revoke(lease).await, Err(Error::LeaseNotFound));
    let late = only(Op::Put(PutRequest { lease, ..PutRequest::new("/rev/b", "") }));
    assert_eq!(s.kv.txn(late).await, Err(Error::LeaseNotFound));
}
