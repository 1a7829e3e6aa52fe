//! The embedded engine: the keyspace, replicated by Raft, in this process.
//!
//! Writes and leases' changes are proposals; reads ask the leader only for permission, not
//! for a log entry. While there is one voter, elections are immediate and nothing ticks.

use std::{future::Future, io::ErrorKind, path::PathBuf, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use openraft::{
    Config, Raft, ReadPolicy, ServerState, SnapshotPolicy,
    errors::{ClientWriteError, Fatal, LinearizableReadError, RaftError},
    metrics::Metric,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    check,
    clock::{Clock, SystemClock},
    command::{Command, Proposal, Reply},
    datadir::{DataDir, OpenError},
    duties::{self, Duties},
    fault::Fault,
    hub::Watcher,
    kv::{
        Error, Kv, LEASE_TTL_S_MAX, Lease, RangeRequest, RangeResponse, StoreStatus, TxnRequest, TxnResponse,
        WatchRequest, WatchStream,
    },
    lessor::Lessor,
    mvcc::{
        disk::{Disk, FILE as STATE_FILE},
        store::Store,
    },
    raft::{
        Member, RaftHandle, TypeConfig,
        log::{FILE as LOG_FILE, Log},
        machine::Machine,
        network::Network,
    },
};

/// Longest time that a request waits for consensus (etcd's default is the same). Beyond
/// it: [`Error::Timeout`].
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(7);
/// Longest time that opening waits for leadership.
const LEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest time that shutting down waits for the log to be purged.
const PURGE_TIMEOUT: Duration = Duration::from_secs(2);
/// Pages of the state file that stay in memory, unless configured.
pub const CACHE_BYTES_DEFAULT: usize = 64 * 1024 * 1024;

/// How to open an [`Embedded`] store.
#[derive(Clone)]
pub struct EmbeddedConfig {
    /// Where it lives; made with mode 0700. `None` keeps everything in memory, without
    /// fsync and without anything to find again.
    pub dir: Option<PathBuf>,
    /// This member's id; the same at every start.
    pub node_id: u64,
    /// Most bytes of the state file's pages that stay in memory.
    pub cache_bytes: usize,
    /// What leases run out by.
    pub clock: Arc<dyn Clock>,
}

impl EmbeddedConfig {
    /// A store in `dir`, or in memory, of a single master.
    #[must_use]
    pub fn new(dir: Option<PathBuf>) -> Self {
        Self { dir, node_id: 1, cache_bytes: CACHE_BYTES_DEFAULT, clock: Arc::new(SystemClock::default()) }
    }
}

impl Default for EmbeddedConfig {
    /// A store in memory.
    fn default() -> Self {
        Self::new(None)
    }
}

/// The embedded engine. Share it in an `Arc`; call [`Embedded::shutdown`] before the end
/// of the process, or the next start takes a little longer.
pub struct Embedded {
    raft: RaftHandle,
    log: Log,
    store: Arc<Store>,
    lessor: Arc<Lessor>,
    clock: Arc<dyn Clock>,
    state_path: Option<PathBuf>,
    closing: CancellationToken,
    tasks: TaskTracker,
    lock: parking_lot::Mutex<Option<DataDir>>,
}

impl Embedded {
    /// Opens the store, or makes a new one. Returns when it leads and holds everything
    /// that was ever acknowledged.
    ///
    /// # Errors
    /// When the directory is not writable, in use, of a newer version, or damaged.
    pub async fn open(config: EmbeddedConfig) -> Result<Arc<Self>, OpenError> {
        let EmbeddedConfig { dir, node_id, cache_bytes, clock } = config;
        let lock = dir.as_deref().map(DataDir::open).transpose()?;
        let path = |file: &str| dir.as_deref().map(|dir| dir.join(file)).unwrap_or_default();
        let damaged = |file: &str, fault: Fault| match fault.into_inner() {
            redb::Error::Io(source) if source.kind() != ErrorKind::InvalidData => {
                OpenError::NotWritable { path: path(file), source }
            }
            redb::Error::DatabaseAlreadyOpen => {
                OpenError::Locked { path: path(file), holder: "another process".into() }
            }
            other => OpenError::Damaged { path: path(file), why: other.to_string() },
        };
        let (log, disk) = open_files(dir.clone(), cache_bytes).await?;
        let log = log.map_err(|e| damaged(LOG_FILE, e))?;
        let disk = disk.map_err(|e| damaged(STATE_FILE, e))?;
        let lessor = Arc::new(Lessor::new(clock.clone()));
        let store = Store::new(disk, lessor.clone(), dir.is_some()).map_err(|e| damaged(STATE_FILE, e))?;
        let is_new = log.is_new();
        let raft = start(node_id, log.clone(), store.clone()).await?;
        let this = Arc::new(Self {
            raft,
            log,
            store,
            lessor,
            clock,
            state_path: dir.map(|dir| dir.join(STATE_FILE)),
            closing: CancellationToken::new(),
            tasks: TaskTracker::new(),
            lock: parking_lot::Mutex::new(lock),
        });
        this.lead(node_id, is_new).await?;
        this.store.promote_lessor();
        this.spawn(duties::purge(this.raft.clone(), this.store.clone()));
        let duties = Duties::new(&this.raft, &this.store, &this.lessor, &this.clock);
        this.spawn(duties.run());
        Ok(this)
    }

    /// Makes the single voter the leader, and waits until everything in its log is applied.
    async fn lead(&self, node_id: u64, is_new: bool) -> Result<(), OpenError> {
        let failed = |e: &dyn std::fmt::Display| OpenError::Raft(e.to_string());
        if is_new {
            let member = Member { peer_address: String::new() };
            let members = std::collections::BTreeMap::from([(node_id, member)]);
            self.raft.initialize(members).await.map_err(|e| failed(&e))?;
        } else {
            self.raft.trigger().elect(false).await.map_err(|e| failed(&e))?;
        }
        self.raft
            .wait(Some(LEAD_TIMEOUT))
            .state(ServerState::Leader, "open")
            .await
            .map_err(|e| failed(&e))?;
        // The new term's first entry comes after everything in the log.
        self.linearize().await.map_err(|e| failed(&e))
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let closing = self.closing.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = closing.cancelled() => {}
                () = task => {}
            }
        });
    }

    /// Stops serving, writes what is in memory to the state file, and releases the
    /// directory. Watches end with [`Error::Closed`]. May be called more than once.
    pub async fn shutdown(&self) {
        self.closing.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        let purged = self.flush_and_purge().await;
        if let Err(why) = purged {
            tracing::warn!(why, "the log is left to the next start");
        }
        if let Err(e) = self.raft.shutdown().await {
            tracing::error!(error = %e, "consensus did not end cleanly");
        }
        let ending =
            Ending { store: self.store.clone(), log: self.log.clone(), lock: self.lock.lock().take() };
        if let Err(e) = tokio::task::spawn_blocking(move || ending.close()).await {
            tracing::error!(error = %e, "closing the store failed");
        }
    }

    /// Brings the state file up to date, so that the next start finds a short log.
    async fn flush_and_purge(&self) -> Result<(), String> {
        if self.state_path.is_none() || self.lock.lock().is_none() {
            return Ok(());
        }
        let store = self.store.clone();
        let flushed = tokio::task::spawn_blocking(move || store.flush_all()).await;
        flushed.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
        let Some(applied) = self.store.view().meta.applied else { return Ok(()) };
        self.raft.trigger().snapshot().await.map_err(|e| e.to_string())?;
        let purged = self.raft.wait(Some(PURGE_TIMEOUT));
        let purged = purged.ge(Metric::Purged(Some(applied)), "shutdown").await;
        purged.map(drop).map_err(|e| e.to_string())
    }

    fn check_open(&self) -> Result<(), Error> {
        if self.closing.is_cancelled() { Err(Error::Closed) } else { Ok(()) }
    }

    /// Makes sure that this member still leads, and waits until it has applied everything
    /// that was acknowledged before the call. Writes no log entry.
    async fn linearize(&self) -> Result<(), Error> {
        let read = async {
            let linearizer =
                self.raft.get_read_linearizer(ReadPolicy::ReadIndex).await.map_err(read_error)?;
            match linearizer.try_await_ready(&self.raft, Some(REQUEST_TIMEOUT)).await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(_)) => Err(Error::Timeout),
                Err(fatal) => Err(fatal_error(fatal)),
            }
        };
        timeout(read).await
    }

    async fn propose(&self, command: Command) -> Result<Reply, Error> {
        propose(&self.raft, command).await
    }
}

/// What is left of a store that no longer serves. The directory stays locked until its
/// files are closed.
struct Ending {
    store: Arc<Store>,
    log: Log,
    lock: Option<DataDir>,
}

impl Ending {
    fn close(self) {
        if let Err(fault) = self.store.close() {
            tracing::error!(%fault, "{STATE_FILE} was not written; the log still has it");
        }
        self.log.close();
        drop(self.lock);
    }
}

impl Drop for Embedded {
    /// Without a shutdown nothing is lost: what is not in the state file is in the log.
    /// The files are closed in the background, as soon as consensus has ended.
    fn drop(&mut self) {
        self.closing.cancel();
        let ending =
            Ending { store: self.store.clone(), log: self.log.clone(), lock: self.lock.lock().take() };
        let raft = self.raft.clone();
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(async move {
                if let Err(e) = raft.shutdown().await {
                    tracing::debug!(error = %e, "consensus had ended already");
                }
                tokio::task::spawn_blocking(move || ending.close());
            })),
            Err(_) => ending.close(),
        }
    }
}

type Files = (Result<Log, Fault>, Result<Disk, Fault>);

/// Opens both files at the same time: each costs an fsync or two when it is new, and a
/// check when it was not closed.
async fn open_files(dir: Option<PathBuf>, cache_bytes: usize) -> Result<Files, OpenError> {
    if dir.is_none() {
        return Ok((Log::open(None), Disk::open(None, cache_bytes)));
    }
    let log_dir = dir.clone();
    let log = tokio::task::spawn_blocking(move || Log::open(log_dir.as_deref()));
    let disk = tokio::task::spawn_blocking(move || Disk::open(dir.as_deref(), cache_bytes));
    tokio::try_join!(log, disk).map_err(|e| OpenError::Raft(e.to_string()))
}

async fn start(node_id: u64, log: Log, store: Arc<Store>) -> Result<RaftHandle, OpenError> {
    let config = Config {
        cluster_name: "coracle".into(),
        // A single voter needs neither heartbeats nor timeouts; whoever adds peers enables
        // ticks. Elections are triggered by hand.
        enable_tick: false,
        heartbeat_interval: 100,
        election_timeout_min: 1_000,
        election_timeout_max: 2_000,
        enable_pre_vote: Some(true),
        // A leader that comes back begins a new term: its first entry commits what was in
        // the log, of which the saved commit index knows only a part.
        enable_leader_restore: Some(false),
        // The state file decides when the log may be purged (see `duties::purge`).
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: 0,
        ..Config::default()
    };
    let config = config.validate().map_err(|e| OpenError::Raft(e.to_string()))?;
    let raft = Raft::new(node_id, Arc::new(config), Network, log, Machine::new(store)).await;
    raft.map_err(|e| OpenError::Raft(e.to_string()))
}

async fn timeout<T>(request: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    tokio::time::timeout(REQUEST_TIMEOUT, request).await.unwrap_or(Err(Error::Timeout))
}

pub(crate) async fn propose(raft: &RaftHandle, command: Command) -> Result<Reply, Error> {
    let written = async { raft.client_write(Proposal::new(command)).await.map_err(write_error) };
    Ok(timeout(written).await?.data)
}

fn fatal_error(fatal: Fatal<TypeConfig>) -> Error {
    match fatal {
        Fatal::Stopped => Error::Closed,
        Fatal::StorageError(e) => Error::Io(e.to_string()),
        Fatal::Panicked => Error::Io("consensus panicked".into()),
    }
}

fn write_error(e: RaftError<TypeConfig, ClientWriteError<TypeConfig>>) -> Error {
    match e {
        RaftError::Fatal(fatal) => fatal_error(fatal),
        RaftError::APIError(ClientWriteError::LogEntryDiscarded(_)) => Error::LeaderChanged,
        RaftError::APIError(_) => Error::NoLeader,
    }
}

fn read_error(e: RaftError<TypeConfig, LinearizableReadError<TypeConfig>>) -> Error {
    match e {
        RaftError::Fatal(fatal) => fatal_error(fatal),
        RaftError::APIError(_) => Error::NoLeader,
    }
}

fn unexpected(reply: &Reply) -> Error {
    Error::Io(format!("an answer to another question: {reply:?}"))
}

impl Kv for Embedded {
    fn range(&self, request: RangeRequest) -> BoxFuture<'_, Result<RangeResponse, Error>> {
        Box::pin(async move {
            self.check_open()?;
            check::range(&request)?;
            if !request.serializable {
                self.linearize().await?;
            }
            self.store.range(&request)
        })
    }

    fn txn(&self, request: TxnRequest) -> BoxFuture<'_, Result<TxnResponse, Error>> {
        Box::pin(async move {
            self.check_open()?;
            check::txn(&request)?;
            if check::is_read_only(&request) {
                if !check::is_serializable(&request) {
                    self.linearize().await?;
                }
                return self.store.read_txn(&request);
            }
            match self.propose(Command::Txn(request)).await? {
                Reply::Txn(result) => result,
                other => Err(unexpected(&other)),
            }
        })
    }

    fn watch(&self, request: WatchRequest) -> BoxFuture<'_, Result<WatchStream, Error>> {
        Box::pin(async move {
            self.check_open()?;
            check::key_range(&request.range)?;
            let meta = self.store.meta();
            let start = request.start_revision.max(0);
            if start > 0 && start < meta.compact_revision {
                return Err(Error::Compacted { compact_revision: meta.compact_revision });
            }
            let (watcher, stream) = Watcher::new(request);
            if start > 0 && start <= meta.revision {
                self.spawn(duties::catch_up(self.store.clone(), watcher, start));
            } else if let Some(behind) = self.store.hub().join(watcher, start, meta.revision) {
                self.spawn(duties::catch_up(self.store.clone(), behind, start));
            }
            Ok(stream)
        })
    }

    fn lease_grant(&self, id: i64, ttl_s: i64) -> BoxFuture<'_, Result<Lease, Error>> {
        Box::pin(async move {
            self.check_open()?;
            if ttl_s > LEASE_TTL_S_MAX {
                return Err(Error::LeaseTtlTooLarge);
            }
            match self.propose(Command::LeaseGrant { id, ttl_s: ttl_s.max(1) }).await? {
                Reply::Lease(result) => result,
                other => Err(unexpected(&other)),
            }
        })
    }

    fn lease_revoke(&self, id: i64) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            self.check_open()?;
            match self.propose(Command::LeaseRevoke { id }).await? {
                Reply::Done(result) => result,
                other => Err(unexpected(&other)),
            }
        })
    }

    fn lease_keep_alive(&self, id: i64) -> BoxFuture<'_, Result<Lease, Error>> {
        Box::pin(async move {
            self.check_open()?;
            let lease = self.lessor.keep_alive(id)?;
            if self.store.lease_checkpoint(id) > 0 {
                // Else a restart would believe the checkpoint, which is shorter by now.
                self.propose(Command::LeaseCheckpoint { remaining: vec![(id, 0)] }).await?;
            }
            Ok(lease)
        })
    }

    fn compact(&self, revision: i64) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            self.check_open()?;
            match self.propose(Command::Compact { revision }).await? {
                Reply::Done(result) => result,
                other => Err(unexpected(&other)),
            }
        })
    }

    fn status(&self) -> BoxFuture<'_, Result<StoreStatus, Error>> {
        Box::pin(async move {
            self.check_open()?;
            let meta = self.store.meta();
            let file = self.state_path.as_deref().and_then(|path| std::fs::metadata(path).ok());
            let raft = self.raft.metrics();
            let raft = openraft::async_runtime::watch::WatchReceiver::borrow_watched(&raft);
            Ok(StoreStatus {
                revision: meta.revision,
                compact_revision: meta.compact_revision,
                db_bytes: file.map_or(0, |file| file.len()),
                term: raft.current_term,
                applied_index: meta.applied.map_or(0, |id| id.index),
                leader: raft.state == ServerState::Leader,
            })
        })
    }
}
