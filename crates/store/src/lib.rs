//! The etcd of a Coracle cluster: a revisioned key-value store with transactions, watches
//! and leases.
//!
//! [`Kv`] is the interface that the API server knows.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod check;
pub mod clock;
mod codec;
mod command;
#[cfg(feature = "conformance")]
pub mod conformance;
mod datadir;
mod db;
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
