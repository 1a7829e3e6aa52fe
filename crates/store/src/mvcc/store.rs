//! The keyspace as the rest of the crate uses it: applies entries, answers reads and
//! history, and moves memtables to the file behind the writers' backs.

use std::{
    io,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use openraft::storage::ApplyResponder;
use parking_lot::{Condvar, Mutex, RwLock};
use tokio::sync::{Notify, watch};

use super::{
    apply::{self, Effects},
    disk::{Disk, FILE, Meta, View},
    memtable::Memtable,
    record::Record,
    state::State,
};
use crate::{
    command::Reply,
    fault::Fault,
    hub::Hub,
    kv::{Error, KeyRange, KeyValue, RangeRequest, RangeResponse, TxnRequest, TxnResponse, WatchMessage},
    lessor::Lessor,
    raft::{Entry, LogId, Payload, StoredMembership, TypeConfig},
};

/// Changes in a memtable that make it go to the file. More would make that cheaper per
/// change, and opening after a crash slower.
const FLUSH_RECORDS: usize = 8_192;
/// Bytes in a memtable that make it go to the file.
const FLUSH_BYTES: usize = 8 * 1024 * 1024;
/// Longest time that a change waits for more before it goes to the file.
const FLUSH_AFTER: Duration = Duration::from_secs(5);
/// Bytes in the memtable being filled, while another is being written, beyond which
/// applying waits.
const MEMTABLE_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Most records, and about how many bytes, that one step of reading history takes.
const HISTORY_RECORDS_MAX: usize = 1_024;
/// See [`HISTORY_RECORDS_MAX`].
const HISTORY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// An entry and whoever waits for its reply.
pub(crate) type Work = (Entry, Option<ApplyResponder<TypeConfig>>);

/// The keyspace.
pub(crate) struct Store {
    state: RwLock<State>,
    disk: Disk,
    hub: Hub,
    lessor: Arc<Lessor>,
    /// Last log id that is in the file for good.
    durable: watch::Sender<Option<LogId>>,
    flush: Mutex<Flush>,
    wake: Condvar,
    /// Told when a memtable reached the file.
    flushed: Notify,
    /// One flush at a time.
    flushing: Mutex<()>,
}

/// What the flushing thread waits for.
#[derive(Default)]
struct Flush {
    dirty_since: Option<Instant>,
    urgent: bool,
    close: bool,
    failed: Option<String>,
    /// No thread: whoever applies flushes.
    inline: bool,
    thread: Option<thread::JoinHandle<()>>,
}

/// A step of history.
pub(crate) struct History {
    /// In order, complete revisions.
    pub(crate) messages: Vec<WatchMessage>,
    /// The first revision that it does not cover.
    pub(crate) next: i64,
    /// Whether it goes up to the present.
    pub(crate) is_complete: bool,
}

impl Store {
    /// Begins from what the file holds. Memtables go to the file on a thread of their own
    /// if the store is `on_disk`.
    pub(crate) fn new(disk: Disk, lessor: Arc<Lessor>, on_disk: bool) -> Result<Arc<Self>, Fault> {
        let state = State::new(disk.view()?)?;
        let store = Arc::new(Self {
            hub: Hub::new(state.meta.revision),
            durable: watch::Sender::new(state.meta.applied),
            state: RwLock::new(state),
            disk,
            lessor,
            flush: Mutex::new(Flush { inline: !on_disk, ..Flush::default() }),
            wake: Condvar::new(),
            flushed: Notify::new(),
            flushing: Mutex::new(()),
        });
        if on_disk {
            let this = store.clone();
            let thread = thread::Builder::new().name("store-flush".into()).spawn(move || this.flush_loop());
            store.flush.lock().thread = Some(thread.map_err(redb::StorageError::Io)?);
        }
        Ok(store)
    }

    #[cfg(test)]
    pub(crate) fn disk_for_test(&self) -> &Disk {
        &self.disk
    }

    pub(crate) fn hub(&self) -> &Hub {
        &self.hub
    }

    /// Up to where the log may be purged, as it moves.
    pub(crate) fn durable(&self) -> watch::Receiver<Option<LogId>> {
        self.durable.subscribe()
    }

    pub(crate) fn meta(&self) -> Meta {
        self.state.read().meta.clone()
    }

    /// The file as of its last commit.
    pub(crate) fn view(&self) -> Arc<View> {
        self.state.read().view.clone()
    }

    /// Lets the lessor begin with all leases.
    pub(crate) fn promote_lessor(&self) {
        let state = self.state.read();
        self.lessor.promote(state.leases.iter().map(|(id, lease)| (*id, lease.terms)));
    }

    /// Seconds noted at a lease's last checkpoint; 0 when there was none.
    pub(crate) fn lease_checkpoint(&self, id: i64) -> i64 {
        self.state.read().leases.get(&id).map_or(0, |lease| lease.terms.remaining_s)
    }

    /// Reads a range from the state as it is.
    pub(crate) fn range(&self, request: &RangeRequest) -> Result<RangeResponse, Error> {
        let (scan, revision) = {
            let state = self.state.read();
            let at = state.read_at(request.revision)?;
            (state.scan(&request.range, at), state.meta.revision)
        };
        scan.answer(request, revision).map_err(io_error)
    }

    /// Runs a transaction that changes nothing.
    pub(crate) fn read_txn(&self, txn: &TxnRequest) -> Result<TxnResponse, Error> {
        apply::read_txn(&self.state.read(), txn).map_err(io_error)?
    }

    /// Waits while there is no room for more changes.
    pub(crate) async fn room(&self) {
        loop {
            let flushed = self.flushed.notified();
            {
                let state = self.state.read();
                let stopped = self.flush.lock().failed.is_some();
                if stopped || state.frozen.is_none() || state.active.bytes() < MEMTABLE_BYTES_MAX {
                    return;
                }
            }
            flushed.await;
        }
    }

    /// Applies entries in order, tells watchers, then answers whoever waits.
    pub(crate) fn apply(&self, work: Vec<Work>) -> Result<(), Fault> {
        if let Some(why) = &self.flush.lock().failed {
            return Err(redb::StorageError::Io(io::Error::other(why.clone())).into());
        }
        let mut done: Vec<(Option<ApplyResponder<TypeConfig>>, Reply, Effects)> =
            Vec::with_capacity(work.len());
        let urgent = {
            let mut state = self.state.write();
            for (entry, responder) in work {
                let (reply, effects) = apply_entry(&mut state, entry)?;
                done.push((responder, reply, effects));
            }
            state.active.log().len() >= FLUSH_RECORDS || state.active.bytes() >= FLUSH_BYTES
        };
        self.dirty(urgent)?;
        for (responder, reply, effects) in done {
            self.lessor.apply(&effects.leases);
            self.hub.publish(&effects.changes, |record| self.replaced(record));
            if let Some(responder) = responder {
                responder.send(reply);
            }
        }
        Ok(())
    }

    /// What a change replaced, if it is still known.
    fn replaced(&self, record: &Record) -> Option<KeyValue> {
        let old = self.state.read().record(record.prev?);
        let old = old.inspect_err(|fault| tracing::error!(%fault, "{FILE} cannot be read")).ok()??;
        old.head.is_live().then(|| old.kv(false))
    }

    /// Changes from `from` on, as far as one step goes.
    pub(crate) fn history(&self, range: &KeyRange, from: i64, prev_kv: bool) -> Result<History, Error> {
        let (view, newest, recent) = {
            let state = self.state.read();
            if from < state.meta.compact_revision {
                return Err(Error::Compacted { compact_revision: state.meta.compact_revision });
            }
            let on_file = from <= state.view.meta.revision;
            let recent = (!on_file).then(|| recent(&state, from));
            (state.view.clone(), state.meta.revision, recent)
        };
        let step = match recent {
            Some(records) => Step { records, next: newest + 1, is_complete: true },
            None => from_file(&view, from, newest).map_err(io_error)?,
        };
        let mut messages: Vec<WatchMessage> = Vec::new();
        for record in step.records.iter().filter(|record| range.contains(&record.key)) {
            let at = record.head.place.revision;
            let event = record.event(if prev_kv { self.replaced(record) } else { None });
            match messages.last_mut() {
                Some(WatchMessage::Events { revision, events }) if *revision == at => events.push(event),
                _ => messages.push(WatchMessage::Events { revision: at, events: vec![event] }),
            }
        }
        Ok(History { messages, next: step.next, is_complete: step.is_complete })
    }

    /// Replaces the state by another member's. Watchers have to begin again.
    pub(crate) fn install(&self, image: &View) -> Result<(), Fault> {
        let _flushing = self.flushing.lock();
        self.disk.replace(image)?;
        let state = State::new(self.disk.view()?)?;
        let (revision, applied) = (state.meta.revision, state.meta.applied);
        *self.state.write() = state;
        self.durable.send_replace(applied);
        self.hub.end_all(&Error::WatchLagging, Some(revision));
        Ok(())
    }

    /// Notes that there is something to flush.
    fn dirty(&self, urgent: bool) -> Result<(), Fault> {
        let mut flush = self.flush.lock();
        if flush.inline {
            drop(flush);
            return if urgent { self.flush_all() } else { Ok(()) };
        }
        if flush.dirty_since.is_none() || (urgent && !flush.urgent) {
            flush.dirty_since.get_or_insert_with(Instant::now);
            flush.urgent |= urgent;
            self.wake.notify_one();
        }
        Ok(())
    }

    fn flush_loop(&self) {
        while self.wait_for_work() {
            if let Err(fault) = self.flush_all() {
                tracing::error!(%fault, "{FILE} cannot be written; the store stops");
                self.flush.lock().failed = Some(format!("{FILE}: {fault}"));
                self.flushed.notify_waiters();
                return;
            }
        }
    }

    /// Waits until there is reason to flush; `false` when it is time to end.
    fn wait_for_work(&self) -> bool {
        let mut flush = self.flush.lock();
        loop {
            if flush.close {
                return false;
            }
            match flush.dirty_since {
                None => self.wake.wait(&mut flush),
                Some(since) => {
                    let due = since + FLUSH_AFTER;
                    if flush.urgent || Instant::now() >= due {
                        flush.dirty_since = None;
                        flush.urgent = false;
                        return true;
                    }
                    self.wake.wait_until(&mut flush, due);
                }
            }
        }
    }

    /// Writes what is in memory, and does what is left of a compaction.
    pub(crate) fn flush_all(&self) -> Result<(), Fault> {
        let _flushing = self.flushing.lock();
        loop {
            let (memtable, meta) = {
                let mut state = self.state.write();
                let compacted = state.meta.compacted >= state.meta.compact_revision;
                if compacted && state.meta == state.view.meta && state.active.is_empty() {
                    return Ok(());
                }
                let memtable = Arc::new(std::mem::take(&mut state.active));
                state.frozen = Some(memtable.clone());
                (memtable, state.meta.clone())
            };
            let applied = meta.applied;
            let written = self.write(&memtable, meta)?;
            let behind = written.compacted < written.compact_revision;
            self.durable.send_replace(applied);
            self.flushed.notify_waiters();
            if !behind {
                return Ok(());
            }
        }
    }

    fn write(&self, memtable: &Memtable, meta: Meta) -> Result<Meta, Fault> {
        let written = self.disk.write(memtable, meta)?;
        let view = self.disk.view()?;
        let mut state = self.state.write();
        state.meta.compacted = written.compacted;
        state.view = view;
        let frozen = state.frozen.take();
        drop(state);
        // Freeing thousands of records takes a while; not under the lock.
        drop(frozen);
        Ok(written)
    }

    /// Ends the thread, writes what is in memory, closes the file. Watches end.
    pub(crate) fn close(&self) -> Result<(), Fault> {
        self.hub.end_all(&Error::Closed, None);
        let (thread, inline) = {
            let mut flush = self.flush.lock();
            if std::mem::replace(&mut flush.close, true) {
                return Ok(());
            }
            (flush.thread.take(), flush.inline)
        };
        self.wake.notify_one();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the flushing thread panicked");
        }
        let flushed = if inline { Ok(()) } else { self.flush_all() };
        self.disk.close();
        flushed
    }
}

fn apply_entry(state: &mut State, entry: Entry) -> Result<(Reply, Effects), Fault> {
    let Entry { log_id, payload } = entry;
    let done = match payload {
        Payload::Blank => (Reply::Done(Ok(())), Effects::default()),
        Payload::Membership(membership) => {
            state.meta.membership = StoredMembership::new(Some(log_id), membership);
            (Reply::Done(Ok(())), Effects::default())
        }
        Payload::Normal(proposal) => apply::apply(state, log_id.index, proposal.command())?,
    };
    state.meta.applied = Some(log_id);
    Ok(done)
}

struct Step {
    records: Vec<Arc<Record>>,
    next: i64,
    is_complete: bool,
}

/// Changes from `from` on that are in memory.
fn recent(state: &State, from: i64) -> Vec<Arc<Record>> {
    let frozen = state.frozen.iter().flat_map(|frozen| frozen.log_from(from));
    frozen.chain(state.active.log_from(from)).cloned().collect()
}

/// Changes from `from` on that are in the file, as far as one step goes.
fn from_file(view: &View, from: i64, newest: i64) -> Result<Step, Fault> {
    let mut records: Vec<Arc<Record>> = Vec::new();
    let mut bytes = 0;
    for record in view.changes(from)? {
        let record = record?;
        let is_new = records.last().is_some_and(|last| last.head.place.revision < record.head.place.revision);
        if is_new && (records.len() >= HISTORY_RECORDS_MAX || bytes >= HISTORY_BYTES_MAX) {
            return Ok(Step { next: record.head.place.revision, records, is_complete: false });
        }
        bytes += record.bytes();
        records.push(Arc::new(record));
    }
    let next = view.meta.revision + 1;
    Ok(Step { records, next, is_complete: next > newest })
}

/// What a request is told about a file that cannot be read.
pub(crate) fn io_error(fault: Fault) -> Error {
    match fault.into_inner() {
        redb::Error::DatabaseClosed => Error::Closed,
        e => Error::Io(format!("{FILE}: {}", io::Error::other(e))),
    }
}
