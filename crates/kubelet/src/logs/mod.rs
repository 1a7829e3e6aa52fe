//! Container logs in the format that CRI runtimes write: one entry per line,
//! `<RFC 3339 time> <stdout|stderr> <P|F> <content>`, where `P` entries continue in the
//! next one.

mod follow;
mod line;
mod tail;

use std::path::PathBuf;

use jiff::Timestamp;

pub(crate) use follow::copy;

/// What a reader of a log wants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LogOptions {
    /// Go on as the log grows, until the container ends.
    pub(crate) follow: bool,
    /// Only the last so many lines.
    pub(crate) tail_lines: Option<u64>,
    /// Stop after so many bytes.
    pub(crate) limit_bytes: Option<u64>,
    /// Only what was written from this time on.
    pub(crate) since: Option<Timestamp>,
    /// Begin each line with its time.
    pub(crate) timestamps: bool,
}

/// A log to read.
pub(crate) struct LogSource<F> {
    /// The file that the runtime writes now; rotated ones have other names.
    pub(crate) path: PathBuf,
    /// Whether the container still runs.
    pub(crate) running: F,
}
