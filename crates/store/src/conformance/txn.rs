//! Transactions.

use CompareResult::{Equal, Greater, Less, NotEqual};
use CompareTarget::{CreateRevision, Lease, ModRevision, Value, Version};

use super::{
    Compare, CompareResult, CompareTarget, DeleteRequest, Error, KeyRange, Op, OpResponse, PutRequest,
    RangeRequest, Subject, TxnRequest, compare, key, names, only, prefix, put,
};

pub(super) async fn compares(s: &Subject) {
    let a = s.put("/cmp/a", "m").await;
    let b = s.put("/cmp/b", "m").await;
    s.put("/cmp/b", "n").await;
    let all = || prefix("/cmp/");
    let none = || prefix("/cmp-none/");
    let cases: Vec<(Compare, bool)> = vec![
        (compare(key("/cmp/a"), Equal, Version(1)), true),
        (compare(key("/cmp/a"), NotEqual, Version(1)), false),
        (compare(key("/cmp/b"), Greater, Version(1)), true),
        (compare(key("/cmp/b"), Less, Version(2)), false),
        (compare(key("/cmp/a"), Equal, CreateRevision(a)), true),
        (compare(key("/cmp/b"), Equal, CreateRevision(b)), true),
        (compare(key("/cmp/b"), Equal, ModRevision(b + 1)), true),
        (compare(key("/cmp/b"), Less, ModRevision(b + 2)), true),
        (compare(key("/cmp/a"), Equal, Value("m".into())), true),
        (compare(key("/cmp/a"), Greater, Value("a".into())), true),
        (compare(key("/cmp/a"), Less, Value("mm".into())), true),
        (compare(key("/cmp/a"), NotEqual, Value("m".into())), false),
        (compare(key("/cmp/a"), Equal, Lease(0)), true),
        // A key that is not there is zero, but has no value.
        (compare(key("/cmp/x"), Equal, Version(0)), true),
        (compare(key("/cmp/x"), Equal, CreateRevision(0)), true),
        (compare(key("/cmp/x"), Greater, ModRevision(0)), false),
        (compare(key("/cmp/x"), Equal, Lease(0)), true),
        (compare(key("/cmp/x"), Equal, Value("".into())), false),
        (compare(key("/cmp/x"), NotEqual, Value("m".into())), false),
        // Every key of a range, or the missing key if there is none.
        (compare(all(), Greater, Version(0)), true),
        (compare(all(), Equal, Version(1)), false),
        (compare(all(), Less, Value("z".into())), true),
        (compare(all(), Equal, Value("m".into())), false),
        (compare(none(), Equal, Version(0)), true),
        (compare(none(), NotEqual, Value("m".into())), false),
    ];
    for (case, expected) in cases {
        // Read-only, and with a write, which take different paths.
        for op in [Op::Range(RangeRequest::new(key("/cmp/a"))), put("/cmp-scratch", "")] {
            let request = TxnRequest { compare: vec![case.clone()], success: vec![op], failure: vec![] };
            assert_eq!(s.txn(request).await.succeeded, expected, "{case:?}");
        }
    }
    let both = vec![compare(key("/cmp/a"), Equal, Version(1)), compare(key("/cmp/b"), Equal, Version(1))];
    let response =
        s.txn(TxnRequest { compare: both, success: vec![], failure: vec![put("/cmp/c", "else")] }).await;
    assert!(!response.succeeded && response.responses == [OpResponse::Put(None)], "all must hold");
    assert!(s.get("/cmp/c").await.is_some());
}

pub(super) async fn one_revision_per_transaction(s: &Subject) {
    let begin = s.put("/one/z", "").await;
    let read = || Op::Range(RangeRequest::new(prefix("/one/")));
    let request = TxnRequest {
        success: vec![read(), put("/one/a", "1"), put("/one/b", "2"), read()],
        ..Default::default()
    };
    let response = s.txn(request).await;
    assert_eq!(response.revision, begin + 1);
    let [OpResponse::Range(before), _, _, OpResponse::Range(after)] = &response.responses[..] else {
        panic!("{response:?}")
    };
    assert_eq!(names(&before.kvs), ["/one/z"]);
    assert_eq!(names(&after.kvs), ["/one/a", "/one/b", "/one/z"], "a transaction sees its own writes");
    assert!(after.kvs[..2].iter().all(|kv| kv.mod_revision == begin + 1));
    let nothing = TxnRequest {
        success: vec![Op::Delete(DeleteRequest { range: key("/one/x"), prev_kv: true })],
        ..Default::default()
    };
    let response = s.txn(nothing).await;
    assert_eq!(response.revision, begin + 1, "changing nothing takes no revision");
    assert_eq!(response.responses, [OpResponse::Delete(0, vec![])]);
    assert_eq!(s.txn(TxnRequest::default()).await.revision, begin + 1);
    assert!(s.txn(TxnRequest::default()).await.succeeded, "no condition always holds");
}

pub(super) async fn nesting(s: &Subject) {
    let begin = s.put("/nest/a", "1").await;
    let absent = |name: &str| vec![compare(key(name), Equal, Version(0))];
    let inner = TxnRequest {
        compare: absent("/nest/b"),
        success: vec![put("/nest/c", "yes")],
        failure: vec![put("/nest/c", "no")],
    };
    let outer = TxnRequest {
        compare: vec![compare(key("/nest/a"), Equal, Version(1))],
        success: vec![put("/nest/b", "2"), Op::Txn(inner), Op::Txn(TxnRequest::default())],
        failure: vec![],
    };
    let response = s.txn(outer).await;
    assert_eq!(response.revision, begin + 1);
    let [OpResponse::Put(None), OpResponse::Txn(nested), OpResponse::Txn(empty)] = &response.responses[..]
    else {
        panic!("{response:?}")
    };
    assert!(nested.succeeded && empty.succeeded, "conditions see the state before the whole transaction");
    assert_eq!(s.get("/nest/c").await.unwrap().value, "yes");
    let read = TxnRequest {
        compare: vec![],
        success: vec![Op::Txn(TxnRequest {
            compare: absent("/nest/a"),
            success: vec![],
            failure: vec![Op::Range(RangeRequest {
                count_only: true,
                ..RangeRequest::new(prefix("/nest/"))
            })],
        })],
        failure: vec![],
    };
    let response = s.txn(read).await;
    let [OpResponse::Txn(nested)] = &response.responses[..] else { panic!("{response:?}") };
    assert!(!nested.succeeded && matches!(&nested.responses[..], [OpResponse::Range(r)] if r.count == 3));
}

pub(super) async fn refusals(s: &Subject) {
    let begin = s.put("/ref/a", "1").await;
    let many = (0..=crate::kv::TXN_OPS_MAX).map(|i| put(&format!("/ref/{i}"), "")).collect::<Vec<_>>();
    let read = |revision| Op::Range(RangeRequest { revision, ..RangeRequest::new(key("/ref/a")) });
    let big = Op::Put(PutRequest::new("/ref/big", vec![0; crate::kv::REQUEST_BYTES_MAX]));
    let leased = Op::Put(PutRequest { lease: 987_654_321, ..PutRequest::new("/ref/c", "") });
    let cases = [
        (vec![put("/ref/b", ""), put("/ref/b", "")], Error::DuplicateKey),
        (
            vec![put("/ref/b", ""), Op::Delete(DeleteRequest { range: prefix("/ref/"), prev_kv: false })],
            Error::DuplicateKey,
        ),
        (many, Error::TooManyOps),
        (vec![put("", "")], Error::EmptyKey),
        (vec![big], Error::RequestTooLarge),
        (vec![put("/ref/b", ""), leased], Error::LeaseNotFound),
        (vec![put("/ref/b", ""), read(begin + 100)], Error::FutureRevision),
        (vec![read(begin + 100)], Error::FutureRevision),
    ];
    for (success, error) in cases {
        assert_eq!(s.kv.txn(TxnRequest { success, ..TxnRequest::default() }).await, Err(error));
    }
    assert_eq!(s.revision().await, begin, "what is refused changes nothing");
    assert_eq!(s.get("/ref/b").await, None);
}

pub(super) async fn ignoring_value_and_lease(s: &Subject) {
    let lease = s.kv.lease_grant(0, 600).await.unwrap().id;
    let op = |value: &'static str, lease, ignore_value, ignore_lease| {
        only(Op::Put(PutRequest { lease, ignore_value, ignore_lease, ..PutRequest::new("/ign/a", value) }))
    };
    assert_eq!(s.kv.txn(op("", 0, true, false)).await, Err(Error::KeyNotFound));
    assert_eq!(s.kv.txn(op("v", 0, false, true)).await, Err(Error::KeyNotFound));
    assert_eq!(s.kv.txn(op("v", 0, true, false)).await, Err(Error::ValueProvided));
    assert_eq!(s.kv.txn(op("v", lease, false, true)).await, Err(Error::LeaseProvided));
    s.txn(op("v", lease, false, false)).await;
    s.txn(op("w", 0, false, true)).await;
    let kv = s.get("/ign/a").await.unwrap();
    assert_eq!((kv.value.as_ref(), kv.lease, kv.version), (&b"w"[..], lease, 2));
    s.txn(op("", 0, true, false)).await;
    let kv = s.get("/ign/a").await.unwrap();
    assert_eq!((kv.value.as_ref(), kv.lease, kv.version), (&b"w"[..], 0, 3));
    s.kv.lease_revoke(lease).await.unwrap();
    assert!(s.get("/ign/a").await.is_some(), "detached from its lease");
}

pub(super) async fn deletions(s: &Subject) {
    for name in ["a", "b", "c"] {
        s.put(&format!("/del/{name}"), name).await;
    }
    let replace = Op::Put(PutRequest { prev_kv: true, ..PutRequest::new("/del/a", "2") });
    let response = s.txn(only(replace)).await;
    assert!(
        matches!(&response.responses[..], [OpResponse::Put(Some(kv))] if kv.value == "a" && kv.version == 1)
    );
    let range = KeyRange::Range("/del/a".into(), "/del/c".into());
    let response = s.txn(only(Op::Delete(DeleteRequest { range, prev_kv: true }))).await;
    let [OpResponse::Delete(2, prev)] = &response.responses[..] else { panic!("{response:?}") };
    assert_eq!((names(prev), prev[0].version), (vec!["/del/a", "/del/b"], 2));
    let begin = s.delete(prefix("/del/")).await;
    assert_eq!(s.delete(prefix("/del/")).await, begin, "nothing left to delete");
}
