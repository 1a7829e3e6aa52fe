//! [`Reply`]: what the registry answers, before the front gives it HTTP form.

use bytes::{Bytes, BytesMut};
use futures::stream::BoxStream;

/// Pieces of a list are joined up to this size, in bytes: large enough that a piece costs
/// nothing to frame, small enough that a list of gigabytes is never one allocation.
const PIECE_BYTES: usize = 256 * 1024;

/// The frames of a watch: each one or more JSON events, every one with a line feed. The stream ends when the
/// watch does (timeout, error event, slow reader, shutdown).
pub type Frames = BoxStream<'static, Bytes>;

/// An answer of the registry. Bodies are JSON, already in the form (object, Table or
/// metadata only) that the call negotiated; the front only transcodes to YAML or compresses.
pub enum Reply {
    /// An object, list, Table or Status.
    Object {
        /// The HTTP status code: 200, 201 or 202.
        code: u16,
        /// The JSON document.
        body: Pieces,
        /// Texts for `Warning: 299` headers.
        warnings: Vec<String>,
    },
    /// A watch: 200, `Transfer-Encoding: chunked`.
    Watch {
        /// The events.
        frames: Frames,
        /// Texts for `Warning: 299` headers.
        warnings: Vec<String>,
    },
}

impl Reply {
    /// An answer of one JSON document without warnings.
    #[must_use]
    pub fn object(code: u16, body: Bytes) -> Self {
        Self::Object { code, body: Pieces::from(body), warnings: Vec::new() }
    }

    /// The same answer with `warnings` added to those it has.
    #[must_use]
    pub fn with_warnings(mut self, more: Vec<String>) -> Self {
        match &mut self {
            Self::Object { warnings, .. } | Self::Watch { warnings, .. } => warnings.extend(more),
        }
        self
    }
}

/// A JSON document in a few pieces, so that long lists need no single allocation.
#[derive(Debug, Clone, Default)]
pub struct Pieces {
    done: Vec<Bytes>,
    open: BytesMut,
}

impl Pieces {
    /// Room for about `bytes`.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Self { done: Vec::new(), open: BytesMut::with_capacity(bytes.min(PIECE_BYTES)) }
    }

    /// Appends text.
    pub fn push(&mut self, text: &[u8]) {
        self.open.extend_from_slice(text);
        if self.open.len() >= PIECE_BYTES {
            let piece = std::mem::replace(&mut self.open, BytesMut::with_capacity(PIECE_BYTES));
            self.done.push(piece.freeze());
        }
    }

    /// Length of the document in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.done.iter().map(Bytes::len).sum::<usize>() + self.open.len()
    }

    /// Whether nothing was pushed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The pieces, in order.
    #[must_use]
    pub fn into_vec(mut self) -> Vec<Bytes> {
        if !self.open.is_empty() {
            self.done.push(self.open.freeze());
        }
        self.done
    }

    /// The whole document in one piece; copies only when there are several.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        let mut pieces = self.into_vec();
        if pieces.len() == 1 {
            return pieces.pop().unwrap_or_default();
        }
        let mut joined = BytesMut::with_capacity(pieces.iter().map(Bytes::len).sum());
        for piece in &pieces {
            joined.extend_from_slice(piece);
        }
        joined.freeze()
    }
}

impl From<Bytes> for Pieces {
    fn from(bytes: Bytes) -> Self {
        Self { done: vec![bytes], open: BytesMut::new() }
    }
}
