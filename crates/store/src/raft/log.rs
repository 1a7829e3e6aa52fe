//! The raft log: what openraft reads and appends, over one redb file.
//!
//! An appended entry is readable at once, from memory; it is durable when openraft's
//! callback was called. Memory holds the newest entries up to [`CACHE_BYTES_MAX`] (and
//! whatever is not durable yet), older ones are read from the file. The file holds entries
//! only until the state has them durably, so it stays small, and with it the time that redb
//! takes to check it after a crash.

use std::{
    collections::VecDeque,
    fmt::Debug,
    io,
    ops::{Bound, RangeBounds},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use openraft::{
    LogState, OptionalSend, RaftLogReader,
    storage::{IOFlushed, RaftLogStorage},
};
use parking_lot::RwLock;
use redb::ReadableTable;
use tokio::sync::oneshot;

use super::{
    Entry, LogId, Payload, TypeConfig, Vote, codec,
    writer::{COMMITTED, ENTRIES, Job, META, PURGED, VOTE, Writer},
};
use crate::{db::Db, fault::Fault};

/// Name of the file in the data directory.
pub(crate) const FILE: &str = "log.redb";

/// Most bytes of durable entries that stay in memory.
const CACHE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Pages of the file that redb keeps in memory.
const PAGE_CACHE_BYTES: usize = 4 * 1024 * 1024;

/// Size beyond which the file is made small again when it is opened: a burst of large
/// writes leaves it larger than it has to be.
const FILE_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// What an entry weighs beside its command.
const ENTRY_BYTES: usize = 64;

/// The log; cloning shares it. Clones are openraft's readers.
#[derive(Clone)]
pub(crate) struct Log {
    shared: Arc<Shared>,
}

struct Shared {
    state: RwLock<State>,
    /// Entries below this index are in the file.
    durable: Arc<AtomicU64>,
    writer: Writer,
    db: Db,
}

#[derive(Default)]
struct State {
    vote: Option<Vote>,
    committed: Option<LogId>,
    purged: Option<LogId>,
    last: Option<LogId>,
    /// The newest entries, without gap up to `last`.
    cache: VecDeque<Entry>,
    cache_bytes: usize,
}

impl State {
    /// Index of the oldest entry in memory; one past the end when there is none.
    fn cached_from(&self) -> u64 {
        self.cache.front().map_or_else(|| next(self.last.as_ref()), |entry| entry.log_id.index)
    }

    fn push(&mut self, entry: Entry) {
        self.last = Some(entry.log_id);
        self.cache_bytes += entry_bytes(&entry);
        self.cache.push_back(entry);
    }

    /// Forgets durable entries beyond what may stay.
    fn trim(&mut self, durable: u64) {
        while self.cache_bytes > CACHE_BYTES_MAX
            && let Some(front) = self.cache.front()
            && front.log_id.index < durable
        {
            self.pop_front();
        }
    }

    fn pop_front(&mut self) {
        if let Some(entry) = self.cache.pop_front() {
            self.cache_bytes -= entry_bytes(&entry);
        }
    }

    fn pop_back(&mut self) {
        if let Some(entry) = self.cache.pop_back() {
            self.cache_bytes -= entry_bytes(&entry);
        }
    }
}

fn entry_bytes(entry: &Entry) -> usize {
    ENTRY_BYTES
        + match &entry.payload {
            Payload::Normal(proposal) => proposal.bytes(),
            Payload::Blank | Payload::Membership(_) => 0,
        }
}

/// Index after a log id.
fn next(id: Option<&LogId>) -> u64 {
    id.map_or(0, |id| id.index + 1)
}

impl Log {
    /// Opens the log in `dir`, or one in memory.
    pub(crate) fn open(dir: Option<&Path>) -> Result<Self, Fault> {
        let path = dir.map(|dir| dir.join(FILE));
        let db = Db::open(path.as_deref(), PAGE_CACHE_BYTES, FILE_BYTES_MAX)?;
        let state = load(&db)?;
        let durable = Arc::new(AtomicU64::new(next(state.last.as_ref())));
        let writer =
            Writer::new(db.clone(), dir.is_some(), durable.clone()).map_err(redb::StorageError::Io)?;
        Ok(Self { shared: Arc::new(Shared { state: RwLock::new(state), durable, writer, db }) })
    }

    /// Writes what is queued and closes the file.
    pub(crate) fn close(&self) {
        self.shared.writer.close();
    }

    /// Whether nothing was ever written to it.
    pub(crate) fn is_new(&self) -> bool {
        let state = self.shared.state.read();
        state.last.is_none() && state.vote.is_none()
    }

    fn read(&self, from: u64, to: u64) -> Result<Vec<Entry>, Fault> {
        let (entries, cached): (_, Vec<Entry>) = {
            let state = self.shared.state.read();
            let from = from.max(next(state.purged.as_ref()));
            let to = to.min(next(state.last.as_ref()));
            if from >= to {
                return Ok(Vec::new());
            }
            let cached_from = state.cached_from();
            let skip = from.saturating_sub(cached_from) as usize;
            let take = to.saturating_sub(from.max(cached_from)) as usize;
            let cached = state.cache.range(skip.min(state.cache.len())..).take(take).cloned().collect();
            (from..to.min(cached_from), cached)
        };
        if entries.is_empty() {
            return Ok(cached);
        }
        let txn = self.shared.db.read()?;
        let table = txn.open_table(ENTRIES)?;
        let mut found: Vec<Entry> = Vec::with_capacity(cached.len() + (entries.end - entries.start) as usize);
        for row in table.range(entries.clone())? {
            let (index, bytes) = row?;
            // Only at the beginning may entries be missing: where the log begins later.
            if found.last().is_some_and(|last| last.log_id.index + 1 != index.value()) {
                return Err(Fault::corrupted(format!("{FILE} lacks an entry before {}", index.value())));
            }
            found.push(codec::decode_entry(index.value(), bytes.value())?);
        }
        if let Some(last) = found.last()
            && last.log_id.index + 1 != entries.end
        {
            return Err(Fault::corrupted(format!("{FILE} lacks entries from {} on", last.log_id.index + 1)));
        }
        found.extend(cached);
        Ok(found)
    }
}

fn load(db: &Db) -> Result<State, Fault> {
    let txn = db.read()?;
    let mut state = State::default();
    match txn.open_table(META) {
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(state),
        Err(e) => return Err(e.into()),
        Ok(meta) => {
            state.vote = meta.get(VOTE)?.map(|row| codec::decode_vote(row.value())).transpose()?;
            for (name, id) in [(COMMITTED, &mut state.committed), (PURGED, &mut state.purged)] {
                if let Some(row) = meta.get(name)? {
                    *id = codec::decode_log_id(row.value())?;
                }
            }
        }
    }
    state.last = state.purged;
    if let Some((index, bytes)) = txn.open_table(ENTRIES)?.last()? {
        state.last = state.last.max(Some(codec::entry_log_id(index.value(), bytes.value())?));
    }
    Ok(state)
}

/// Waits until the writer has done something.
async fn done(receiver: oneshot::Receiver<io::Result<()>>) -> io::Result<()> {
    receiver.await.unwrap_or_else(|_| Err(io::Error::other("the log is closed")))
}

impl RaftLogReader<TypeConfig> for Log {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        let from = match range.start_bound() {
            Bound::Included(n) => *n,
            Bound::Excluded(n) => n + 1,
            Bound::Unbounded => 0,
        };
        let to = match range.end_bound() {
            Bound::Included(n) => n + 1,
            Bound::Excluded(n) => *n,
            Bound::Unbounded => u64::MAX,
        };
        Ok(self.read(from, to)?)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.shared.state.read().vote)
    }
}

impl RaftLogStorage<TypeConfig> for Log {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let state = self.shared.state.read();
        Ok(LogState { last_purged_log_id: state.purged, last_log_id: state.last })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let (sender, receiver) = oneshot::channel();
        self.shared.writer.push(Job::Vote(*vote, sender));
        done(receiver).await?;
        self.shared.state.write().vote = Some(*vote);
        Ok(())
    }

    /// Costs no fsync: it reaches the file with the next entries. Losing it is harmless,
    /// since a new leader's first entry commits again what was committed.
    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        self.shared.state.write().committed = committed;
        self.shared.writer.note_committed(committed);
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.shared.state.read().committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        {
            let mut state = self.shared.state.write();
            for entry in &entries {
                state.push(entry.clone());
            }
            state.trim(self.shared.durable.load(Ordering::Acquire));
        }
        self.shared.writer.push(Job::Append(entries, callback));
        Ok(())
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        let from = next(last_log_id.as_ref());
        {
            let mut state = self.shared.state.write();
            if from >= next(state.last.as_ref()) {
                return Ok(());
            }
            while state.cache.back().is_some_and(|entry| entry.log_id.index >= from) {
                state.pop_back();
            }
            state.last = last_log_id;
        }
        let (sender, receiver) = oneshot::channel();
        self.shared.writer.push(Job::Truncate(from, sender));
        done(receiver).await
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), io::Error> {
        {
            let mut state = self.shared.state.write();
            while state.cache.front().is_some_and(|entry| entry.log_id.index <= log_id.index) {
                state.pop_front();
            }
            state.purged = Some(log_id);
            state.last = state.last.max(Some(log_id));
        }
        self.shared.writer.push(Job::Purge(log_id));
        Ok(())
    }
}
