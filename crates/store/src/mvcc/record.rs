//! One change of one key, in memory and on disk.

use bytes::Bytes;

use crate::{
    codec::{DecodeError, Reader, put_bytes, put_i64, put_varint},
    kv::{Event, EventKind, KeyValue},
};

/// Format byte of records and of heads.
const FORMAT: u8 = 1;

/// Where a change is: its revision, and its position among that revision's changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) revision: i64,
    pub(crate) sub: u32,
}

impl Place {
    /// The key of the `revs` table.
    pub(crate) fn row(self) -> (u64, u32) {
        (self.revision as u64, self.sub)
    }
}

/// What is known of a key after a change, without its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) place: Place,
    pub(crate) create_revision: i64,
    /// Writes since creation; 0 says that the key is deleted.
    pub(crate) version: i64,
    pub(crate) lease: i64,
}

impl Head {
    pub(crate) fn is_live(&self) -> bool {
        self.version > 0
    }

    /// The value of the `keys` table.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.push(FORMAT);
        self.put(out);
    }

    pub(crate) fn decode(row: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new("key row", Bytes::copy_from_slice(row));
        reader.format(FORMAT)?;
        let head = Self::read(&mut reader)?;
        reader.end()?;
        Ok(head)
    }

    fn put(&self, out: &mut Vec<u8>) {
        put_i64(out, self.place.revision);
        put_varint(out, u64::from(self.place.sub));
        put_i64(out, self.create_revision);
        put_i64(out, self.version);
        put_i64(out, self.lease);
    }

    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        let place = Place { revision: reader.i64()?, sub: reader.u32()? };
        Ok(Self { place, create_revision: reader.i64()?, version: reader.i64()?, lease: reader.i64()? })
    }
}

/// A change with everything that a reader or a watcher may ask of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) head: Head,
    pub(crate) key: Bytes,
    /// Empty in a deletion.
    pub(crate) value: Bytes,
    /// The key's change before this one, deletions included; `None` when there was none or
    /// when it is compacted away.
    pub(crate) prev: Option<Place>,
}

impl Record {
    /// About how much memory it holds.
    pub(crate) fn bytes(&self) -> usize {
        std::mem::size_of::<Self>() + self.key.len() + self.value.len()
    }

    pub(crate) fn kv(&self, keys_only: bool) -> KeyValue {
        KeyValue {
            key: self.key.clone(),
            value: if keys_only { Bytes::new() } else { self.value.clone() },
            create_revision: self.head.create_revision,
            mod_revision: self.head.place.revision,
            version: self.head.version,
            lease: self.head.lease,
        }
    }

    pub(crate) fn event(&self, prev: Option<KeyValue>) -> Event {
        let kind = if self.head.is_live() { EventKind::Put } else { EventKind::Delete };
        let mut kv = self.kv(false);
        if kind == EventKind::Delete {
            kv.create_revision = 0;
        }
        Event { kind, kv, prev }
    }

    /// The value of the `revs` table.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.push(FORMAT);
        self.head.put(out);
        let prev = self.prev.unwrap_or(Place { revision: 0, sub: 0 });
        put_i64(out, prev.revision);
        put_varint(out, u64::from(prev.sub));
        put_bytes(out, &self.key);
        out.extend_from_slice(&self.value);
    }

    pub(crate) fn decode(row: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new("record", Bytes::copy_from_slice(row));
        reader.format(FORMAT)?;
        let head = Head::read(&mut reader)?;
        let prev = Place { revision: reader.i64()?, sub: reader.u32()? };
        let key = reader.bytes()?;
        let prev = (prev.revision > 0).then_some(prev);
        Ok(Self { head, key, value: reader.rest(), prev })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_survive() {
        let place = Place { revision: 1 << 40, sub: 3 };
        let head = Head { place, create_revision: 5, version: 9, lease: -1 };
        for prev in [None, Some(Place { revision: 7, sub: 0 })] {
            let record = Record { head, key: "/k".into(), value: "value".into(), prev };
            let mut out = Vec::new();
            record.encode(&mut out);
            assert_eq!(Record::decode(&out).unwrap(), record);
            assert!(Record::decode(&out[..4]).is_err());
        }
        let mut out = Vec::new();
        head.encode(&mut out);
        assert_eq!(Head::decode(&out).unwrap(), head);
        out[0] = 2;
        assert!(Head::decode(&out).is_err(), "a newer format is refused");
    }
}
