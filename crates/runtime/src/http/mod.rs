//! HTTP on either side of a guest: requests that come to a `wasi:http/proxy` component,
//! and requests that any guest sends.

mod outgoing;
mod server;

pub(crate) use outgoing::OutgoingHttp;
pub(crate) use server::{Served, Server};
