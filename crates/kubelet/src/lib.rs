//! The node agent: takes the pods that are bound to its node and makes them run, through
//! whatever container runtime answers on a CRI socket.
//!
//! | module | part |
//! |---|---|
//! | [`config`](Config) | what a kubelet is told |
//! | `node` | the Node object: registration, capacity, conditions, heartbeat Lease |
//! | `pods` | one worker per pod: looks, plans (`coracle_plan::kubelet`), acts, reports |
//! | `pleg` | what happens in the runtime: its event stream, and a relist to be sure |
//! | `cri` | the runtime's calls, each with a time limit |
//! | `probes` | liveness, readiness and startup probes |
//! | `volumes`, `objects` | directories and files for pods, and the objects they are made of |
//! | `logs`, `server` | container logs, and the node API that serves them |
//!
//! Invariants: this crate knows the API server only through `kube::Client` and the runtime
//! only through CRI; it decides nothing about pods that `plan` could decide; it never
//! retries without a pause; and a pod that rests costs a map entry and no task.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod config;
mod convert;
mod cri;
mod error;
mod logs;
mod node;
mod objects;
mod pleg;
mod pods;
mod probes;
mod server;
mod service;
mod shared;
mod timers;
mod volumes;

pub use config::Config;
pub use error::Error;
pub use service::Service;
