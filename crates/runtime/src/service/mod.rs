//! CRI v1 over a node: requests in, replies out. What the operations mean is in `node`;
//! here are filters, statuses and the shape of messages.

mod filter;
mod images;
mod runtime;
mod stats;

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use futures::Stream;
use futures::stream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use crate::node::{Node, NodeError};

/// Items in one message of a streamed list.
const ITEMS_PER_MESSAGE: usize = 200;

/// The services of one node. Clones serve the same node.
#[derive(Clone)]
pub(crate) struct Cri {
    pub(crate) node: Arc<Node>,
    /// Where the runtime keeps its state, for statistics of the file system.
    pub(crate) state_dir: PathBuf,
    /// Ends streams that have no end of their own.
    pub(crate) shutdown: CancellationToken,
}

type Replies<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// A list in messages of a size that no limit of gRPC meets.
fn in_messages<I: Send + 'static, T: Send + 'static>(items: Vec<I>, message: fn(Vec<I>) -> T) -> Replies<T> {
    let mut items = items.into_iter();
    let chunks = std::iter::from_fn(move || {
        let chunk: Vec<I> = items.by_ref().take(ITEMS_PER_MESSAGE).collect();
        (!chunk.is_empty()).then(|| Ok(message(chunk)))
    });
    Box::pin(stream::iter(chunks))
}

impl From<NodeError> for Status {
    fn from(error: NodeError) -> Self {
        let code = match &error {
            NodeError::NotFound { .. } | NodeError::NoImage(_) => Code::NotFound,
            NodeError::Exists { .. } => Code::AlreadyExists,
            NodeError::WrongState(_) => Code::FailedPrecondition,
            NodeError::Spec(_) | NodeError::Ambiguous { .. } | NodeError::Program { .. } => {
                Code::InvalidArgument
            }
            NodeError::TooMany => Code::ResourceExhausted,
            NodeError::Network(coracle_network::Error::NoPodCidr) => Code::Unavailable,
            NodeError::Network(_) | NodeError::Log(_) | NodeError::State(_) => Code::Internal,
        };
        Self::new(code, with_causes(&error))
    }
}

/// An error and what caused it, in one line.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        // Some errors repeat their source in their own text.
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

/// What a later version does, by name.
fn not_here(what: &str) -> Status {
    Status::unimplemented(format!("{what} is not available in this version of the runtime"))
}
