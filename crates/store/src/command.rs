//! What goes through consensus: the commands, their answers, and the commands' bytes.
//!
//! A command must mean the same on every member, so it holds no clock and no randomness.

use std::{fmt, sync::Arc};

use bytes::Bytes;

use crate::{
    check,
    codec::{DecodeError, Reader, put_bytes, put_i64, put_varint},
    kv::{
        Compare, CompareResult, CompareTarget, DeleteRequest, Error, KeyRange, Lease, Op, PutRequest,
        RangeRequest, TxnRequest, TxnResponse,
    },
};

/// A change of the replicated state.
#[derive(Debug)]
pub(crate) enum Command {
    /// Runs a transaction.
    Txn(TxnRequest),
    /// Grants a lease; id 0 lets the state machine choose.
    LeaseGrant { id: i64, ttl_s: i64 },
    /// Ends a lease, by request or because it ran out, and deletes its keys.
    LeaseRevoke { id: i64 },
    /// Notes how much time leases have left, for whoever leads after a restart: pairs of id
    /// and seconds, 0 seconds meaning the full time to live.
    LeaseCheckpoint { remaining: Vec<(i64, i64)> },
    /// Forgets history.
    Compact { revision: i64 },
}

/// A command on its way through the log; cloning shares it.
#[derive(Debug, Clone)]
pub(crate) struct Proposal {
    command: Arc<Command>,
    bytes: usize,
}

impl Proposal {
    pub(crate) fn new(command: Command) -> Self {
        let bytes = match &command {
            Command::Txn(txn) => check::txn_bytes(txn),
            Command::LeaseCheckpoint { remaining } => remaining.len() * 16,
            _ => 16,
        };
        Self { command: Arc::new(command), bytes }
    }

    pub(crate) fn command(&self) -> &Command {
        &self.command
    }

    /// About how much memory it holds.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match &*self.command {
            Command::Txn(_) => "txn",
            Command::LeaseGrant { .. } => "lease grant",
            Command::LeaseRevoke { .. } => "lease revoke",
            Command::LeaseCheckpoint { .. } => "lease checkpoint",
            Command::Compact { .. } => "compact",
        };
        f.write_str(name)
    }
}

/// What applying a command answered.
#[derive(Debug)]
pub(crate) enum Reply {
    /// To [`Command::Txn`].
    Txn(Result<TxnResponse, Error>),
    /// To [`Command::LeaseGrant`].
    Lease(Result<Lease, Error>),
    /// To everything else.
    Done(Result<(), Error>),
}

impl Command {
    /// Appends the command's bytes (see the crate's documentation).
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Txn(txn) => {
                out.push(1);
                put_txn(out, txn);
            }
            Self::LeaseGrant { id, ttl_s } => {
                out.push(2);
                put_i64(out, *id);
                put_i64(out, *ttl_s);
            }
            Self::LeaseRevoke { id } => {
                out.push(3);
                put_i64(out, *id);
            }
            Self::LeaseCheckpoint { remaining } => {
                out.push(4);
                put_varint(out, remaining.len() as u64);
                for (id, remaining_s) in remaining {
                    put_i64(out, *id);
                    put_i64(out, *remaining_s);
                }
            }
            Self::Compact { revision } => {
                out.push(5);
                put_i64(out, *revision);
            }
        }
    }

    /// Reads what [`Self::encode`] wrote.
    pub(crate) fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(match reader.u8()? {
            1 => Self::Txn(txn(reader, NESTING_MAX)?),
            2 => Self::LeaseGrant { id: reader.i64()?, ttl_s: reader.i64()? },
            3 => Self::LeaseRevoke { id: reader.i64()? },
            4 => {
                let n = reader.count()?;
                let remaining =
                    (0..n).map(|_| Ok((reader.i64()?, reader.i64()?))).collect::<Result<_, _>>()?;
                Self::LeaseCheckpoint { remaining }
            }
            5 => Self::Compact { revision: reader.i64()? },
            _ => return Err(reader.error("unknown command")),
        })
    }
}

/// Deepest nesting of transactions that is decoded; the request check allows less, so only
/// damaged bytes reach it.
const NESTING_MAX: usize = crate::kv::TXN_OPS_MAX;

fn put_txn(out: &mut Vec<u8>, txn: &TxnRequest) {
    put_varint(out, txn.compare.len() as u64);
    for compare in &txn.compare {
        put_compare(out, compare);
    }
    for branch in [&txn.success, &txn.failure] {
        put_varint(out, branch.len() as u64);
        for op in branch {
            put_op(out, op);
        }
    }
}

fn txn(reader: &mut Reader, depth: usize) -> Result<TxnRequest, DecodeError> {
    if depth == 0 {
        return Err(reader.error("transactions nested too deeply"));
    }
    let n = reader.count()?;
    let compare = (0..n).map(|_| compare(reader)).collect::<Result<_, _>>()?;
    let mut branches = [Vec::new(), Vec::new()];
    for branch in &mut branches {
        let n = reader.count()?;
        for _ in 0..n {
            branch.push(op(reader, depth)?);
        }
    }
    let [success, failure] = branches;
    Ok(TxnRequest { compare, success, failure })
}

fn put_range(out: &mut Vec<u8>, range: &KeyRange) {
    match range {
        KeyRange::Key(key) => {
            out.push(0);
            put_bytes(out, key);
        }
        KeyRange::Range(start, end) => {
            out.push(1);
            put_bytes(out, start);
            put_bytes(out, end);
        }
        KeyRange::From(start) => {
            out.push(2);
            put_bytes(out, start);
        }
    }
}

fn range(reader: &mut Reader) -> Result<KeyRange, DecodeError> {
    Ok(match reader.u8()? {
        0 => KeyRange::Key(reader.bytes()?),
        1 => KeyRange::Range(reader.bytes()?, reader.bytes()?),
        2 => KeyRange::From(reader.bytes()?),
        _ => return Err(reader.error("unknown kind of range")),
    })
}

fn put_compare(out: &mut Vec<u8>, compare: &Compare) {
    put_range(out, &compare.range);
    out.push(match compare.result {
        CompareResult::Equal => 0,
        CompareResult::Greater => 1,
        CompareResult::Less => 2,
        CompareResult::NotEqual => 3,
    });
    let (tag, number) = match &compare.target {
        CompareTarget::Version(n) => (0, n),
        CompareTarget::CreateRevision(n) => (1, n),
        CompareTarget::ModRevision(n) => (2, n),
        CompareTarget::Lease(n) => (4, n),
        CompareTarget::Value(value) => {
            out.push(3);
            return put_bytes(out, value);
        }
    };
    out.push(tag);
    put_i64(out, *number);
}

fn compare(reader: &mut Reader) -> Result<Compare, DecodeError> {
    let range = range(reader)?;
    let result = match reader.u8()? {
        0 => CompareResult::Equal,
        1 => CompareResult::Greater,
        2 => CompareResult::Less,
        3 => CompareResult::NotEqual,
        _ => return Err(reader.error("unknown comparison")),
    };
    let target = match reader.u8()? {
        0 => CompareTarget::Version(reader.i64()?),
        1 => CompareTarget::CreateRevision(reader.i64()?),
        2 => CompareTarget::ModRevision(reader.i64()?),
        3 => CompareTarget::Value(reader.bytes()?),
        4 => CompareTarget::Lease(reader.i64()?),
        _ => return Err(reader.error("unknown comparison target")),
    };
    Ok(Compare { range, result, target })
}

const KEYS_ONLY: u8 = 1;
const COUNT_ONLY: u8 = 2;
const SERIALIZABLE: u8 = 4;
const PREV_KV: u8 = 1;
const IGNORE_VALUE: u8 = 2;
const IGNORE_LEASE: u8 = 4;

fn flag(bit: u8, set: bool) -> u8 {
    if set { bit } else { 0 }
}

fn put_op(out: &mut Vec<u8>, op: &Op) {
    match op {
        Op::Range(read) => {
            out.push(0);
            put_range(out, &read.range);
            put_varint(out, read.limit as u64);
            put_i64(out, read.revision);
            out.push(
                flag(KEYS_ONLY, read.keys_only)
                    | flag(COUNT_ONLY, read.count_only)
                    | flag(SERIALIZABLE, read.serializable),
            );
        }
        Op::Put(put) => {
            out.push(1);
            put_bytes(out, &put.key);
            put_bytes(out, &put.value);
            put_i64(out, put.lease);
            out.push(
                flag(PREV_KV, put.prev_kv)
                    | flag(IGNORE_VALUE, put.ignore_value)
                    | flag(IGNORE_LEASE, put.ignore_lease),
            );
        }
        Op::Delete(delete) => {
            out.push(2);
            put_range(out, &delete.range);
            out.push(flag(PREV_KV, delete.prev_kv));
        }
        Op::Txn(nested) => {
            out.push(3);
            put_txn(out, nested);
        }
    }
}

fn op(reader: &mut Reader, depth: usize) -> Result<Op, DecodeError> {
    Ok(match reader.u8()? {
        0 => {
            let range = range(reader)?;
            let limit = reader.varint()? as usize;
            let revision = reader.i64()?;
            let flags = reader.u8()?;
            let (keys_only, count_only) = (flags & KEYS_ONLY != 0, flags & COUNT_ONLY != 0);
            let serializable = flags & SERIALIZABLE != 0;
            Op::Range(RangeRequest { range, limit, revision, keys_only, count_only, serializable })
        }
        1 => {
            let (key, value): (Bytes, Bytes) = (reader.bytes()?, reader.bytes()?);
            let lease = reader.i64()?;
            let flags = reader.u8()?;
            let (ignore_value, ignore_lease) = (flags & IGNORE_VALUE != 0, flags & IGNORE_LEASE != 0);
            let prev_kv = flags & PREV_KV != 0;
            Op::Put(PutRequest { key, value, lease, prev_kv, ignore_value, ignore_lease })
        }
        2 => Op::Delete(DeleteRequest { range: range(reader)?, prev_kv: reader.u8()? & PREV_KV != 0 }),
        3 => Op::Txn(txn(reader, depth - 1)?),
        _ => return Err(reader.error("unknown operation")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(command: &Command) {
        let mut out = Vec::new();
        command.encode(&mut out);
        let mut reader = Reader::new("command", out.into());
        let decoded = Command::decode(&mut reader).unwrap();
        reader.end().unwrap();
        assert_eq!(format!("{command:?}"), format!("{decoded:?}"));
    }

    fn every_op() -> TxnRequest {
        let compare =
            |target| Compare { range: KeyRange::prefix("/a"), result: CompareResult::NotEqual, target };
        let put = PutRequest { lease: -9, prev_kv: true, ..PutRequest::new("k", vec![0u8; 300]) };
        let read = RangeRequest {
            limit: 5,
            revision: 77,
            keys_only: true,
            ..RangeRequest::new(KeyRange::From("b".into()))
        };
        TxnRequest {
            compare: vec![
                compare(CompareTarget::Version(1)),
                compare(CompareTarget::CreateRevision(2)),
                compare(CompareTarget::ModRevision(3)),
                compare(CompareTarget::Value("v".into())),
                compare(CompareTarget::Lease(-1)),
            ],
            success: vec![
                Op::Put(put),
                Op::Range(read),
                Op::Delete(DeleteRequest { range: KeyRange::Key("k".into()), prev_kv: true }),
                Op::Txn(TxnRequest::default()),
            ],
            failure: vec![Op::Put(PutRequest { ignore_value: true, ..PutRequest::new("k", "") })],
        }
    }

    #[test]
    fn commands_survive() {
        round_trip(&Command::Txn(every_op()));
        round_trip(&Command::LeaseGrant { id: 5, ttl_s: 60 });
        round_trip(&Command::LeaseRevoke { id: -5 });
        round_trip(&Command::LeaseCheckpoint { remaining: vec![(1, 2), (i64::MAX, 0)] });
        round_trip(&Command::Compact { revision: 1 << 40 });
    }

    #[test]
    fn damaged_commands_are_errors() {
        let mut out = Vec::new();
        Command::Txn(every_op()).encode(&mut out);
        for cut in 0..out.len() {
            let mut reader = Reader::new("command", Bytes::copy_from_slice(&out[..cut]));
            assert!(Command::decode(&mut reader).is_err(), "cut at {cut}");
        }
        // A bomb of nested transactions must not exhaust the stack.
        let bomb: Vec<u8> = std::iter::once(1).chain([0, 1, 3].into_iter().cycle().take(1 << 20)).collect();
        assert!(Command::decode(&mut Reader::new("command", bomb.into())).is_err());
    }
}
