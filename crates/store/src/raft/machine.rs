//! What openraft applies entries to: a thin shell around the keyspace.
//!
//! The state on disk may be behind what was applied; openraft is told so by the snapshot,
//! which is always the state file's last commit. It purges the log only up to a snapshot,
//! so what is not yet durable here is still in the log. A snapshot costs nothing to take:
//! it is a read transaction of the file.

use std::{io, sync::Arc};

use futures::{Stream, StreamExt};
use openraft::{
    RaftSnapshotBuilder,
    storage::{EntryResponder, RaftStateMachine},
    type_config::alias::{SnapshotMetaOf, SnapshotOf},
};

use super::{LogId, StoredMembership, TypeConfig};
use crate::mvcc::{
    disk::View,
    store::{Store, Work},
};

/// Most entries that are applied under one lock, so that readers get their turn.
const APPLY_ENTRIES_MAX: usize = 128;

/// The state machine; clones are the same one.
#[derive(Clone)]
pub(crate) struct Machine {
    store: Arc<Store>,
}

/// A whole state, to be sent to a member that is too far behind.
#[derive(Clone)]
pub(crate) struct Image {
    view: Arc<View>,
}

impl Machine {
    pub(crate) fn new(store: Arc<Store>) -> Self {
        Self { store }
    }

    fn snapshot(&self) -> SnapshotOf<TypeConfig, Image> {
        let view = self.store.view();
        let meta = SnapshotMetaOf::<TypeConfig> {
            last_log_id: view.meta.applied,
            last_membership: view.meta.membership.clone(),
        };
        SnapshotOf::<TypeConfig, Image> { meta, snapshot: Image { view } }
    }
}

/// Takes a snapshot.
pub(crate) struct Builder {
    machine: Machine,
    /// Bring the state file up to date first, so that the snapshot has everything.
    flush: bool,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = Image;

    async fn build_snapshot(&mut self) -> Result<SnapshotOf<TypeConfig, Image>, io::Error> {
        if self.flush {
            let store = self.machine.store.clone();
            let flushed = tokio::task::spawn_blocking(move || store.flush_all()).await;
            flushed.map_err(io::Error::other)??;
        }
        Ok(self.machine.snapshot())
    }
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotData = Image;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let meta = self.store.meta();
        Ok((meta.applied, meta.membership))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + Send,
    {
        let mut work: Vec<Work> = Vec::new();
        loop {
            let entry = entries.next().await.transpose()?;
            let is_last = entry.is_none();
            work.extend(entry);
            if is_last || work.len() >= APPLY_ENTRIES_MAX {
                self.store.room().await;
                self.store.apply(std::mem::take(&mut work))?;
            }
            if is_last {
                return Ok(());
            }
        }
    }

    /// When nobody needs it, as after each flush, what the file has is enough: openraft
    /// then learns how much of the log it may purge.
    async fn try_create_snapshot_builder(&mut self, force: bool) -> Option<Builder> {
        Some(Builder { machine: self.clone(), flush: force })
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder { machine: self.clone(), flush: true }
    }

    async fn install_snapshot(
        &mut self,
        _meta: &SnapshotMetaOf<TypeConfig>,
        snapshot: Image,
    ) -> Result<(), io::Error> {
        let store = self.store.clone();
        let installed = tokio::task::spawn_blocking(move || store.install(&snapshot.view)).await;
        Ok(installed.map_err(io::Error::other)??)
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<SnapshotOf<TypeConfig, Image>>, io::Error> {
        let snapshot = self.snapshot();
        Ok(snapshot.meta.last_log_id.is_some().then_some(snapshot))
    }
}
