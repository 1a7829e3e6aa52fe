//! The wire between a kubelet and a container runtime: code generated from `proto/`
//! and the little glue that a unix socket needs on either side.
//!
//! - [`runtime::v1`] is the Container Runtime Interface, version 1, of Kubernetes 1.36.
//! - [`network::v1`] is Coracle's own node network API, served on the same socket.
//! - [`connect`] and [`bind`] open the two ends.
//!
//! This crate holds no state and takes no decision: what the messages mean belongs to
//! the `kubelet` and `proxy` crates on one side and to `runtime` and `network` on the other.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod socket;

pub use socket::{BindError, ConnectError, Incoming, MESSAGE_BYTES_MAX, bind, connect, connect_lazy};

/// `runtime.v1`: the Container Runtime Interface.
pub mod runtime {
    /// Messages, clients and servers of `runtime.v1`.
    #[allow(missing_docs, unreachable_pub, clippy::all, clippy::unwrap_used)]
    pub mod v1 {
        tonic::include_proto!("runtime.v1");
    }
}

/// `coracle.network.v1`: how a node's virtual network is programmed and entered.
pub mod network {
    /// Messages, clients and servers of `coracle.network.v1`.
    #[allow(missing_docs, unreachable_pub, clippy::all, clippy::unwrap_used)]
    pub mod v1 {
        tonic::include_proto!("coracle.network.v1");
    }
}
