//! A container runtime for WebAssembly that speaks the Container Runtime Interface: what
//! containerd is to Linux containers, for modules and components.
//!
//! A [`Service`] serves, on one unix socket, `runtime.v1.RuntimeService` and
//! `ImageService` to a kubelet, and `coracle.network.v1.NodeNetwork` to whoever programs
//! the node's network. It learns about pods only from CRI fields and from the annotation
//! `io.kubernetes.container.ports`, which real kubelets send as well.
//!
//! # How it fits together
//!
//! - `service` is CRI on the wire; `node` is what its operations do; `record` is what of
//!   it is on disk.
//! - `program` makes a module ready to start, once per process: `lift` turns preview 1
//!   modules into components, `imports` refuses what cannot be offered.
//! - `workload` runs a container: a command once, an HTTP component through
//!   `http::server` with an instance per request.
//! - `guest` is what an instance can reach: wasmtime's WASI, with the sockets (`sockets`)
//!   and outgoing HTTP (`http`) of the pod's own network in place of the host's.
//! - `host` is shared by all nodes of a process: the engine, and the threads that guests
//!   run on, apart from those that serve CRI.
//!
//! # Invariants
//!
//! - Nothing of the host reaches a guest that its pod does not name: no environment, no
//!   directory, no socket.
//! - A guest that never yields is stopped all the same: every loop of compiled code looks
//!   at the epoch, which makes it yield, and its future is then dropped.
//! - Every instance charges its memory to its container's account, and gives all of it
//!   back.
//! - While no guest is on a thread, nothing here wakes up.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod account;
mod engine;
mod exit;
mod guest;
mod host;
mod http;
mod imports;
mod lift;
mod log;
mod mounts;
mod node;
mod program;
mod record;
mod server;
mod service;
mod sockets;
mod spec;
mod ticker;
mod workload;

pub use host::HostError;
pub use record::StateError;
pub use server::{Config, Error, Service};
