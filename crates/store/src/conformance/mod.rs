//! What every engine behind [`Kv`] must do, as a suite that panics where one does not.
//!
//! Each case works below a prefix of its own, so that one engine serves the whole suite;
//! only [`CASES`] that compact may disturb others, so run them in order, one at a time:
//!
//! ```no_run
//! # use std::{sync::Arc, time::Duration};
//! # async fn run(kv: Arc<dyn coracle_store::Kv>) {
//! use coracle_store::conformance::{CASES, Subject};
//! let subject = Subject::new(kv, |by| Box::pin(tokio::time::sleep(by)));
//! for (name, case) in CASES {
//!     println!("{name}");
//!     case(&subject).await;
//! }
//! # }
//! ```
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "assertions are what this is for")]

mod compaction;
mod leases;
mod range;
mod txn;
mod watch;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::future::BoxFuture;

use crate::kv::{
    Compare, CompareResult, CompareTarget, DeleteRequest, Error, Event, KeyRange, KeyValue, Kv, Op,
    OpResponse, PutRequest, RangeRequest, TxnRequest, TxnResponse, WatchMessage, WatchRequest, WatchStream,
};

/// Longest time that a case waits for what must come.
const PATIENCE: Duration = Duration::from_secs(20);

/// An engine under test.
pub struct Subject {
    kv: Arc<dyn Kv>,
    advance: Box<dyn Fn(Duration) -> BoxFuture<'static, ()> + Send + Sync>,
}

/// A case of the suite.
pub type Case = for<'a> fn(&'a Subject) -> BoxFuture<'a, ()>;

macro_rules! cases {
    ($($module:ident: $($case:ident),+;)+) => {
        /// All cases by name, in the order in which they have to run.
        pub const CASES: &[(&str, Case)] = &[
            $($((concat!(stringify!($module), "::", stringify!($case)), |s| Box::pin($module::$case(s))),)+)+
        ];
    };
}

cases! {
    range: put_and_get, bounds_limits_and_counts, past_and_future_revisions;
    txn: compares, one_revision_per_transaction, nesting, refusals, ignoring_value_and_lease, deletions;
    watch: live, from_the_past, joins_without_gap, from_the_future, previous_values, several_watchers;
    leases: expiry, keep_alive, attachment, revocation;
    compaction: forgets_what_was_overwritten;
}

impl Subject {
    /// An engine, and how to let time pass for its leases.
    pub fn new(
        kv: Arc<dyn Kv>,
        advance: impl Fn(Duration) -> BoxFuture<'static, ()> + Send + Sync + 'static,
    ) -> Self {
        Self { kv, advance: Box::new(advance) }
    }

    async fn txn(&self, request: TxnRequest) -> TxnResponse {
        self.kv.txn(request).await.unwrap()
    }

    /// Puts and answers the revision.
    async fn put(&self, key: &str, value: &str) -> i64 {
        self.txn(only(put(key, value))).await.revision
    }

    async fn delete(&self, range: KeyRange) -> i64 {
        self.txn(only(Op::Delete(DeleteRequest { range, prev_kv: false }))).await.revision
    }

    async fn get(&self, key: &str) -> Option<KeyValue> {
        let response =
            self.kv.range(RangeRequest::new(KeyRange::Key(Bytes::copy_from_slice(key.as_bytes())))).await;
        response.unwrap().kvs.pop()
    }

    async fn watch(&self, range: KeyRange, start_revision: i64, prev_kv: bool) -> Result<WatchStream, Error> {
        self.kv.watch(WatchRequest { range, start_revision, prev_kv, progress_notify: false }).await
    }

    async fn revision(&self) -> i64 {
        self.kv.status().await.unwrap().revision
    }
}

fn put(key: &str, value: &str) -> Op {
    Op::Put(PutRequest::new(key.to_owned(), value.to_owned()))
}

fn only(op: Op) -> TxnRequest {
    TxnRequest { success: vec![op], ..TxnRequest::default() }
}

fn key(key: &str) -> KeyRange {
    KeyRange::Key(Bytes::copy_from_slice(key.as_bytes()))
}

fn prefix(prefix: &str) -> KeyRange {
    KeyRange::prefix(prefix.to_owned())
}

fn names(kvs: &[KeyValue]) -> Vec<&str> {
    kvs.iter().map(|kv| std::str::from_utf8(&kv.key).unwrap()).collect()
}

fn compare(range: KeyRange, result: CompareResult, target: CompareTarget) -> Compare {
    Compare { range, result, target }
}

/// The next revision's events.
async fn next(stream: &mut WatchStream) -> Result<(i64, Vec<Event>), Error> {
    let message = tokio::time::timeout(PATIENCE, stream.recv()).await.expect("a message must come");
    match message.expect("a watch ends with a reason")? {
        WatchMessage::Events { revision, events } => Ok((revision, events)),
        WatchMessage::Progress { .. } => panic!("progress that nobody asked for"),
    }
}
