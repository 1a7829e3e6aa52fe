//! The thread that makes the log durable: it takes everything that was queued while the
//! last commit was under way, and commits it with one fsync.
//!
//! The queue is bounded by what openraft has in flight (its own channels are bounded), so
//! it has no bound of its own. After an error the log is read-only: later jobs fail with
//! the same text, since a log with a hole must not go on.

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use openraft::storage::IOFlushed;
use parking_lot::{Condvar, Mutex};
use redb::TableDefinition;
use tokio::sync::oneshot;

use super::{Entry, LogId, TypeConfig, Vote, codec};
use crate::{db::Db, fault::Fault};

/// Index to entry.
pub(super) const ENTRIES: TableDefinition<u64, &[u8]> = TableDefinition::new("entries");
/// Single records by name.
pub(super) const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
/// Name of the vote in [`META`].
pub(super) const VOTE: &str = "vote";
/// Name of the last committed log id in [`META`].
pub(super) const COMMITTED: &str = "committed";
/// Name of the last purged log id in [`META`].
pub(super) const PURGED: &str = "purged";

/// A change of the log.
pub(super) enum Job {
    Append(Vec<Entry>, IOFlushed<TypeConfig>),
    Vote(Vote, oneshot::Sender<io::Result<()>>),
    /// Removes the entries from this index on.
    Truncate(u64, oneshot::Sender<io::Result<()>>),
    /// Removes the entries up to this one. Nobody waits: an entry that comes back after a
    /// crash does no harm.
    Purge(LogId),
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    /// Newest commit index; written along with the next commit, as a hint.
    committed: Option<LogId>,
    close: bool,
}

pub(super) struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
}

/// Where jobs go: to the thread or, for an ephemeral store, straight into memory.
pub(super) enum Writer {
    /// Durable; joined by [`Writer::close`].
    Thread { shared: Arc<Shared>, thread: Mutex<Option<thread::JoinHandle<()>>> },
    /// In memory: each job is done when [`Writer::push`] returns.
    Inline(Mutex<Option<Committer>>),
}

/// Writes batches of jobs to the database.
pub(super) struct Committer {
    db: Db,
    /// Index after the last entry in the file.
    durable: Arc<AtomicU64>,
    failed: Option<String>,
    buffer: Vec<u8>,
}

impl Writer {
    pub(super) fn new(db: Db, on_disk: bool, durable: Arc<AtomicU64>) -> io::Result<Self> {
        let mut committer = Committer { db, durable, failed: None, buffer: Vec::new() };
        if !on_disk {
            return Ok(Self::Inline(Mutex::new(Some(committer))));
        }
        let shared = Arc::new(Shared { queue: Mutex::default(), wake: Condvar::new() });
        let queue = shared.clone();
        let thread = thread::Builder::new().name("store-log".into()).spawn(move || {
            while let Some((jobs, committed)) = queue.next() {
                committer.commit(jobs, committed);
            }
            committer.db.close();
        })?;
        Ok(Self::Thread { shared, thread: Mutex::new(Some(thread)) })
    }

    /// Queues a job. Jobs take effect in the order in which they are pushed.
    pub(super) fn push(&self, job: Job) {
        match self {
            Self::Thread { shared, .. } => {
                let mut queue = shared.queue.lock();
                if queue.close {
                    return job.finish(Err(io::Error::other("the log is closed")));
                }
                queue.jobs.push_back(job);
                drop(queue);
                shared.wake.notify_one();
            }
            Self::Inline(committer) => match &mut *committer.lock() {
                Some(committer) => committer.commit(VecDeque::from([job]), None),
                None => job.finish(Err(io::Error::other("the log is closed"))),
            },
        }
    }

    /// Notes the commit index, to be written when something else is.
    pub(super) fn note_committed(&self, committed: Option<LogId>) {
        if let Self::Thread { shared, .. } = self {
            shared.queue.lock().committed = committed;
        }
    }

    /// Does what is queued, ends the thread and closes the file.
    pub(super) fn close(&self) {
        match self {
            Self::Thread { shared, thread } => {
                shared.queue.lock().close = true;
                shared.wake.notify_one();
                if let Some(thread) = thread.lock().take()
                    && thread.join().is_err()
                {
                    tracing::error!("the log's writer panicked");
                }
            }
            Self::Inline(committer) => {
                if let Some(committer) = committer.lock().take() {
                    committer.db.close();
                }
            }
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    /// Waits for jobs and takes them all; `None` when closed and done.
    fn next(&self) -> Option<(VecDeque<Job>, Option<LogId>)> {
        let mut queue = self.queue.lock();
        loop {
            if !queue.jobs.is_empty() {
                let committed = queue.committed.take();
                return Some((std::mem::take(&mut queue.jobs), committed));
            }
            if queue.close {
                return None;
            }
            self.wake.wait(&mut queue);
        }
    }
}

impl Committer {
    fn commit(&mut self, jobs: VecDeque<Job>, committed: Option<LogId>) {
        if self.failed.is_none()
            && let Err(fault) = self.write(&jobs, committed)
        {
            tracing::error!(%fault, "the raft log cannot be written; the store stops");
            self.failed = Some(format!("{}: {fault}", super::log::FILE));
        }
        for job in jobs {
            job.finish(match &self.failed {
                None => Ok(()),
                Some(why) => Err(io::Error::other(why.clone())),
            });
        }
    }

    fn write(&mut self, jobs: &VecDeque<Job>, committed: Option<LogId>) -> Result<(), Fault> {
        let txn = self.db.write()?;
        {
            let mut entries = txn.open_table(ENTRIES)?;
            let mut meta = txn.open_table(META)?;
            for job in jobs {
                match job {
                    Job::Append(batch, _) => {
                        for entry in batch {
                            self.buffer.clear();
                            codec::encode_entry(entry, &mut self.buffer);
                            entries.insert(entry.log_id.index, self.buffer.as_slice())?;
                        }
                    }
                    Job::Vote(vote, _) => {
                        meta.insert(VOTE, codec::encode_vote(vote).as_slice())?;
                    }
                    Job::Truncate(from, _) => entries.retain_in(*from.., |_, _| false)?,
                    Job::Purge(upto) => {
                        entries.retain_in(..=upto.index, |_, _| false)?;
                        meta.insert(PURGED, codec::encode_log_id(Some(upto)).as_slice())?;
                    }
                }
            }
            if committed.is_some() {
                meta.insert(COMMITTED, codec::encode_log_id(committed.as_ref()).as_slice())?;
            }
        }
        txn.commit()?;
        for job in jobs {
            match job {
                Job::Append(batch, _) => {
                    if let Some(last) = batch.last() {
                        self.durable.store(last.log_id.index + 1, Ordering::Release);
                    }
                }
                Job::Truncate(from, _) => self.durable.store(*from, Ordering::Release),
                Job::Vote(..) | Job::Purge(_) => {}
            }
        }
        Ok(())
    }
}

impl Job {
    fn finish(self, result: io::Result<()>) {
        match self {
            Self::Append(_, done) => done.io_completed(result),
            // Whoever asked may have gone away.
            Self::Vote(_, done) | Self::Truncate(_, done) => drop(done.send(result)),
            Self::Purge(_) => {}
        }
    }
}
