//! [`Kv`]: the interface of the cluster's key-value store, with the semantics of etcd v3.
//!
//! One revision counter covers the whole keyspace. A write transaction that changes
//! anything takes the next revision; every key remembers the revision that created it,
//! the one that last changed it and how many changes lie between. Types and names follow
//! the etcd v3 API so that the gRPC server is a translation, not a reimplementation.
//!
//! Two engines implement the trait: the embedded one (Raft over redb) and, later, a client
//! of an external etcd. Nothing here owns state.

use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::sync::mpsc;

/// A key with its value and history marks. All revisions are store revisions (≥ 1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyValue {
    /// The key, at most [`KEY_BYTES_MAX`] bytes.
    pub key: Bytes,
    /// The value; empty when the request asked for keys only.
    pub value: Bytes,
    /// Revision of the write that created the key.
    pub create_revision: i64,
    /// Revision of the last write to the key.
    pub mod_revision: i64,
    /// Number of writes since creation; 1 when new, 0 in a deletion event.
    pub version: i64,
    /// Lease that the key is attached to; 0 means none.
    pub lease: i64,
}

/// Largest key, in bytes. Longer keys are refused with [`Error::KeyTooLong`].
pub const KEY_BYTES_MAX: usize = 8 * 1024;
/// Largest encoded request, in bytes (etcd's `--max-request-bytes` default of 1.5 MiB plus
/// room for an envelope). Beyond it: [`Error::RequestTooLarge`].
pub const REQUEST_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Most operations in one transaction (etcd's `--max-txn-ops`). Beyond it: [`Error::TooManyOps`].
pub const TXN_OPS_MAX: usize = 128;
/// Longest time to live of a lease, in seconds (etcd's bound). Beyond it:
/// [`Error::LeaseTtlTooLarge`].
pub const LEASE_TTL_S_MAX: i64 = 9_000_000_000;

/// The keys a request speaks of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyRange {
    /// One key.
    Key(Bytes),
    /// `start ≤ key < end`.
    Range(Bytes, Bytes),
    /// `start ≤ key`, without end (etcd's `range_end = "\0"`).
    From(Bytes),
}

impl KeyRange {
    /// All keys that begin with `prefix`; every key when it is empty.
    #[must_use]
    pub fn prefix(prefix: impl Into<Bytes>) -> Self {
        let prefix = prefix.into();
        let mut end = prefix.to_vec();
        while let Some(last) = end.last_mut() {
            if *last < 0xff {
                *last += 1;
                return Self::Range(prefix, Bytes::from(end));
            }
            end.pop();
        }
        Self::From(prefix)
    }

    /// Whether `key` lies in the range.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        match self {
            Self::Key(k) => k == key,
            Self::Range(start, end) => start.as_ref() <= key && key < end.as_ref(),
            Self::From(start) => start.as_ref() <= key,
        }
    }
}

/// A read (etcd `RangeRequest`).
#[derive(Debug, Clone)]
pub struct RangeRequest {
    /// Which keys.
    pub range: KeyRange,
    /// Most keys to return; 0 means all.
    pub limit: usize,
    /// Revision to read at; 0 means the newest.
    pub revision: i64,
    /// Leave values out.
    pub keys_only: bool,
    /// Return only the count.
    pub count_only: bool,
    /// Answer from local state without asking the leader: may be stale.
    pub serializable: bool,
}

impl RangeRequest {
    /// A linearizable read of everything in `range` at the newest revision.
    #[must_use]
    pub fn new(range: KeyRange) -> Self {
        Self { range, limit: 0, revision: 0, keys_only: false, count_only: false, serializable: false }
    }
}

/// Answer to a [`RangeRequest`]; keys in ascending order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RangeResponse {
    /// The store's revision when the read was answered (not the one read at).
    pub revision: i64,
    /// The keys.
    pub kvs: Vec<KeyValue>,
    /// Whether more keys lie beyond `limit`.
    pub more: bool,
    /// How many keys the range holds in all, whatever the limit.
    pub count: i64,
}

/// A condition of a transaction (etcd `Compare`). A missing key compares as zero and
/// as an empty value, except that [`CompareTarget::Value`] on a missing key is false.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compare {
    /// Which key, or every key of a range.
    pub range: KeyRange,
    /// How what is stored relates to the given operand.
    pub result: CompareResult,
    /// What is compared, with its operand.
    pub target: CompareTarget,
}

/// How a comparison must turn out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompareResult {
    /// Stored equals operand.
    Equal,
    /// Stored is greater.
    Greater,
    /// Stored is less.
    Less,
    /// Stored differs.
    NotEqual,
}

/// Which property is compared, with the operand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CompareTarget {
    /// Number of writes since creation; 0 when the key is absent.
    Version(i64),
    /// Revision of creation.
    CreateRevision(i64),
    /// Revision of the last change.
    ModRevision(i64),
    /// The value.
    Value(Bytes),
    /// The lease.
    Lease(i64),
}

/// A write of one key (etcd `PutRequest`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutRequest {
    /// The key.
    pub key: Bytes,
    /// The value.
    pub value: Bytes,
    /// Lease to attach the key to; 0 detaches.
    pub lease: i64,
    /// Return the key-value that was replaced.
    pub prev_kv: bool,
    /// Keep the stored value and change only the lease; the key must exist.
    pub ignore_value: bool,
    /// Keep the stored lease; the key must exist.
    pub ignore_lease: bool,
}

impl PutRequest {
    /// Writes `value` to `key`, without lease and without asking for what was there.
    #[must_use]
    pub fn new(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        Self {
            key: key.into(),
            value: value.into(),
            lease: 0,
            prev_kv: false,
            ignore_value: false,
            ignore_lease: false,
        }
    }
}

/// A deletion (etcd `DeleteRangeRequest`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteRequest {
    /// Which keys.
    pub range: KeyRange,
    /// Return what was deleted.
    pub prev_kv: bool,
}

/// One operation of a transaction.
#[derive(Debug, Clone)]
pub enum Op {
    /// Read.
    Range(RangeRequest),
    /// Write.
    Put(PutRequest),
    /// Delete.
    Delete(DeleteRequest),
    /// A nested transaction.
    Txn(TxnRequest),
}

/// Compare, then one list of operations or the other (etcd `TxnRequest`).
#[derive(Debug, Clone, Default)]
pub struct TxnRequest {
    /// All must hold for `success` to run.
    pub compare: Vec<Compare>,
    /// Run when every comparison holds.
    pub success: Vec<Op>,
    /// Run otherwise.
    pub failure: Vec<Op>,
}

/// Answer to one [`Op`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpResponse {
    /// Of a read.
    Range(RangeResponse),
    /// Of a put: what it replaced, if asked for.
    Put(Option<KeyValue>),
    /// Of a deletion: how many keys went, and which if asked for.
    Delete(i64, Vec<KeyValue>),
    /// Of a nested transaction.
    Txn(TxnResponse),
}

/// Answer to a [`TxnRequest`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TxnResponse {
    /// The store's revision after the transaction.
    pub revision: i64,
    /// Whether the comparisons held.
    pub succeeded: bool,
    /// One answer per operation that ran, in order.
    pub responses: Vec<OpResponse>,
}

/// What to watch (etcd `WatchCreateRequest`).
#[derive(Debug, Clone)]
pub struct WatchRequest {
    /// Which keys.
    pub range: KeyRange,
    /// First revision to report; 0 means from now on.
    pub start_revision: i64,
    /// Report the previous key-value with each event.
    pub prev_kv: bool,
    /// Send a [`WatchMessage::Progress`] when nothing happened for a while.
    pub progress_notify: bool,
}

/// What happened to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// It was created or changed.
    Put,
    /// It was deleted.
    Delete,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Put or delete.
    pub kind: EventKind,
    /// The key-value after the change; for a deletion only key and `mod_revision` are set.
    pub kv: KeyValue,
    /// The key-value before the change, when asked for and there was one.
    pub prev: Option<KeyValue>,
}

/// An item of a watch.
#[derive(Debug, Clone)]
pub enum WatchMessage {
    /// All matching changes of one revision, never split over two messages.
    Events {
        /// Their revision.
        revision: i64,
        /// The changes, in the order in which the transaction made them.
        events: Vec<Event>,
    },
    /// Everything up to this revision has been delivered.
    Progress {
        /// That revision.
        revision: i64,
    },
}

/// Receives a watch's messages in order of revision. Ends with an `Err` item that says why
/// (compacted, lagging, store closed); dropping it cancels the watch.
pub type WatchStream = mpsc::Receiver<Result<WatchMessage, Error>>;

/// A lease as granted or kept alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// Its id, never 0.
    pub id: i64,
    /// Time to live, in seconds, from now.
    pub ttl_s: i64,
}

/// Figures about the store.
#[derive(Debug, Clone, Default)]
pub struct StoreStatus {
    /// Newest revision.
    pub revision: i64,
    /// Oldest revision that can still be read; 0 when nothing was compacted.
    pub compact_revision: i64,
    /// Bytes of the state file.
    pub db_bytes: u64,
    /// Raft term, index applied and whether this member leads.
    pub term: u64,
    /// Last applied raft index.
    pub applied_index: u64,
    /// Whether this member leads.
    pub leader: bool,
}

/// Why a request failed. Messages of the first group are etcd's, since clients match them.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// Reading or watching at a revision that is compacted away.
    #[error("etcdserver: mvcc: required revision has been compacted")]
    Compacted {
        /// Oldest revision that can still be read.
        compact_revision: i64,
    },
    /// Reading at a revision that does not exist yet.
    #[error("etcdserver: mvcc: required revision is a future revision")]
    FutureRevision,
    /// No such lease.
    #[error("etcdserver: requested lease not found")]
    LeaseNotFound,
    /// A time to live beyond [`LEASE_TTL_S_MAX`].
    #[error("etcdserver: too large lease TTL")]
    LeaseTtlTooLarge,
    /// A lease of that id exists.
    #[error("etcdserver: lease already exists")]
    LeaseExists,
    /// `ignore_value` or `ignore_lease` on a missing key.
    #[error("etcdserver: key not found")]
    KeyNotFound,
    /// An empty key.
    #[error("etcdserver: key is not provided")]
    EmptyKey,
    /// A value beside `ignore_value`.
    #[error("etcdserver: value is provided")]
    ValueProvided,
    /// A lease beside `ignore_lease`.
    #[error("etcdserver: lease is provided")]
    LeaseProvided,
    /// The same key put twice in one transaction.
    #[error("etcdserver: duplicate key given in txn request")]
    DuplicateKey,
    /// More than [`TXN_OPS_MAX`] operations.
    #[error("etcdserver: too many operations in txn request")]
    TooManyOps,
    /// More than [`REQUEST_BYTES_MAX`] bytes.
    #[error("etcdserver: request is too large")]
    RequestTooLarge,
    /// No leader is known.
    #[error("etcdserver: no leader")]
    NoLeader,
    /// The leader changed while the request was under way; it may or may not have happened.
    #[error("etcdserver: leader changed")]
    LeaderChanged,
    /// The request took too long; it may or may not have happened.
    #[error("etcdserver: request timed out")]
    Timeout,
    /// The database reached its quota.
    #[error("etcdserver: mvcc: database space exceeded")]
    NoSpace,
    /// A key longer than [`KEY_BYTES_MAX`].
    #[error("key of {0} bytes is longer than {KEY_BYTES_MAX}")]
    KeyTooLong(usize),
    /// The watcher did not keep up and its queue is full; watch again from the last revision seen.
    #[error("watcher fell behind and was dropped")]
    WatchLagging,
    /// The store is shutting down.
    #[error("store is closed")]
    Closed,
    /// The disk refused; the text names file and cause.
    #[error("store I/O: {0}")]
    Io(String),
}

/// The store. Cheap to share as `Arc<dyn Kv>`; every method may be called concurrently.
///
/// A write that returned `Ok` survives `kill -9` and power loss (unless the engine was
/// opened as ephemeral). Reads are linearizable unless asked to be serializable.
pub trait Kv: Send + Sync + 'static {
    /// Reads a range.
    ///
    /// # Errors
    /// [`Error::Compacted`], [`Error::FutureRevision`], [`Error::NoLeader`], [`Error::Timeout`].
    fn range(&self, request: RangeRequest) -> BoxFuture<'_, Result<RangeResponse, Error>>;

    /// Runs a transaction; it takes one revision if it changes anything, none otherwise.
    ///
    /// # Errors
    /// The request checks ([`Error::EmptyKey`] and following), [`Error::LeaseNotFound`],
    /// [`Error::NoSpace`], and those of consensus.
    fn txn(&self, request: TxnRequest) -> BoxFuture<'_, Result<TxnResponse, Error>>;

    /// Starts a watch. Events of revisions from `start_revision` on arrive exactly once, in
    /// order, without gap between history and the present.
    ///
    /// # Errors
    /// [`Error::Compacted`] when the start lies in compacted history.
    fn watch(&self, request: WatchRequest) -> BoxFuture<'_, Result<WatchStream, Error>>;

    /// Grants a lease; `id` 0 lets the store choose. When it runs out its keys are deleted.
    ///
    /// # Errors
    /// [`Error::LeaseExists`], [`Error::LeaseTtlTooLarge`].
    fn lease_grant(&self, id: i64, ttl_s: i64) -> BoxFuture<'_, Result<Lease, Error>>;

    /// Revokes a lease and deletes its keys.
    ///
    /// # Errors
    /// [`Error::LeaseNotFound`].
    fn lease_revoke(&self, id: i64) -> BoxFuture<'_, Result<(), Error>>;

    /// Renews a lease for its full time to live.
    ///
    /// # Errors
    /// [`Error::LeaseNotFound`] when it has run out or never was.
    fn lease_keep_alive(&self, id: i64) -> BoxFuture<'_, Result<Lease, Error>>;

    /// Forgets what `revision` and older ones overwrote or deleted. The state as of
    /// `revision` can still be read, and a watch may still start there.
    ///
    /// # Errors
    /// [`Error::Compacted`] when that was done already, [`Error::FutureRevision`].
    fn compact(&self, revision: i64) -> BoxFuture<'_, Result<(), Error>>;

    /// Figures about the store, without asking the leader.
    fn status(&self) -> BoxFuture<'_, Result<StoreStatus, Error>>;
}
