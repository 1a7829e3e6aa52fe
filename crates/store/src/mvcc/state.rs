//! The replicated state as readers see it: the memtable being filled, the one being
//! written, and the view of the file below them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;

use super::{
    disk::{Heads, Meta, Terms, View},
    memtable::Memtable,
    record::{Head, Place, Record},
};
use crate::{
    fault::Fault,
    kv::{Error, KeyRange, KeyValue, RangeRequest, RangeResponse},
};

/// A lease with the keys attached to it.
#[derive(Debug)]
pub(crate) struct Granted {
    pub(crate) terms: Terms,
    pub(crate) keys: BTreeSet<Bytes>,
}

/// Everything that commands change. It is behind one lock: applying takes it to write,
/// readers take it to read, and leave it before they go to the file.
pub(crate) struct State {
    pub(crate) meta: Meta,
    pub(crate) active: Memtable,
    /// The memtable that is on its way to the file.
    pub(crate) frozen: Option<Arc<Memtable>>,
    pub(crate) view: Arc<View>,
    pub(crate) leases: BTreeMap<i64, Granted>,
}

/// A key that a scan found.
pub(crate) struct Found {
    pub(crate) key: Bytes,
    pub(crate) head: Head,
    /// The change, when it was at hand.
    pub(crate) record: Option<Arc<Record>>,
}

/// What memory knows of a key as of a revision.
enum Seen {
    /// This is its newest change by then.
    Record(Arc<Record>),
    /// Its newest change by then is in the file, here or before.
    Before(Place),
    /// It did not exist.
    Absent,
}

/// What a scan needs once the lock is released.
pub(crate) struct Scan {
    overlay: Vec<(Bytes, Seen)>,
    view: Arc<View>,
    range: KeyRange,
    /// Revision to see.
    at: i64,
}

impl State {
    /// The state of the file.
    pub(crate) fn new(view: Arc<View>) -> Result<Self, Fault> {
        let leases = view.leases()?;
        let leases = leases.into_iter().map(|(id, (terms, keys))| {
            let keys = keys.into_iter().collect();
            (id, Granted { terms, keys })
        });
        let leases = leases.collect();
        Ok(Self { meta: view.meta.clone(), active: Memtable::default(), frozen: None, view, leases })
    }

    /// The revision that a read shall see: `revision`, or the newest if it is 0.
    pub(crate) fn read_at(&self, revision: i64) -> Result<i64, Error> {
        match revision {
            ..=0 => Ok(self.meta.revision),
            r if r > self.meta.revision => Err(Error::FutureRevision),
            r if r < self.meta.compact_revision => {
                Err(Error::Compacted { compact_revision: self.meta.compact_revision })
            }
            r => Ok(r),
        }
    }

    /// Newest head of a key, deleted or not.
    pub(crate) fn head(&self, key: &[u8]) -> Result<Option<Head>, Fault> {
        let in_memory = self.active.newest(key).or_else(|| self.frozen.as_ref()?.newest(key));
        match in_memory {
            Some(record) => Ok(Some(record.head)),
            None => self.view.head(key),
        }
    }

    fn in_memory(&self, place: Place) -> Option<&Arc<Record>> {
        self.active.at(place).or_else(|| self.frozen.as_ref()?.at(place))
    }

    /// The change at a place; `None` when it is compacted away.
    pub(crate) fn record(&self, place: Place) -> Result<Option<Arc<Record>>, Fault> {
        match self.in_memory(place) {
            Some(record) => Ok(Some(record.clone())),
            None => Ok(self.view.record(place)?.map(Arc::new)),
        }
    }

    /// Begins a scan: takes from memory what concerns `range`, which is bounded by the
    /// memtables' size.
    pub(crate) fn scan(&self, range: &KeyRange, at: i64) -> Scan {
        let mut overlay = Vec::new();
        let mut active = self.active.range(range).peekable();
        let mut frozen = self.frozen.iter().flat_map(|frozen| frozen.range(range)).peekable();
        loop {
            let record = match (active.peek(), frozen.peek()) {
                (None, None) => break,
                (Some(_), None) => active.next(),
                (None, Some(_)) => frozen.next(),
                (Some((a, _)), Some((f, _))) if a < f => active.next(),
                (Some((a, _)), Some((f, _))) if a > f => frozen.next(),
                (Some(_), Some(_)) => {
                    frozen.next();
                    active.next()
                }
            };
            if let Some((key, record)) = record {
                overlay.push((key.clone(), self.seen(record, at)));
            }
        }
        Scan { overlay, view: self.view.clone(), range: range.clone(), at }
    }

    /// The change of a key that a read at `at` sees, from its newest change in memory.
    fn seen(&self, newest: &Arc<Record>, at: i64) -> Seen {
        let mut record = newest;
        while record.head.place.revision > at {
            record = match record.prev {
                None => return Seen::Absent,
                Some(place) => match self.in_memory(place) {
                    Some(record) => record,
                    None => return Seen::Before(place),
                },
            };
        }
        Seen::Record(record.clone())
    }
}

impl Scan {
    /// Calls `each` for every key that is there, in order.
    pub(crate) fn run(self, mut each: impl FnMut(Found) -> Result<(), Fault>) -> Result<(), Fault> {
        let mut disk = self.view.heads(&self.range)?;
        let mut row = next(&mut disk)?;
        for (key, seen) in self.overlay {
            while let Some((on_disk, head)) = row.take_if(|(on_disk, _)| *on_disk < key) {
                if let Some(found) = on_file(&self.view, on_disk, head, self.at)? {
                    each(found)?;
                }
                row = next(&mut disk)?;
            }
            if row.take_if(|(on_disk, _)| *on_disk == key).is_some() {
                row = next(&mut disk)?;
            }
            let record = match seen {
                Seen::Record(record) => Some(record),
                Seen::Before(place) => walk(&self.view, place, self.at)?,
                Seen::Absent => None,
            };
            if let Some(record) = record.filter(|record| record.head.is_live()) {
                each(Found { key, head: record.head, record: Some(record) })?;
            }
        }
        while let Some((on_disk, head)) = row {
            if let Some(found) = on_file(&self.view, on_disk, head, self.at)? {
                each(found)?;
            }
            row = next(&mut disk)?;
        }
        Ok(())
    }

    /// Answers a range request; `revision` is the store's, for the answer's header.
    pub(crate) fn answer(self, request: &RangeRequest, revision: i64) -> Result<RangeResponse, Fault> {
        let view = self.view.clone();
        let mut response = RangeResponse { revision, ..RangeResponse::default() };
        let limit = if request.limit == 0 { usize::MAX } else { request.limit };
        self.run(|found| {
            response.count += 1;
            if !request.count_only && response.kvs.len() < limit {
                response.kvs.push(found.kv(&view, request.keys_only)?);
            }
            Ok(())
        })?;
        response.more = !request.count_only && response.count > response.kvs.len() as i64;
        Ok(response)
    }
}

impl Found {
    /// The key with its value, unless only the key is asked for.
    pub(crate) fn kv(&self, view: &View, keys_only: bool) -> Result<KeyValue, Fault> {
        if let Some(record) = &self.record {
            return Ok(record.kv(keys_only));
        }
        let Head { place, create_revision, version, lease } = self.head;
        if keys_only {
            let (key, value) = (self.key.clone(), Bytes::new());
            return Ok(KeyValue {
                key,
                value,
                create_revision,
                mod_revision: place.revision,
                version,
                lease,
            });
        }
        match view.record(place)? {
            Some(record) => Ok(record.kv(false)),
            None => Err(Fault::corrupted(format!("no record of revision {}.{}", place.revision, place.sub))),
        }
    }
}

fn next(disk: &mut Heads) -> Result<Option<(Bytes, Head)>, Fault> {
    let Some(row) = disk.next() else { return Ok(None) };
    let (key, head) = row?;
    Ok(Some((Bytes::copy_from_slice(key.value()), Head::decode(head.value())?)))
}

/// A key of the file as of a revision, if it was there.
fn on_file(view: &View, key: Bytes, head: Head, at: i64) -> Result<Option<Found>, Fault> {
    if head.place.revision <= at {
        return Ok(head.is_live().then_some(Found { key, head, record: None }));
    }
    let record = walk(view, head.place, at)?.filter(|record| record.head.is_live());
    Ok(record.map(|record| Found { key, head: record.head, record: Some(record) }))
}

/// Follows a key's changes back, from a place in the file to what a read at `at` sees.
fn walk(view: &View, from: Place, at: i64) -> Result<Option<Arc<Record>>, Fault> {
    let mut place = from;
    loop {
        let Some(record) = view.record(place)? else { return Ok(None) };
        if record.head.place.revision <= at {
            return Ok(Some(Arc::new(record)));
        }
        match record.prev {
            Some(prev) => place = prev,
            None => return Ok(None),
        }
    }
}
