//! What a starting cluster tells its user: a line per phase on a terminal, nothing otherwise.

use std::io::{IsTerminal as _, Write as _};
use std::time::Instant;

/// Reports phases on stderr.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    began: Instant,
    shown: bool,
}

impl Progress {
    /// Shows phases if stderr is a terminal.
    #[must_use]
    pub fn on_terminal() -> Self {
        Self { began: Instant::now(), shown: std::io::stderr().is_terminal() }
    }

    /// Shows nothing.
    #[must_use]
    pub fn quiet() -> Self {
        Self { began: Instant::now(), shown: false }
    }

    /// A phase is done; `what` says which, in a few words.
    pub fn done(&self, what: &str) {
        tracing::info!(elapsed_ms = self.elapsed_ms(), "{what}");
        if self.shown {
            // A closed terminal is no reason to stop a cluster.
            let _ = writeln!(std::io::stderr(), "{:>6} ms  {what}", self.elapsed_ms());
        }
    }

    /// Milliseconds since the start.
    #[must_use]
    pub fn elapsed_ms(&self) -> u128 {
        self.began.elapsed().as_millis()
    }
}
