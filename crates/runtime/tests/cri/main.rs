//! The runtime as a kubelet meets it: over its unix socket, with the sample images, on a
//! real fabric.
#![allow(clippy::unwrap_used, missing_docs)]

mod commands;
mod http;
mod images;
mod lifecycle;
mod limits;
mod restart;
mod sockets;
mod support;
