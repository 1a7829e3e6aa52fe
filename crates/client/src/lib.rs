//! The way of every component to the API server.
//!
//! - [`connect`]: a `kube::Client` over the API router of the same process or over TLS;
//! - [`informer`]: one shared, watched store per kind and process;
//! - [`driver`]: the loop that every controller runs in: watch, de-duplicate, plan, apply;
//! - [`events`]: a recorder of Kubernetes Events that never blocks its caller;
//! - [`leader`]: leader election on Leases.
//!
//! Architecture invariant: nothing here knows the API server's or the store's code. All of it
//! also works against any other Kubernetes API server.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod connect;
pub mod driver;
pub mod events;
pub mod informer;
pub mod leader;

pub use connect::{in_process, remote, remote_from_yaml};
pub use informer::{Change, Informer, Informers, Object, ObjectKey, Subscription};

/// An error and its sources as one line.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(": ");
        text.push_str(&source.to_string());
        next = source.source();
    }
    text
}
