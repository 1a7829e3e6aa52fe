//! One error for everything that a redb file can do to us.

use std::{fmt, io};

use crate::codec::DecodeError;

/// A database failed or holds what we cannot read. Not a request's fault: openraft stops
/// when it sees one, since state that cannot be read or written must not be guessed.
#[derive(Debug)]
pub(crate) struct Fault(Box<redb::Error>);

impl Fault {
    /// For databases used after they were closed.
    pub(crate) fn closed() -> Self {
        redb::StorageError::DatabaseClosed.into()
    }

    /// For databases that hold what they must not.
    pub(crate) fn corrupted(why: impl Into<String>) -> Self {
        redb::StorageError::Corrupted(why.into()).into()
    }

    /// The error of redb.
    pub(crate) fn into_inner(self) -> redb::Error {
        *self.0
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Fault {}

impl From<Fault> for io::Error {
    fn from(fault: Fault) -> Self {
        io::Error::other(fault)
    }
}

impl From<DecodeError> for Fault {
    fn from(e: DecodeError) -> Self {
        Self::corrupted(e.to_string())
    }
}

macro_rules! from_redb {
    ($($error:ident),*) => {$(
        impl From<redb::$error> for Fault {
            fn from(e: redb::$error) -> Self {
                Self(Box::new(e.into()))
            }
        }
    )*};
}

from_redb!(
    CommitError,
    CompactionError,
    DatabaseError,
    SetDurabilityError,
    StorageError,
    TableError,
    TransactionError
);
