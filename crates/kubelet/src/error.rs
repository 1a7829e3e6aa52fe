//! Why a kubelet cannot go on. Anything about one pod is in that pod's status and events,
//! and anything that may heal is retried and shows in the Node's conditions.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// A kubelet that cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A directory that it must own cannot be made.
    #[error("cannot make the directory {path}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The node API's address is taken or not this machine's.
    #[error("the node API cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The node has no name.
    #[error("a node must have a name")]
    NoName,
}
