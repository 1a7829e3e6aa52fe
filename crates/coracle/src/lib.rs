//! Coracle as a library: everything that the `coracle` program wires together.
//!
//! This is the only crate that knows all others. [`cluster::Cluster`] is a whole cluster in
//! one process, [`server::Server`] a master, [`agent::Agent`] a worker; the command line in
//! [`cli`] and `commands` starts them. It decides nothing about Kubernetes.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod agent;
pub mod cli;
pub mod cluster;
pub mod commands;
pub mod datadir;
pub mod logs;
pub mod manifest;
pub mod progress;
pub mod samples;
pub mod server;
pub mod tasks;

/// The Kubernetes version that is served, with our mark.
pub const VERSION: &str = "v1.36.0+coracle";

/// The machine's name, as Kubernetes accepts it for a node: lower case, and `localhost` where
/// the machine has none.
#[must_use]
pub fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().to_ascii_lowercase();
    let usable =
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.');
    if usable { name } else { "localhost".to_owned() }
}
