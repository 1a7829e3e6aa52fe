//! The etcd of a Coracle cluster: a revisioned key-value store with transactions, watches
//! and leases.
//!
//! [`Kv`] is the interface that the API server knows; [`Embedded`] is the engine that
//! keeps the data itself.
//!
//! # How the embedded engine works
//!
//! ```text
//!  txn, lease, compact                                         watch
//!        │ Command                                               ▲
//!        ▼                                                       │ as applied
//!   openraft ──── entries ───> log.redb        apply ──> memtable ┴─> replies
//!        └──────── committed ────────────────────▲          │ 8 Ki changes, 8 MiB or 5 s
//!                                                           ▼
//!   range, history  <──── memtables over a view of ──── state.redb
//! ```
//!
//! - **Log.** One thread commits whatever was queued while its last commit was under way,
//!   with one fsync. A write is acknowledged after that.
//! - **State.** Entries are applied to a memtable. When it is full or old, it goes to the
//!   state file in one durable commit, on another thread; the log is purged up to there and
//!   no further. So the state file has every revision, but no write waits for it.
//! - **Reads** ask openraft whether this member leads and up to where it must have applied;
//!   no log entry is written. Serializable ones ask nobody.
//! - **Watches** are fed by the apply itself, before the writer gets its reply. One that
//!   begins in the past reads history step by step until it meets the present.
//! - **Leases.** Which leases exist, and their keys, is replicated; when they run out is
//!   known to the leader only, by an injected [`clock::Clock`].
//! - **Compaction** is a revision number in the state; the space is freed by later commits
//!   of the state file, a bounded number of records each, at a cost that goes with the
//!   changes since the last compaction.
//!
//! # What is promised
//!
//! | promise | tested by |
//! |---|---|
//! | An acknowledged write survives `kill -9`, at its revision; no revision is given twice. | `tests/crash.rs` |
//! | One transaction is one revision; what is refused changes nothing; etcd's order of conditions, reads and writes. | [`conformance`](#the-suite), `mvcc::model` |
//! | A read at a revision that is not compacted sees exactly that revision. | `mvcc::model` |
//! | A watch reports every change once, in order, from any revision that is not compacted. | `conformance::watch`, `mvcc::model` |
//! | A slow watcher is told so and dropped; it delays nobody and holds a bounded queue. | `tests/embedded.rs` |
//! | A lease never runs out early, not even over a restart; it ends with one revision for all its keys. | `lessor`, `tests/embedded.rs` |
//! | The log store and state machine are what openraft expects. | `raft::suite` |
//! | Stores of older versions open. | `tests/fixture.rs` |
//!
//! An ephemeral store ([`EmbeddedConfig::dir`] is `None`) promises all but what a restart
//! would show.
//!
//! ## The suite
//!
//! With the feature `conformance`, the module of that name is the test suite that every
//! engine behind [`Kv`] must pass.
//!
//! # The data directory
//!
//! Mode 0700, its files 0600.
//!
//! | file | what it is |
//! |---|---|
//! | `LOCK` | `flock`ed while the store is open; says by which process. |
//! | `VERSION` | `format N` and `oldest-reader N`, one per line. A version that knows less than `oldest-reader` refuses the directory. This version writes format 1, for readers of 1 on. |
//! | `log.redb` | the raft log |
//! | `state.redb` | the keyspace |
//!
//! In the tables below, *varint* is an unsigned LEB128 number of at most 64 bits; an *i64* is
//! written as the varint with the same bits; *bytes* are a varint length and then themselves;
//! a *bool* is one byte, 0 or 1. Every record begins with a format byte, which is 1.
//!
//! ## `log.redb`
//!
//! | table | key | value |
//! |---|---|---|
//! | `entries` | index: redb `u64` | entry |
//! | `meta` | `"vote"` | vote |
//! | | `"committed"` | log id; may be behind |
//! | | `"purged"` | log id of the last entry removed |
//!
//! | record | bytes after the format byte |
//! |---|---|
//! | vote | term: varint, node: varint, committed: bool |
//! | log id | present: bool, then if so term: varint, index: varint |
//! | entry | term: varint, kind: `0` blank, `1` command, `2` membership, then that |
//! | membership | count of voter sets: varint, each a count and node ids (varint); count of members, each a node id (varint) and a peer address (bytes, UTF-8) |
//!
//! | command | bytes |
//! |---|---|
//! | transaction | `1`, transaction |
//! | lease grant | `2`, id: i64 (0 lets the store choose), seconds: i64 |
//! | lease revoke | `3`, id: i64 |
//! | lease checkpoint | `4`, count: varint, each id: i64, seconds left: i64 (0 is the full time) |
//! | compact | `5`, revision: i64 |
//!
//! | part | bytes |
//! |---|---|
//! | transaction | three lists (varint count, items): comparisons, operations if they hold, operations if not |
//! | comparison | range, result (`0` equal, `1` greater, `2` less, `3` not equal), target (`0` version, `1` create revision, `2` mod revision, `3` value, `4` lease), operand: bytes for a value, else i64 |
//! | range | `0` and a key, `1` and begin and end, or `2` and begin; each bytes |
//! | operation | `0` range: range, limit: varint, revision: i64, flags (1 keys only, 2 count only, 4 serializable) |
//! | | `1` put: key: bytes, value: bytes, lease: i64, flags (1 previous, 2 ignore value, 4 ignore lease) |
//! | | `2` delete: range, flags (1 previous) |
//! | | `3` transaction |
//!
//! ## `state.redb`
//!
//! | table | key | value |
//! |---|---|---|
//! | `revs` | revision and position in it: redb `(u64, u32)` | record |
//! | `keys` | the key | head of its newest change, deletions included until they are compacted |
//! | `leases` | id: redb `i64` | seconds: i64, seconds left at the last checkpoint: i64 |
//! | `lease_keys` | lease id and key | nothing |
//! | `meta` | `"state"` | revision: i64, compact revision: i64, compacted up to: i64, applied: bytes of a log id record, membership: bytes of (format byte, log id without format byte, membership) |
//!
//! | record | bytes after the format byte |
//! |---|---|
//! | head | revision: i64, position: varint, create revision: i64, version: i64 (0 says deleted), lease: i64 |
//! | record | head without its format byte; place of the key's change before: revision: i64 (0 is none), position: varint; key: bytes; the rest is the value |
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod check;
pub mod clock;
mod codec;
mod command;
#[cfg(feature = "conformance")]
pub mod conformance;
mod datadir;
mod db;
mod duties;
mod embedded;
mod fault;
mod hub;
mod kv;
mod lessor;
mod mvcc;
mod raft;

pub use datadir::OpenError;
pub use embedded::{CACHE_BYTES_DEFAULT, Embedded, EmbeddedConfig, REQUEST_TIMEOUT};
pub use kv::*;
