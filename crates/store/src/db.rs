//! A redb file that can be shared and closed: redb's handle cannot be cloned, and closes
//! only when it is dropped.

use std::{fs::OpenOptions, io, os::unix::fs::OpenOptionsExt, path::Path, sync::Arc};

use parking_lot::RwLock;
use redb::{
    Builder, Database, ReadTransaction, ReadableDatabase, WriteTransaction, backends::InMemoryBackend,
};

use crate::fault::Fault;

/// The handle; clones are the same database.
#[derive(Clone)]
pub(crate) struct Db {
    inner: Arc<RwLock<Option<Database>>>,
}

impl Db {
    /// Opens or creates the file (mode 0600), or a database in memory when there is no path.
    /// A file larger than `compact_beyond` bytes gives back the space that it does not use.
    pub(crate) fn open(path: Option<&Path>, cache_bytes: usize, compact_beyond: u64) -> Result<Self, Fault> {
        let mut builder = Builder::new();
        builder.set_cache_size(cache_bytes);
        let db = match path {
            None => builder.create_with_backend(InMemoryBackend::new())?,
            Some(path) => {
                match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
                    Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                        return Err(redb::StorageError::Io(e).into());
                    }
                    _ => {}
                }
                let mut db = builder.create(path)?;
                if path.metadata().is_ok_and(|file| file.len() > compact_beyond) {
                    db.compact()?;
                }
                db
            }
        };
        Ok(Self { inner: Arc::new(RwLock::new(Some(db))) })
    }

    /// Begins a read of the state as of now.
    pub(crate) fn read(&self) -> Result<ReadTransaction, Fault> {
        let db = self.inner.read();
        Ok(db.as_ref().ok_or_else(Fault::closed)?.begin_read()?)
    }

    /// Begins a write; there is one at a time.
    pub(crate) fn write(&self) -> Result<WriteTransaction, Fault> {
        let db = self.inner.read();
        Ok(db.as_ref().ok_or_else(Fault::closed)?.begin_write()?)
    }

    /// Closes the file. Transactions under way fail or end by themselves.
    pub(crate) fn close(&self) {
        drop(self.inner.write().take());
    }
}
