//! The runtime as a kubelet meets it: over its unix socket, with the sample images, on a
//! real fabric.
#![allow(clippy::unwrap_used, missing_docs)]
// The messages of CRI are large, and tests await them where they stand.
#![allow(clippy::large_futures)]

mod commands;
mod http;
mod images;
mod lifecycle;
mod limits;
mod restart;
mod sockets;
mod support;
