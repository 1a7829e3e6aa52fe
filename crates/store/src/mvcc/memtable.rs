//! Changes that are applied but not yet in the state file. They are in the raft log, so
//! losing them costs only the time to apply them again.

use std::{
    collections::{BTreeMap, btree_map},
    ops::Bound,
    sync::Arc,
};

use bytes::Bytes;

use super::{
    disk::Terms,
    record::{Place, Record},
};
use crate::kv::KeyRange;

/// A run of changes with what they leave behind.
#[derive(Default)]
pub(crate) struct Memtable {
    /// Every change, in order.
    log: Vec<Arc<Record>>,
    /// The newest change of each key.
    keys: BTreeMap<Bytes, Arc<Record>>,
    /// Leases that changed; `None` for those that ended.
    leases: BTreeMap<i64, Option<Terms>>,
    /// Attachments that changed; `false` for those that ended.
    lease_keys: BTreeMap<(i64, Bytes), bool>,
    bytes: usize,
}

impl Memtable {
    /// About how much memory it holds.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.log.is_empty() && self.leases.is_empty() && self.lease_keys.is_empty()
    }

    /// Adds a change; it must come after all others.
    pub(crate) fn push(&mut self, record: Arc<Record>) {
        debug_assert!(self.log.last().is_none_or(|last| last.head.place < record.head.place));
        self.bytes += record.bytes();
        self.keys.insert(record.key.clone(), record.clone());
        self.log.push(record);
    }

    pub(crate) fn set_lease(&mut self, id: i64, terms: Option<Terms>) {
        self.leases.insert(id, terms);
    }

    pub(crate) fn set_lease_key(&mut self, id: i64, key: Bytes, attached: bool) {
        self.bytes += key.len();
        self.lease_keys.insert((id, key), attached);
    }

    pub(crate) fn log(&self) -> &[Arc<Record>] {
        &self.log
    }

    /// Changes from a revision on.
    pub(crate) fn log_from(&self, revision: i64) -> &[Arc<Record>] {
        let at = self.log.partition_point(|record| record.head.place.revision < revision);
        &self.log[at..]
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = (&Bytes, &Arc<Record>)> {
        self.keys.iter()
    }

    pub(crate) fn leases(&self) -> impl Iterator<Item = (i64, Option<Terms>)> {
        self.leases.iter().map(|(id, terms)| (*id, *terms))
    }

    pub(crate) fn lease_keys(&self) -> impl Iterator<Item = (&(i64, Bytes), bool)> {
        self.lease_keys.iter().map(|(key, attached)| (key, *attached))
    }

    /// Newest change of a key.
    pub(crate) fn newest(&self, key: &[u8]) -> Option<&Arc<Record>> {
        self.keys.get(key)
    }

    /// The change at a place.
    pub(crate) fn at(&self, place: Place) -> Option<&Arc<Record>> {
        let at = self.log.binary_search_by_key(&place, |record| record.head.place).ok()?;
        self.log.get(at)
    }

    /// Newest changes of the keys in a range, in order of key.
    pub(crate) fn range<'a>(&'a self, range: &'a KeyRange) -> btree_map::Range<'a, Bytes, Arc<Record>> {
        let (from, to): (Bound<&[u8]>, Bound<&[u8]>) = match range {
            KeyRange::Key(key) => (Bound::Included(key), Bound::Included(key)),
            KeyRange::Range(from, to) if from >= to => (Bound::Included(b""), Bound::Excluded(b"")),
            KeyRange::Range(from, to) => (Bound::Included(from), Bound::Excluded(to)),
            KeyRange::From(from) => (Bound::Included(from), Bound::Unbounded),
        };
        self.keys.range::<[u8], _>((from, to))
    }
}
