//! Compare-and-swap on single objects: the only writes of the registry.

use bytes::Bytes;
use coracle_store::{
    Compare, CompareResult, CompareTarget, DeleteRequest, Error, KeyRange, KeyValue, Kv, Op, OpResponse,
    PutRequest, RangeRequest, TxnRequest,
};

/// How a conditional write ended.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It happened, in this revision.
    Done(i64),
    /// What is stored is not what was expected: this is, or nothing.
    Differs(Option<KeyValue>),
}

/// Reads one key, linearizably.
///
/// # Errors
/// Of the store.
pub(super) async fn get(kv: &dyn Kv, key: Bytes) -> Result<Option<KeyValue>, Error> {
    let mut request = RangeRequest::new(KeyRange::Key(key));
    request.limit = 1;
    Ok(kv.range(request).await?.kvs.pop())
}

/// Writes `value` if the key's last change was `expected` (0: if the key is absent).
///
/// # Errors
/// Of the store.
pub(super) async fn put(
    kv: &dyn Kv,
    key: Bytes,
    expected: i64,
    value: Bytes,
    lease: i64,
) -> Result<Outcome, Error> {
    let put = PutRequest {
        key: key.clone(),
        value,
        lease,
        prev_kv: false,
        ignore_value: false,
        ignore_lease: false,
    };
    swap(kv, key, expected, Op::Put(put)).await
}

/// Deletes the key if its last change was `expected`.
///
/// # Errors
/// Of the store.
pub(super) async fn delete(kv: &dyn Kv, key: Bytes, expected: i64) -> Result<Outcome, Error> {
    let delete = DeleteRequest { range: KeyRange::Key(key.clone()), prev_kv: false };
    swap(kv, key, expected, Op::Delete(delete)).await
}

async fn swap(kv: &dyn Kv, key: Bytes, expected: i64, write: Op) -> Result<Outcome, Error> {
    let mut read = RangeRequest::new(KeyRange::Key(key.clone()));
    read.limit = 1;
    let request = TxnRequest {
        compare: vec![Compare {
            range: KeyRange::Key(key),
            result: CompareResult::Equal,
            target: CompareTarget::ModRevision(expected),
        }],
        success: vec![write],
        failure: vec![Op::Range(read)],
    };
    let mut answer = kv.txn(request).await?;
    if answer.succeeded {
        return Ok(Outcome::Done(answer.revision));
    }
    match answer.responses.pop() {
        Some(OpResponse::Range(mut range)) => Ok(Outcome::Differs(range.kvs.pop())),
        _ => Ok(Outcome::Differs(None)),
    }
}
