//! What is refused before it is proposed: the request checks of etcd's front (its
//! `v3rpc` layer), as pure functions.

use std::collections::BTreeSet;

use bytes::Bytes;

use crate::kv::{
    Compare, CompareTarget, Error, KEY_BYTES_MAX, KeyRange, Op, PutRequest, REQUEST_BYTES_MAX, RangeRequest,
    TXN_OPS_MAX, TxnRequest,
};

/// Checks a read.
pub(crate) fn range(request: &RangeRequest) -> Result<(), Error> {
    key_range(&request.range)
}

/// Checks a key range; the empty key is none, except as the begin of everything.
pub(crate) fn key_range(range: &KeyRange) -> Result<(), Error> {
    let (first, last): (&[u8], &[u8]) = match range {
        KeyRange::Key(k) if k.is_empty() => return Err(Error::EmptyKey),
        KeyRange::Key(k) => (k, b""),
        KeyRange::Range(a, b) => (a, b),
        KeyRange::From(a) => (a, b""),
    };
    match first.len().max(last.len()) {
        n if n > KEY_BYTES_MAX => Err(Error::KeyTooLong(n)),
        _ => Ok(()),
    }
}

/// Checks a transaction, with everything nested in it.
pub(crate) fn txn(request: &TxnRequest) -> Result<(), Error> {
    if txn_bytes(request) > REQUEST_BYTES_MAX {
        return Err(Error::RequestTooLarge);
    }
    txn_ops(request, TXN_OPS_MAX)?;
    for branch in [&request.success, &request.failure] {
        duplicates(branch)?;
    }
    Ok(())
}

/// `room` shrinks with each level of nesting, which bounds both depth and total.
fn txn_ops(request: &TxnRequest, room: usize) -> Result<(), Error> {
    let ops = request.compare.len().max(request.success.len()).max(request.failure.len());
    let room = room.checked_sub(ops).ok_or(Error::TooManyOps)?;
    for compare in &request.compare {
        key_range(&compare.range)?;
    }
    for op in request.success.iter().chain(&request.failure) {
        match op {
            Op::Range(read) => range(read)?,
            Op::Put(write) => put(write)?,
            Op::Delete(delete) => key_range(&delete.range)?,
            // An empty nested transaction costs room too, or nesting would have no bound.
            Op::Txn(nested) => txn_ops(nested, room.checked_sub(1).ok_or(Error::TooManyOps)?)?,
        }
    }
    Ok(())
}

fn put(put: &PutRequest) -> Result<(), Error> {
    if put.key.is_empty() {
        return Err(Error::EmptyKey);
    }
    if put.key.len() > KEY_BYTES_MAX {
        return Err(Error::KeyTooLong(put.key.len()));
    }
    if put.ignore_value && !put.value.is_empty() {
        return Err(Error::ValueProvided);
    }
    if put.ignore_lease && put.lease != 0 {
        return Err(Error::LeaseProvided);
    }
    Ok(())
}

/// Keys put and ranges deleted on one branch.
#[derive(Default)]
struct Touched {
    puts: BTreeSet<Bytes>,
    deletes: Vec<KeyRange>,
}

impl Touched {
    fn deletes_key(&self, key: &Bytes) -> bool {
        self.deletes.iter().any(|range| range.contains(key))
    }
}

/// A key may be put once per branch, and not where the same branch deletes: one revision
/// holds one change per key. The two branches of a nested transaction never both run, so
/// between them the same key is fine.
fn duplicates(ops: &[Op]) -> Result<Touched, Error> {
    let mut touched = Touched::default();
    for op in ops {
        if let Op::Delete(delete) = op {
            touched.deletes.push(delete.range.clone());
        }
    }
    for op in ops {
        if let Op::Txn(nested) = op {
            let then = duplicates(&nested.success)?;
            let or_else = duplicates(&nested.failure)?;
            for key in then.puts.union(&or_else.puts) {
                if touched.deletes_key(key) || touched.puts.contains(key) {
                    return Err(Error::DuplicateKey);
                }
            }
            touched.puts.extend(then.puts.into_iter().chain(or_else.puts));
            touched.deletes.extend(then.deletes.into_iter().chain(or_else.deletes));
        }
    }
    for op in ops {
        if let Op::Put(put) = op
            && (touched.deletes_key(&put.key) || !touched.puts.insert(put.key.clone()))
        {
            return Err(Error::DuplicateKey);
        }
    }
    Ok(touched)
}

/// Size of a transaction: its keys and values, and a little for each operation.
pub(crate) fn txn_bytes(request: &TxnRequest) -> usize {
    let compares: usize = request.compare.iter().map(compare_bytes).sum();
    let ops: usize = request.success.iter().chain(&request.failure).map(op_bytes).sum();
    OP_BYTES + compares + ops
}

/// What an operation weighs beside its keys and values.
const OP_BYTES: usize = 32;

fn compare_bytes(compare: &Compare) -> usize {
    let operand = if let CompareTarget::Value(v) = &compare.target { v.len() } else { 0 };
    OP_BYTES + range_bytes(&compare.range) + operand
}

fn op_bytes(op: &Op) -> usize {
    OP_BYTES
        + match op {
            Op::Range(read) => range_bytes(&read.range),
            Op::Put(put) => put.key.len() + put.value.len(),
            Op::Delete(delete) => range_bytes(&delete.range),
            Op::Txn(nested) => txn_bytes(nested),
        }
}

fn range_bytes(range: &KeyRange) -> usize {
    match range {
        KeyRange::Key(k) | KeyRange::From(k) => k.len(),
        KeyRange::Range(a, b) => a.len() + b.len(),
    }
}

/// Whether a transaction cannot change anything, whichever branch runs.
pub(crate) fn is_read_only(request: &TxnRequest) -> bool {
    request.success.iter().chain(&request.failure).all(|op| match op {
        Op::Range(_) => true,
        Op::Put(_) | Op::Delete(_) => false,
        Op::Txn(nested) => is_read_only(nested),
    })
}

/// Whether a read-only transaction is content with local, possibly stale, state.
pub(crate) fn is_serializable(request: &TxnRequest) -> bool {
    request.success.iter().chain(&request.failure).all(|op| match op {
        Op::Range(read) => read.serializable,
        Op::Put(_) | Op::Delete(_) => false,
        Op::Txn(nested) => is_serializable(nested),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::DeleteRequest;

    fn put(key: &str) -> Op {
        Op::Put(PutRequest::new(key.to_owned(), "v"))
    }
    fn delete(from: &'static str, to: &'static str) -> Op {
        let range = KeyRange::Range(from.into(), to.into());
        Op::Delete(DeleteRequest { range, prev_kv: false })
    }
    fn nested(success: Vec<Op>, failure: Vec<Op>) -> Op {
        Op::Txn(TxnRequest { compare: vec![], success, failure })
    }
    fn check(success: Vec<Op>) -> Result<(), Error> {
        txn(&TxnRequest { compare: vec![], success, failure: vec![] })
    }

    #[test]
    fn one_change_per_key() {
        let cases = [
            (vec![put("a"), put("b")], Ok(())),
            (vec![put("a"), put("a")], Err(Error::DuplicateKey)),
            (vec![put("b"), delete("a", "c")], Err(Error::DuplicateKey)),
            (vec![put("c"), delete("a", "c")], Ok(())),
            (vec![delete("a", "c"), delete("a", "c")], Ok(())),
            (vec![nested(vec![put("a")], vec![put("a")])], Ok(())),
            (vec![put("a"), nested(vec![put("a")], vec![])], Err(Error::DuplicateKey)),
            (vec![nested(vec![put("a")], vec![]), nested(vec![], vec![put("a")])], Err(Error::DuplicateKey)),
            (vec![delete("a", "c"), nested(vec![put("b")], vec![])], Err(Error::DuplicateKey)),
            (vec![put("b"), nested(vec![delete("a", "c")], vec![])], Err(Error::DuplicateKey)),
        ];
        for (ops, expected) in cases {
            assert_eq!(check(ops.clone()), expected, "{ops:?}");
        }
    }

    #[test]
    fn limits() {
        let many = |n: usize| (0..n).map(|i| put(&i.to_string())).collect::<Vec<_>>();
        assert_eq!(check(many(TXN_OPS_MAX)), Ok(()));
        assert_eq!(check(many(TXN_OPS_MAX + 1)), Err(Error::TooManyOps));
        assert_eq!(check(vec![put("")]), Err(Error::EmptyKey));
        let long = "k".repeat(KEY_BYTES_MAX + 1);
        assert_eq!(check(vec![put(&long)]), Err(Error::KeyTooLong(KEY_BYTES_MAX + 1)));
        let big = Op::Put(PutRequest::new("k", vec![0; REQUEST_BYTES_MAX]));
        assert_eq!(check(vec![big]), Err(Error::RequestTooLarge));
        let deep = (0..TXN_OPS_MAX).fold(vec![], |inner, _| vec![nested(inner, vec![])]);
        assert_eq!(check(deep), Err(Error::TooManyOps));
        let ignore = |value: &'static str, lease, ignore_value, ignore_lease| {
            let value = Bytes::from(value);
            Op::Put(PutRequest { key: "k".into(), value, lease, prev_kv: false, ignore_value, ignore_lease })
        };
        assert_eq!(check(vec![ignore("v", 0, true, false)]), Err(Error::ValueProvided));
        assert_eq!(check(vec![ignore("", 7, false, true)]), Err(Error::LeaseProvided));
        assert_eq!(check(vec![ignore("", 0, true, true)]), Ok(()));
    }
}
