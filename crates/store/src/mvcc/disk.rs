//! The state file: every revision's changes, the newest head of every key, leases, and one
//! record that says up to where all of it goes.
//!
//! It is written only by [`Disk::write`], in commits of a whole memtable each, so what it
//! holds is always the state at some log index. What is read goes through a [`View`], a
//! snapshot that stays as it was while newer commits happen.

use std::{collections::BTreeMap, ops::Bound, path::Path, sync::Arc};

use bytes::Bytes;
use redb::{ReadOnlyTable, ReadTransaction, ReadableTable, Table, TableDefinition, WriteTransaction};

use super::{
    memtable::Memtable,
    record::{Head, Place, Record},
};
use crate::{
    codec::{DecodeError, Reader, put_bytes, put_i64},
    db::Db,
    fault::Fault,
    kv::KeyRange,
    raft::{LogId, StoredMembership, codec as raft_codec},
};

/// Name of the file in the data directory.
pub(crate) const FILE: &str = "state.redb";

/// Revision and position to record.
const REVS: TableDefinition<(u64, u32), &[u8]> = TableDefinition::new("revs");
/// Key to newest head.
const KEYS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("keys");
/// Lease id to its terms.
const LEASES: TableDefinition<i64, &[u8]> = TableDefinition::new("leases");
/// Lease id and key attached to it.
const LEASE_KEYS: TableDefinition<(i64, &[u8]), ()> = TableDefinition::new("lease_keys");
/// Single records by name.
const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
/// Name of the [`Meta`] record.
const META_ROW: &str = "state";

/// Most records that one commit of a compaction looks at.
pub(crate) const COMPACT_RECORDS_MAX: usize = 2_048;

/// Up to where the state goes.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Meta {
    /// Newest revision; a new store is at 1, as etcd's.
    pub(crate) revision: i64,
    /// Oldest revision that can still be read.
    pub(crate) compact_revision: i64,
    /// Changes up to this revision need no more compaction; behind `compact_revision`
    /// while one is under way.
    pub(crate) compacted: i64,
    /// Last applied log entry.
    pub(crate) applied: Option<LogId>,
    /// Last applied membership.
    pub(crate) membership: StoredMembership,
}

const META_FORMAT: u8 = 1;
const LEASE_FORMAT: u8 = 1;

impl Meta {
    fn encode(&self) -> Vec<u8> {
        let mut out = vec![META_FORMAT];
        for n in [self.revision, self.compact_revision, self.compacted] {
            put_i64(&mut out, n);
        }
        put_bytes(&mut out, &raft_codec::encode_log_id(self.applied.as_ref()));
        put_bytes(&mut out, &raft_codec::encode_stored_membership(&self.membership));
        out
    }

    fn decode(row: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new("state record", Bytes::copy_from_slice(row));
        reader.format(META_FORMAT)?;
        let (revision, compact_revision, compacted) = (reader.i64()?, reader.i64()?, reader.i64()?);
        let applied = raft_codec::decode_log_id(&reader.bytes()?)?;
        let membership = raft_codec::decode_stored_membership(&reader.bytes()?)?;
        reader.end()?;
        Ok(Self { revision, compact_revision, compacted, applied, membership })
    }
}

/// A lease's replicated terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Terms {
    /// Granted time to live, in seconds.
    pub(crate) ttl_s: i64,
    /// Seconds that were left at the last checkpoint; 0 when it has the full time.
    pub(crate) remaining_s: i64,
}

impl Terms {
    fn encode(self) -> Vec<u8> {
        let mut out = vec![LEASE_FORMAT];
        put_i64(&mut out, self.ttl_s);
        put_i64(&mut out, self.remaining_s);
        out
    }

    fn decode(row: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new("lease", Bytes::copy_from_slice(row));
        reader.format(LEASE_FORMAT)?;
        Ok(Self { ttl_s: reader.i64()?, remaining_s: reader.i64()? })
    }
}

/// The file.
#[derive(Clone)]
pub(crate) struct Disk {
    db: Db,
}

impl Disk {
    /// Opens the file in `dir`, or one in memory; creates its tables if it is new.
    pub(crate) fn open(dir: Option<&Path>, cache_bytes: usize) -> Result<Self, Fault> {
        let path = dir.map(|dir| dir.join(FILE));
        let disk = Self { db: Db::open(path.as_deref(), cache_bytes, u64::MAX)? };
        let is_new = match disk.db.read()?.open_table(META) {
            Ok(_) => false,
            Err(redb::TableError::TableDoesNotExist(_)) => true,
            Err(e) => return Err(e.into()),
        };
        if is_new {
            let txn = disk.begin()?;
            txn.open_table(REVS)?;
            txn.open_table(KEYS)?;
            txn.open_table(LEASES)?;
            txn.open_table(LEASE_KEYS)?;
            let meta = Meta { revision: 1, ..Meta::default() };
            txn.open_table(META)?.insert(META_ROW, meta.encode().as_slice())?;
            txn.commit()?;
        }
        Ok(disk)
    }

    /// A durable write. Quick repair makes the commit a little dearer and opening after a
    /// crash independent of the file's size.
    fn begin(&self) -> Result<WriteTransaction, Fault> {
        let mut txn = self.db.write()?;
        txn.set_quick_repair(true);
        Ok(txn)
    }

    /// The state as of the last commit.
    pub(crate) fn view(&self) -> Result<Arc<View>, Fault> {
        View::new(self.db.read()?).map(Arc::new)
    }

    pub(crate) fn close(&self) {
        self.db.close();
    }

    /// Writes a memtable, then compacts up to [`COMPACT_RECORDS_MAX`] records; all in one
    /// durable commit. Returns the meta record written.
    pub(crate) fn write(&self, memtable: &Memtable, mut meta: Meta) -> Result<Meta, Fault> {
        let txn = self.begin()?;
        {
            let mut revs = txn.open_table(REVS)?;
            let mut keys = txn.open_table(KEYS)?;
            let mut row = Vec::new();
            for record in memtable.log() {
                row.clear();
                record.encode(&mut row);
                revs.insert(record.head.place.row(), row.as_slice())?;
            }
            for (key, record) in memtable.keys() {
                row.clear();
                record.head.encode(&mut row);
                keys.insert(key.as_ref(), row.as_slice())?;
            }
            if meta.compacted < meta.compact_revision {
                meta.compacted = compact(&mut revs, &mut keys, meta.compacted, meta.compact_revision)?;
            }
            let mut leases = txn.open_table(LEASES)?;
            for (id, terms) in memtable.leases() {
                match terms {
                    Some(terms) => leases.insert(id, terms.encode().as_slice())?,
                    None => leases.remove(id)?,
                };
            }
            let mut lease_keys = txn.open_table(LEASE_KEYS)?;
            for ((id, key), attached) in memtable.lease_keys() {
                match attached {
                    true => lease_keys.insert((*id, key.as_ref()), ())?,
                    false => lease_keys.remove((*id, key.as_ref()))?,
                };
            }
            txn.open_table(META)?.insert(META_ROW, meta.encode().as_slice())?;
        }
        txn.commit()?;
        Ok(meta)
    }

    /// Replaces everything by what `image` holds, in one commit.
    pub(crate) fn replace(&self, image: &View) -> Result<(), Fault> {
        let txn = self.begin()?;
        for table in txn.list_tables()?.collect::<Vec<_>>() {
            txn.delete_table(table)?;
        }
        copy(&image.revs, &mut txn.open_table(REVS)?)?;
        copy(&image.keys, &mut txn.open_table(KEYS)?)?;
        copy(&image.txn.open_table(LEASES)?, &mut txn.open_table(LEASES)?)?;
        copy(&image.txn.open_table(LEASE_KEYS)?, &mut txn.open_table(LEASE_KEYS)?)?;
        copy(&image.txn.open_table(META)?, &mut txn.open_table(META)?)?;
        txn.commit()?;
        Ok(())
    }
}

fn copy<K: redb::Key, V: redb::Value>(
    from: &ReadOnlyTable<K, V>,
    to: &mut Table<'_, K, V>,
) -> Result<(), Fault> {
    for row in from.iter()? {
        let (key, value) = row?;
        to.insert(key.value(), value.value())?;
    }
    Ok(())
}

/// One step of forgetting what revisions up to `target` overwrote: every change in
/// `(done, target]` frees the change of the same key before it, and a deletion frees
/// itself, unless it is of `target` itself, where a watch may still start. So the cost is
/// that of the changes since the last compaction, not of the whole store. Returns up to
/// where it came; it stops only between revisions.
fn compact(
    revs: &mut Table<'_, (u64, u32), &'static [u8]>,
    keys: &mut Table<'_, &'static [u8], &'static [u8]>,
    done: i64,
    target: i64,
) -> Result<i64, Fault> {
    let mut reached = done;
    let mut stale: Vec<Place> = Vec::new();
    let mut gone: Vec<Record> = Vec::new();
    let mut rows = revs.range((done as u64, 0)..=(target as u64, u32::MAX))?.enumerate();
    loop {
        let Some((seen, row)) = rows.next() else {
            reached = target;
            break;
        };
        let (place, value) = row?;
        let revision = place.value().0 as i64;
        // At least one new revision per step, however large, or there would be no progress.
        if seen >= COMPACT_RECORDS_MAX && revision > reached && reached > done {
            break;
        }
        reached = revision;
        let record = Record::decode(value.value())?;
        stale.extend(record.prev);
        if !record.head.is_live() && revision < target {
            gone.push(record);
        }
    }
    drop(rows);
    for place in stale {
        revs.remove(place.row())?;
    }
    for record in gone {
        revs.remove(record.head.place.row())?;
        let newest = keys.get(record.key.as_ref())?.map(|row| Head::decode(row.value())).transpose()?;
        if newest.is_some_and(|head| head.place == record.head.place) {
            keys.remove(record.key.as_ref())?;
        }
    }
    Ok(reached)
}

/// The state file as of one commit.
pub(crate) struct View {
    txn: ReadTransaction,
    revs: ReadOnlyTable<(u64, u32), &'static [u8]>,
    keys: ReadOnlyTable<&'static [u8], &'static [u8]>,
    pub(crate) meta: Meta,
}

/// Rows of the `keys` table in a range.
pub(crate) type Heads = redb::Range<'static, &'static [u8], &'static [u8]>;

impl View {
    fn new(txn: ReadTransaction) -> Result<Self, Fault> {
        let meta = txn.open_table(META)?;
        let row =
            meta.get(META_ROW)?.ok_or_else(|| Fault::corrupted(format!("{FILE} lacks its state record")))?;
        let meta = Meta::decode(row.value())?;
        Ok(Self { revs: txn.open_table(REVS)?, keys: txn.open_table(KEYS)?, meta, txn })
    }

    /// Newest head of a key.
    pub(crate) fn head(&self, key: &[u8]) -> Result<Option<Head>, Fault> {
        Ok(self.keys.get(key)?.map(|row| Head::decode(row.value())).transpose()?)
    }

    /// The change at a place; `None` when it is compacted away.
    pub(crate) fn record(&self, place: Place) -> Result<Option<Record>, Fault> {
        Ok(self.revs.get(place.row())?.map(|row| Record::decode(row.value())).transpose()?)
    }

    /// Keys and heads in a range, in order, deleted keys included.
    pub(crate) fn heads(&self, range: &KeyRange) -> Result<Heads, Fault> {
        let (from, to): (Bound<&[u8]>, Bound<&[u8]>) = match range {
            KeyRange::Key(key) => (Bound::Included(key), Bound::Included(key)),
            KeyRange::Range(from, to) if from >= to => (Bound::Included(b""), Bound::Excluded(b"")),
            KeyRange::Range(from, to) => (Bound::Included(from), Bound::Excluded(to)),
            KeyRange::From(from) => (Bound::Included(from), Bound::Unbounded),
        };
        Ok(self.keys.range::<&[u8]>((from, to))?)
    }

    /// Changes from `from` on, in order.
    pub(crate) fn changes(
        &self,
        from: i64,
    ) -> Result<impl Iterator<Item = Result<Record, Fault>> + use<>, Fault> {
        let rows = self.revs.range((from.max(0) as u64, 0)..)?;
        Ok(rows.map(|row| Ok(Record::decode(row?.1.value())?)))
    }

    /// All leases with the keys attached to them.
    pub(crate) fn leases(&self) -> Result<BTreeMap<i64, (Terms, Vec<Bytes>)>, Fault> {
        let mut leases = BTreeMap::new();
        for row in self.txn.open_table(LEASES)?.iter()? {
            let (id, terms) = row?;
            leases.insert(id.value(), (Terms::decode(terms.value())?, Vec::new()));
        }
        for row in self.txn.open_table(LEASE_KEYS)?.iter()? {
            let row = row?.0;
            let (id, key) = row.value();
            let lease =
                leases.get_mut(&id).ok_or_else(|| Fault::corrupted(format!("{FILE}: a key of no lease")))?;
            lease.1.push(Bytes::copy_from_slice(key));
        }
        Ok(leases)
    }
}
