//! The keyspace: what the raft log's commands make of it, in memory and on disk.
//!
//! Commands are applied to a memtable ([`apply`], [`memtable`]); when it is large or old
//! enough it is frozen and written to the state file in one durable commit ([`disk`],
//! [`store`]), outside the path of writes. A read sees the memtables over the file
//! ([`state`]). Old revisions are reached by following a key's changes back
//! ([`record::Record::prev`]); the changes of a revision are found by number. So a put
//! inserts in one place of the file in order, and overwrites one small row.

pub(crate) mod apply;
pub(crate) mod disk;
pub(crate) mod memtable;
#[cfg(test)]
mod model;
pub(crate) mod record;
pub(crate) mod state;
pub(crate) mod store;
