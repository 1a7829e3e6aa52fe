//! The node's virtual network. A pod's address exists only here: what a guest binds,
//! listens on, connects to and looks up is decided in this process, with the pod's
//! identity known, and never reaches the host's network stack.
//!
//! - Streams between pods of one node are in-memory pipes ([`Stream`]).
//! - Streams to pods of other nodes share one mutual-TLS connection per peer.
//! - A ClusterIP is an endpoint chosen at connect time from a routing snapshot that
//!   [`Fabric::sync`] replaces as a whole.
//! - The host reaches in through node ports ([`Fabric::sync`] opens them) and
//!   [`Fabric::dial`]; guests reach out through host routes and, where
//!   [`Config::egress`] allows it, to addresses outside the cluster, never to the host's
//!   loopback or link-local addresses.
//!
//! State owned: the addresses and ports of attached sandboxes, the routing snapshot, the
//! listening sockets of node ports and the tunnel. It starts no timer and no task while
//! nothing is connected.
//!
//! Only TCP is carried: UDP and SCTP ports are reported as problems where they would need
//! a listening socket, and are otherwise absent.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod address;
mod egress;
mod error;
mod fabric;
mod grpc;
mod names;
mod node_ports;
mod pipe;
mod pod;
mod ports;
mod routes;
mod service;
mod stream;
mod tunnel;

pub use egress::Egress;
pub use error::Error;
pub use fabric::{AttachSpec, Config, Fabric, TunnelConfig};
pub use grpc::{NodeNetworkService, SYNC_BYTES_MAX, node_network_server};
pub use pod::{Bound, Listener, PodNet};
pub use ports::{BACKLOG_DEFAULT, BACKLOG_MAX};
pub use stream::Stream;
