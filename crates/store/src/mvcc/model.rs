//! The keyspace against a model that keeps every revision whole, under random commands,
//! flushes, compactions and restarts.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use bytes::Bytes;

use super::{disk::Disk, store::Store};
use crate::{
    clock::ManualClock,
    command::{Command, Proposal},
    kv::{
        DeleteRequest, Error, EventKind, KeyRange, KeyValue, Op, PutRequest, RangeRequest, TxnRequest,
        WatchMessage,
    },
    lessor::Lessor,
    raft::{Entry, LogId, Payload},
};

/// splitmix64: the same numbers for the same seed.
struct Random(u64);

impl Random {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut n = self.0;
        n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (n ^ (n >> 31)) % below
    }

    fn key(&mut self) -> Bytes {
        format!("/{}/{}", self.next(3), self.next(6)).into()
    }

    fn range(&mut self) -> KeyRange {
        match self.next(4) {
            0 => KeyRange::Key(self.key()),
            1 => KeyRange::prefix(format!("/{}/", self.next(3))),
            2 => KeyRange::Range(self.key(), self.key()),
            _ => KeyRange::From(self.key()),
        }
    }
}

type Keys = BTreeMap<Bytes, KeyValue>;
/// What happened to a key, and what it was before.
type Change = (EventKind, Bytes, Option<KeyValue>);

/// Every revision's state and changes.
struct Model {
    revisions: BTreeMap<i64, (Keys, Vec<Change>)>,
    compacted: i64,
    leases: Vec<i64>,
}

impl Model {
    fn newest(&self) -> (i64, &Keys) {
        let (revision, (keys, _)) = self.revisions.last_key_value().unwrap();
        (*revision, keys)
    }

    fn apply(&mut self, txn: &TxnRequest) {
        let (revision, keys) = self.newest();
        let (mut keys, revision) = (keys.clone(), revision + 1);
        let mut events = Vec::new();
        for op in &txn.success {
            match op {
                Op::Put(put) => {
                    let prev = keys.get(&put.key).cloned();
                    let kv = KeyValue {
                        key: put.key.clone(),
                        value: put.value.clone(),
                        create_revision: prev.as_ref().map_or(revision, |kv| kv.create_revision),
                        mod_revision: revision,
                        version: prev.as_ref().map_or(0, |kv| kv.version) + 1,
                        lease: put.lease,
                    };
                    keys.insert(put.key.clone(), kv);
                    events.push((EventKind::Put, put.key.clone(), prev));
                }
                Op::Delete(delete) => {
                    Self::delete(&mut keys, &mut events, |kv| delete.range.contains(&kv.key))
                }
                Op::Range(_) | Op::Txn(_) => {}
            }
        }
        self.push(revision, keys, events);
    }

    fn delete(keys: &mut Keys, events: &mut Vec<Change>, which: impl Fn(&KeyValue) -> bool) {
        let gone: Vec<Bytes> = keys.values().filter(|kv| which(kv)).map(|kv| kv.key.clone()).collect();
        for key in gone {
            let prev = keys.remove(&key);
            events.push((EventKind::Delete, key, prev));
        }
    }

    fn push(&mut self, revision: i64, keys: Keys, events: Vec<Change>) {
        if !events.is_empty() {
            self.revisions.insert(revision, (keys, events));
        }
    }
}

struct Bench<'a> {
    dir: &'a Path,
    store: Arc<Store>,
    model: Model,
    /// Everything after the last flush, as the raft log would have it.
    log: Vec<Entry>,
    index: u64,
}

fn open(dir: &Path) -> Arc<Store> {
    let lessor = Arc::new(Lessor::new(Arc::new(ManualClock::default())));
    Store::new(Disk::open(Some(dir), 1 << 20).unwrap(), lessor, true).unwrap()
}

impl Bench<'_> {
    fn apply(&mut self, command: Command) {
        self.index += 1;
        let log_id = LogId::new_term_index(1, self.index);
        let entry = Entry { log_id, payload: Payload::Normal(Proposal::new(command)) };
        self.log.push(entry.clone());
        self.store.apply(vec![(entry, None)]).unwrap();
    }

    fn flush(&mut self) {
        self.store.flush_all().unwrap();
        self.log.clear();
    }

    /// As after a crash: the file is as of the last flush, the log has the rest.
    fn restart(&mut self) {
        self.store.disk_for_test().close();
        let _ = self.store.close();
        self.store = open(self.dir);
        let applied = self.store.meta().applied.map_or(0, |id| id.index);
        let replay: Vec<_> =
            self.log.iter().filter(|e| e.log_id.index > applied).map(|e| (e.clone(), None)).collect();
        self.store.apply(replay).unwrap();
    }

    fn step(&mut self, random: &mut Random) {
        match random.next(100) {
            0..=54 => {
                let lease =
                    if random.next(4) == 0 { self.model.leases.last().copied().unwrap_or(0) } else { 0 };
                let put = PutRequest { lease, ..PutRequest::new(random.key(), self.index.to_string()) };
                let mut success = vec![Op::Put(put)];
                if random.next(5) == 0 {
                    success.push(Op::Put(PutRequest::new(format!("/9/{}", random.next(5)), "more")));
                }
                self.txn(TxnRequest { success, ..TxnRequest::default() });
            }
            55..=74 => {
                let delete = DeleteRequest { range: random.range(), prev_kv: false };
                self.txn(TxnRequest { success: vec![Op::Delete(delete)], ..TxnRequest::default() });
            }
            75..=78 => {
                let id = self.index as i64 + 1_000;
                self.apply(Command::LeaseGrant { id, ttl_s: 60 });
                self.model.leases.push(id);
            }
            79..=81 => {
                if let Some(id) = self.model.leases.pop() {
                    self.apply(Command::LeaseRevoke { id });
                    let (revision, keys) = self.model.newest();
                    let (mut keys, mut events) = (keys.clone(), Vec::new());
                    Model::delete(&mut keys, &mut events, |kv| kv.lease == id);
                    self.model.push(revision + 1, keys, events);
                }
            }
            82..=86 => {
                let newest = self.model.newest().0;
                if newest > self.model.compacted {
                    let revision = newest - random.next((newest - self.model.compacted) as u64) as i64;
                    self.apply(Command::Compact { revision });
                    self.model.compacted = revision;
                }
            }
            87..=94 => self.flush(),
            _ => self.restart(),
        }
    }

    fn txn(&mut self, txn: TxnRequest) {
        self.model.apply(&txn);
        self.apply(Command::Txn(txn));
    }

    fn check_reads(&self, random: &mut Random) {
        let newest = self.model.newest().0;
        assert_eq!(self.store.meta().revision, newest);
        for _ in 0..4 {
            let revision = random.next(newest as u64 + 2) as i64;
            let limit = random.next(4) as usize;
            let range = random.range();
            let request = RangeRequest { revision, limit, ..RangeRequest::new(range.clone()) };
            let answer = self.store.range(&request);
            if revision > newest {
                assert_eq!(answer, Err(Error::FutureRevision));
            } else if revision > 0 && revision < self.model.compacted {
                assert_eq!(answer, Err(Error::Compacted { compact_revision: self.model.compacted }));
            } else {
                let at = if revision == 0 { newest } else { revision };
                let keys = self.model.revisions.range(..=at).next_back().map(|(_, (keys, _))| keys).unwrap();
                let expected: Vec<_> = keys.values().filter(|kv| range.contains(&kv.key)).cloned().collect();
                let answer = answer.unwrap();
                assert_eq!(answer.count as usize, expected.len(), "{range:?} at {at} of {newest}");
                let shown = if limit == 0 { expected.len() } else { limit.min(expected.len()) };
                assert_eq!(answer.kvs, expected[..shown], "{range:?} at {at} of {newest}");
                assert_eq!(answer.more, shown < expected.len());
            }
        }
    }

    fn check_history(&self, random: &mut Random) {
        let newest = self.model.newest().0;
        let begin = self.model.compacted.max(2);
        let mut from = begin + random.next((newest - begin + 1).max(1) as u64) as i64;
        let range = random.range();
        let (mut seen, start) = (Vec::new(), from);
        while from <= newest {
            let history = self.store.history(&range, from, true).unwrap();
            for message in history.messages {
                let WatchMessage::Events { revision, events } = message else { panic!("progress") };
                seen.extend(events.into_iter().map(|event| (revision, event.kind, event.kv.key, event.prev)));
            }
            from = history.next;
        }
        let mut expected = Vec::new();
        for (revision, (_, events)) in self.model.revisions.range(start..) {
            let matching = events.iter().filter(|(_, key, _)| range.contains(key));
            expected.extend(matching.map(|(kind, key, prev)| (*revision, *kind, key.clone(), prev.clone())));
        }
        for (seen, expected) in seen.iter().zip(&expected) {
            assert_eq!((seen.0, seen.1, &seen.2), (expected.0, expected.1, &expected.2));
            // What a change replaced may be compacted away, else it must be right.
            if seen.3.is_some() || expected.3.as_ref().is_none_or(|kv| kv.mod_revision > self.model.compacted)
            {
                assert_eq!(seen.3, expected.3);
            }
        }
        assert_eq!(seen.len(), expected.len(), "from {start} to {newest}");
    }
}

#[test]
fn agrees_with_the_model() {
    for seed in 0..8 {
        let dir = tempfile::tempdir().unwrap();
        let mut random = Random(seed);
        let revisions = BTreeMap::from([(1, (Keys::new(), Vec::new()))]);
        let model = Model { revisions, compacted: 0, leases: Vec::new() };
        let mut bench = Bench { dir: dir.path(), store: open(dir.path()), model, log: Vec::new(), index: 0 };
        for _ in 0..150 {
            bench.step(&mut random);
            bench.check_reads(&mut random);
            bench.check_history(&mut random);
        }
        bench.flush();
        assert_eq!(bench.store.view().meta.compacted, bench.model.compacted, "compaction is carried out");
    }
}

#[test]
fn compaction_leaves_only_what_can_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let revisions = BTreeMap::from([(1, (Keys::new(), Vec::new()))]);
    let model = Model { revisions, compacted: 0, leases: Vec::new() };
    let mut bench = Bench { dir: dir.path(), store: open(dir.path()), model, log: Vec::new(), index: 0 };
    // More changes than one step of a compaction takes.
    let changes = super::disk::COMPACT_RECORDS_MAX as i64 * 2 + 10;
    for i in 0..changes {
        let put = PutRequest::new(format!("/{}", i % 5), i.to_string());
        bench.txn(TxnRequest { success: vec![Op::Put(put)], ..TxnRequest::default() });
    }
    let delete = DeleteRequest { range: KeyRange::Key("/0".into()), prev_kv: false };
    bench.txn(TxnRequest { success: vec![Op::Delete(delete)], ..TxnRequest::default() });
    let newest = bench.model.newest().0;
    bench.apply(Command::Compact { revision: newest - 1 });
    bench.flush();
    let rows = |bench: &Bench| bench.store.view().changes(0).unwrap().count();
    assert_eq!(rows(&bench), 5 + 1, "five keys as of then, and the deletion after it");
    let put = PutRequest::new("/1", "last");
    bench.txn(TxnRequest { success: vec![Op::Put(put)], ..TxnRequest::default() });
    bench.apply(Command::Compact { revision: newest + 1 });
    bench.flush();
    assert_eq!(rows(&bench), 4);
    assert_eq!(
        bench.store.view().heads(&KeyRange::prefix("")).unwrap().count(),
        4,
        "the deleted key is gone for good"
    );
}
