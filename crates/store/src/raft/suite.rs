//! openraft's own suite for log stores and state machines, over files.

use std::sync::Arc;

use openraft::{
    StorageError,
    testing::log::{StoreBuilder, Suite},
};

use super::{TypeConfig, log::Log, machine::Machine};
use crate::{
    clock::ManualClock,
    lessor::Lessor,
    mvcc::{disk::Disk, store::Store},
};

struct Builder;

impl StoreBuilder<TypeConfig, Log, Machine, tempfile::TempDir> for Builder {
    async fn build(&self) -> Result<(tempfile::TempDir, Log, Machine), StorageError<TypeConfig>> {
        let dir = tempfile::tempdir().unwrap();
        let lessor = Arc::new(Lessor::new(Arc::new(ManualClock::default())));
        let disk = Disk::open(Some(dir.path()), 1 << 20).unwrap();
        let store = Store::new(disk, lessor, true).unwrap();
        let log = Log::open(Some(dir.path())).unwrap();
        Ok((dir, log, Machine::new(store)))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn passes() {
    Suite::test_all(Builder).await.unwrap();
}
