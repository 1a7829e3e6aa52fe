//! The etcd of a Coracle cluster: a revisioned key-value store with transactions, watches
//! and leases.
//!
//! [`Kv`] is the interface that the API server knows.

mod kv;

pub use kv::*;
