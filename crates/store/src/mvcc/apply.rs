//! What a command does to the state. Deterministic: every member that applies the same
//! commands in the same order gets the same state, revisions included.
//!
//! Conditions and refusals are settled before the first change, so a refused transaction
//! changes nothing.

use std::{cmp::Ordering, sync::Arc};

use bytes::Bytes;

use super::{
    disk::Terms,
    record::{Head, Place, Record},
    state::{Granted, State},
};
use crate::{
    command::{Command, Reply},
    fault::Fault,
    kv::{
        Compare, CompareResult, CompareTarget, DeleteRequest, Error, KeyRange, KeyValue, Lease, Op,
        OpResponse, PutRequest, RangeRequest, RangeResponse, TxnRequest, TxnResponse,
    },
};

/// What a command did, for those who are not its caller.
#[derive(Default)]
pub(crate) struct Effects {
    /// Changes of keys, all of one revision.
    pub(crate) changes: Vec<Arc<Record>>,
    /// Leases that began or ended.
    pub(crate) leases: Vec<LeaseEffect>,
}

/// What happened to a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LeaseEffect {
    Granted { id: i64, ttl_s: i64 },
    Ended { id: i64 },
}

/// Applies one command. `index` is its place in the log.
pub(crate) fn apply(state: &mut State, index: u64, command: &Command) -> Result<(Reply, Effects), Fault> {
    let mut effects = Effects::default();
    let reply = match command {
        Command::Txn(txn) => Reply::Txn(apply_txn(state, txn, &mut effects)?),
        Command::LeaseGrant { id, ttl_s } => Reply::Lease(grant(state, index, *id, *ttl_s, &mut effects)),
        Command::LeaseRevoke { id } => Reply::Done(revoke(state, *id, &mut effects)?),
        Command::LeaseCheckpoint { remaining } => {
            for (id, remaining_s) in remaining {
                if let Some(lease) = state.leases.get_mut(id) {
                    lease.terms.remaining_s = *remaining_s;
                    state.active.set_lease(*id, Some(lease.terms));
                }
            }
            Reply::Done(Ok(()))
        }
        Command::Compact { revision } => Reply::Done(compact(state, *revision)),
    };
    Ok((reply, effects))
}

fn compact(state: &mut State, revision: i64) -> Result<(), Error> {
    let compact_revision = state.meta.compact_revision;
    if revision <= compact_revision {
        return Err(Error::Compacted { compact_revision });
    }
    if revision > state.meta.revision {
        return Err(Error::FutureRevision);
    }
    state.meta.compact_revision = revision;
    Ok(())
}

fn grant(state: &mut State, index: u64, id: i64, ttl_s: i64, effects: &mut Effects) -> Result<Lease, Error> {
    if id != 0 && state.leases.contains_key(&id) {
        return Err(Error::LeaseExists);
    }
    let id = if id == 0 { choose_lease_id(state, index) } else { id };
    let terms = Terms { ttl_s, remaining_s: 0 };
    state.leases.insert(id, Granted { terms, keys: Default::default() });
    state.active.set_lease(id, Some(terms));
    effects.leases.push(LeaseEffect::Granted { id, ttl_s });
    Ok(Lease { id, ttl_s })
}

/// An id that no lease has, from the log index: the same on every member, never the same
/// twice, and spread out so that it does not meet those that people choose.
fn choose_lease_id(state: &State, index: u64) -> i64 {
    let mut n = index;
    loop {
        // The finalizer of splitmix64.
        n = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut id = n;
        id = (id ^ (id >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        id = (id ^ (id >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let id = ((id ^ (id >> 31)) >> 1) as i64;
        if id != 0 && !state.leases.contains_key(&id) {
            return id;
        }
    }
}

fn revoke(state: &mut State, id: i64, effects: &mut Effects) -> Result<Result<(), Error>, Fault> {
    let Some(lease) = state.leases.remove(&id) else { return Ok(Err(Error::LeaseNotFound)) };
    state.active.set_lease(id, None);
    effects.leases.push(LeaseEffect::Ended { id });
    let mut writer = Writer::new(state);
    for key in lease.keys {
        writer.state.active.set_lease_key(id, key.clone(), false);
        if let Some(head) = writer.state.head(&key)?.filter(Head::is_live) {
            writer.delete_key(key, head);
        }
    }
    effects.changes = writer.finish();
    Ok(Ok(()))
}

fn apply_txn(
    state: &mut State,
    txn: &TxnRequest,
    effects: &mut Effects,
) -> Result<Result<TxnResponse, Error>, Fault> {
    let mut branches = Vec::new();
    choose(state, txn, &mut branches)?;
    if let Err(refused) = check(state, txn, &mut branches.iter())? {
        return Ok(Err(refused));
    }
    let mut writer = Writer::new(state);
    let mut response = writer.txn(txn, &mut branches.iter())?;
    effects.changes = writer.finish();
    response.revision = state.meta.revision;
    Ok(Ok(response))
}

/// Runs a transaction that changes nothing.
pub(crate) fn read_txn(state: &State, txn: &TxnRequest) -> Result<Result<TxnResponse, Error>, Fault> {
    let mut branches = Vec::new();
    choose(state, txn, &mut branches)?;
    read_branch(state, txn, &mut branches.iter())
}

fn read_branch<'a>(
    state: &State,
    txn: &TxnRequest,
    branches: &mut impl Iterator<Item = &'a bool>,
) -> Result<Result<TxnResponse, Error>, Fault> {
    let (succeeded, ops) = branch(txn, branches);
    let mut responses = Vec::with_capacity(ops.len());
    for op in ops {
        let response = match op {
            Op::Range(request) => match state.read_at(request.revision) {
                Ok(at) => {
                    OpResponse::Range(state.scan(&request.range, at).answer(request, state.meta.revision)?)
                }
                Err(refused) => return Ok(Err(refused)),
            },
            Op::Txn(nested) => match read_branch(state, nested, branches)? {
                Ok(response) => OpResponse::Txn(response),
                Err(refused) => return Ok(Err(refused)),
            },
            Op::Put(_) | Op::Delete(_) => return Err(Fault::corrupted("a write in a read-only transaction")),
        };
        responses.push(response);
    }
    Ok(Ok(TxnResponse { revision: state.meta.revision, succeeded, responses }))
}

/// Settles which branch of each transaction runs, outermost first, in the order in which
/// they will be run. All comparisons see the state before the transaction, as etcd's do.
fn choose(state: &State, txn: &TxnRequest, branches: &mut Vec<bool>) -> Result<(), Fault> {
    let mut holds = true;
    for compare in &txn.compare {
        if !compare_holds(state, compare)? {
            holds = false;
            break;
        }
    }
    branches.push(holds);
    for op in if holds { &txn.success } else { &txn.failure } {
        if let Op::Txn(nested) = op {
            choose(state, nested, branches)?;
        }
    }
    Ok(())
}

/// The operations that run, by what [`choose`] settled.
fn branch<'t, 'a>(txn: &'t TxnRequest, branches: &mut impl Iterator<Item = &'a bool>) -> (bool, &'t [Op]) {
    let holds = branches.next().copied().unwrap_or_default();
    (holds, if holds { &txn.success } else { &txn.failure })
}

fn compare_holds(state: &State, compare: &Compare) -> Result<bool, Fault> {
    // Values are read only where they are compared.
    let with_value = matches!(compare.target, CompareTarget::Value(_));
    if let (KeyRange::Key(key), false) = (&compare.range, with_value) {
        let head = state.head(key)?.filter(Head::is_live);
        return Ok(head_holds(compare, head.as_ref()));
    }
    let (mut any, mut all) = (false, true);
    let view = state.view.clone();
    state.scan(&compare.range, state.meta.revision).run(|found| {
        any = true;
        all &= match &compare.target {
            CompareTarget::Value(operand) => {
                holds(compare.result, found.kv(&view, false)?.value.cmp(operand))
            }
            _ => head_holds(compare, Some(&found.head)),
        };
        Ok(())
    })?;
    Ok(if any { all } else { !with_value && head_holds(compare, None) })
}

fn head_holds(compare: &Compare, head: Option<&Head>) -> bool {
    let of = |field: fn(&Head) -> i64| head.map_or(0, field);
    let (stored, operand) = match &compare.target {
        CompareTarget::Version(n) => (of(|head| head.version), n),
        CompareTarget::CreateRevision(n) => (of(|head| head.create_revision), n),
        CompareTarget::ModRevision(n) => (of(|head| head.place.revision), n),
        CompareTarget::Lease(n) => (of(|head| head.lease), n),
        CompareTarget::Value(_) => return false,
    };
    holds(compare.result, stored.cmp(operand))
}

fn holds(result: CompareResult, ordering: Ordering) -> bool {
    match result {
        CompareResult::Equal => ordering.is_eq(),
        CompareResult::Greater => ordering.is_gt(),
        CompareResult::Less => ordering.is_lt(),
        CompareResult::NotEqual => ordering.is_ne(),
    }
}

/// What only the state can refuse.
fn check<'a>(
    state: &State,
    txn: &TxnRequest,
    branches: &mut impl Iterator<Item = &'a bool>,
) -> Result<Result<(), Error>, Fault> {
    for op in branch(txn, branches).1 {
        let refused = match op {
            Op::Put(put) => check_put(state, put)?,
            Op::Range(read) => state.read_at(read.revision).err(),
            Op::Txn(nested) => check(state, nested, branches)?.err(),
            Op::Delete(_) => None,
        };
        if let Some(refused) = refused {
            return Ok(Err(refused));
        }
    }
    Ok(Ok(()))
}

fn check_put(state: &State, put: &PutRequest) -> Result<Option<Error>, Fault> {
    if put.lease != 0 && !state.leases.contains_key(&put.lease) {
        return Ok(Some(Error::LeaseNotFound));
    }
    if (put.ignore_value || put.ignore_lease) && state.head(&put.key)?.filter(Head::is_live).is_none() {
        return Ok(Some(Error::KeyNotFound));
    }
    Ok(None)
}

/// Makes changes, all of one revision, which is taken only if there are any.
struct Writer<'s> {
    state: &'s mut State,
    revision: i64,
    changes: Vec<Arc<Record>>,
}

impl<'s> Writer<'s> {
    fn new(state: &'s mut State) -> Self {
        let revision = state.meta.revision + 1;
        Self { state, revision, changes: Vec::new() }
    }

    fn finish(self) -> Vec<Arc<Record>> {
        if !self.changes.is_empty() {
            self.state.meta.revision = self.revision;
        }
        self.changes
    }

    /// The newest revision as the transaction itself sees it.
    fn now(&self) -> i64 {
        if self.changes.is_empty() { self.state.meta.revision } else { self.revision }
    }

    fn txn<'a>(
        &mut self,
        txn: &TxnRequest,
        branches: &mut impl Iterator<Item = &'a bool>,
    ) -> Result<TxnResponse, Fault> {
        let (succeeded, ops) = branch(txn, branches);
        let mut responses = Vec::with_capacity(ops.len());
        for op in ops {
            responses.push(match op {
                Op::Range(read) => OpResponse::Range(self.range(read)?),
                Op::Put(put) => OpResponse::Put(self.put(put)?),
                Op::Delete(delete) => {
                    let (deleted, prev) = self.delete(delete)?;
                    OpResponse::Delete(deleted, prev)
                }
                Op::Txn(nested) => OpResponse::Txn(self.txn(nested, branches)?),
            });
        }
        Ok(TxnResponse { revision: self.now(), succeeded, responses })
    }

    fn range(&self, request: &RangeRequest) -> Result<RangeResponse, Fault> {
        let at = if request.revision > 0 { request.revision } else { self.now() };
        self.state.scan(&request.range, at).answer(request, self.now())
    }

    fn place(&self) -> Place {
        Place { revision: self.revision, sub: self.changes.len() as u32 }
    }

    fn push(&mut self, record: Record) {
        let record = Arc::new(record);
        self.state.active.push(record.clone());
        self.changes.push(record);
    }

    fn put(&mut self, put: &PutRequest) -> Result<Option<KeyValue>, Fault> {
        let before = self.state.head(&put.key)?;
        let live = before.filter(Head::is_live);
        let old = match live {
            Some(head) if put.prev_kv || put.ignore_value => self.state.record(head.place)?,
            _ => None,
        };
        let value = match &old {
            Some(old) if put.ignore_value => old.value.clone(),
            _ => put.value.clone(),
        };
        let old_lease = live.map_or(0, |head| head.lease);
        let lease = if put.ignore_lease { old_lease } else { put.lease };
        self.attach(&put.key, old_lease, lease);
        let place = self.place();
        let head = Head {
            place,
            create_revision: live.map_or(place.revision, |head| head.create_revision),
            version: live.map_or(0, |head| head.version) + 1,
            lease,
        };
        self.push(Record { head, key: put.key.clone(), value, prev: before.map(|head| head.place) });
        Ok(old.filter(|_| put.prev_kv).map(|old| old.kv(false)))
    }

    fn delete(&mut self, delete: &DeleteRequest) -> Result<(i64, Vec<KeyValue>), Fault> {
        let mut found = Vec::new();
        match &delete.range {
            KeyRange::Key(key) => {
                found.extend(self.state.head(key)?.filter(Head::is_live).map(|head| (key.clone(), head)));
            }
            range => self.state.scan(range, self.now()).run(|key| {
                found.push((key.key, key.head));
                Ok(())
            })?,
        }
        let deleted = found.len() as i64;
        let mut prev = Vec::new();
        for (key, head) in found {
            if delete.prev_kv
                && let Some(old) = self.state.record(head.place)?
            {
                prev.push(old.kv(false));
            }
            self.attach(&key, head.lease, 0);
            self.delete_key(key, head);
        }
        Ok((deleted, prev))
    }

    fn delete_key(&mut self, key: Bytes, before: Head) {
        let head = Head { place: self.place(), create_revision: 0, version: 0, lease: 0 };
        self.push(Record { head, key, value: Bytes::new(), prev: Some(before.place) });
    }

    /// Moves a key from one lease to another; 0 is none.
    fn attach(&mut self, key: &Bytes, from: i64, to: i64) {
        if from == to {
            return;
        }
        if let Some(lease) = self.state.leases.get_mut(&from) {
            lease.keys.remove(key);
            self.state.active.set_lease_key(from, key.clone(), false);
        }
        if let Some(lease) = self.state.leases.get_mut(&to) {
            lease.keys.insert(key.clone());
            self.state.active.set_lease_key(to, key.clone(), true);
        }
    }
}
