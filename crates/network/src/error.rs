//! What can go wrong in the fabric, in terms a socket user knows. One enum serves all
//! operations because a guest's socket call can meet any of them; the variants are the
//! distinctions that `wasi:sockets` error codes make.

use std::io;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

/// An operation of the fabric failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody listens there, or a Service has no usable endpoint (`connection-refused`).
    #[error("connect to {0}: connection refused")]
    ConnectionRefused(SocketAddr),
    /// The other side did not take the connection in time (`timeout`).
    #[error("connect to {0}: timed out")]
    TimedOut(SocketAddr),
    /// No way leads there (`remote-unreachable`).
    #[error("connect to {to}: unreachable: {why}")]
    Unreachable {
        /// The address that was asked for.
        to: SocketAddr,
        /// What is missing.
        why: String,
    },
    /// The address is one that guests may not reach (`access-denied`).
    #[error("connect to {to}: denied: {why}")]
    AccessDenied {
        /// The address that was asked for.
        to: SocketAddr,
        /// The rule that forbids it.
        why: &'static str,
    },
    /// Another socket of the pod, or another pod, has the address (`address-in-use`).
    #[error("address {0} is in use")]
    AddressInUse(SocketAddr),
    /// The pod does not own the address (`address-not-bindable`).
    #[error("address {0} does not belong to the pod")]
    AddressNotAvailable(IpAddr),
    /// Every ephemeral port of the pod is taken (`new-socket-limit`).
    #[error("no free port at {0}")]
    PortsExhausted(IpAddr),
    /// Every address of the node's pod range is taken.
    #[error("no free pod address in {0}")]
    AddressesExhausted(IpNet),
    /// The requested pod address is outside the node's range, or reserved.
    #[error("{address} is not a pod address of {cidr}")]
    AddressOutOfRange {
        /// The requested address.
        address: IpAddr,
        /// The node's pod range.
        cidr: IpNet,
    },
    /// The node has no pod range yet; it comes with the runtime configuration.
    #[error("the node has no pod address range yet")]
    NoPodCidr,
    /// A sandbox with this id is attached already.
    #[error("sandbox {0} is already attached")]
    SandboxExists(String),
    /// No sandbox with this id is attached.
    #[error("sandbox {0} is not attached")]
    SandboxUnknown(String),
    /// The pod has left the network.
    #[error("the pod is detached from the network")]
    Detached,
    /// The name does not exist (`name-unresolvable`).
    #[error("{0}: no such host")]
    NameNotFound(String),
    /// A sync request is older than what is in force.
    #[error("generation {offered} is older than {current}, which is in force")]
    StaleGeneration {
        /// Generation of the refused request.
        offered: u64,
        /// Generation in force.
        current: u64,
    },
    /// A sync request holds something that the fabric cannot mean.
    #[error("invalid sync request: {0}")]
    InvalidRequest(String),
    /// A socket of the host could not be opened at start.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address of the host network.
        address: SocketAddr,
        /// The system's answer.
        source: io::Error,
    },
    /// The fabric was created outside of a Tokio runtime, or its runtime is gone.
    #[error("the fabric has no running Tokio runtime")]
    NoRuntime,
}

impl Error {
    /// The nearest `io::ErrorKind`, for callers that speak `std::io`.
    pub fn io_kind(&self) -> io::ErrorKind {
        match self {
            Self::ConnectionRefused(_) => io::ErrorKind::ConnectionRefused,
            Self::TimedOut(_) => io::ErrorKind::TimedOut,
            Self::Unreachable { .. } => io::ErrorKind::HostUnreachable,
            Self::AccessDenied { .. } => io::ErrorKind::PermissionDenied,
            Self::AddressInUse(_) => io::ErrorKind::AddrInUse,
            Self::AddressNotAvailable(_)
            | Self::PortsExhausted(_)
            | Self::AddressesExhausted(_)
            | Self::AddressOutOfRange { .. } => io::ErrorKind::AddrNotAvailable,
            Self::NoPodCidr | Self::Detached | Self::NoRuntime => io::ErrorKind::NetworkDown,
            Self::SandboxExists(_) => io::ErrorKind::AlreadyExists,
            Self::SandboxUnknown(_) | Self::NameNotFound(_) => io::ErrorKind::NotFound,
            Self::StaleGeneration { .. } | Self::InvalidRequest(_) => io::ErrorKind::InvalidInput,
            Self::Listen { source, .. } => source.kind(),
        }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        Self::new(error.io_kind(), error)
    }
}
