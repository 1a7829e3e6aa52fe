//! What a controller's driver counts, rendered in Prometheus' text format.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Counters of one controller.
#[derive(Debug, Default)]
pub struct Metrics {
    reconciles: AtomicU64,
    failures: AtomicU64,
    conflicts: AtomicU64,
    writes: AtomicU64,
    busy_us: AtomicU64,
}

impl Metrics {
    /// One key was worked on for `took`.
    pub(super) fn reconciled(&self, took: Duration, failed: bool, conflicted: bool) {
        self.reconciles.fetch_add(1, Ordering::Relaxed);
        self.failures.fetch_add(u64::from(failed), Ordering::Relaxed);
        self.conflicts.fetch_add(u64::from(conflicted), Ordering::Relaxed);
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.busy_us.fetch_add(took_us, Ordering::Relaxed);
    }

    /// One object was written.
    pub(super) fn wrote(&self) {
        self.writes.fetch_add(1, Ordering::Relaxed);
    }

    /// How many keys were worked on.
    #[must_use]
    pub fn reconciles(&self) -> u64 {
        self.reconciles.load(Ordering::Relaxed)
    }

    /// How many objects were written.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.writes.load(Ordering::Relaxed)
    }

    /// Appends the counters with the label `controller`.
    pub fn render(&self, controller: &str, into: &mut String) {
        let rows = [
            ("coracle_controller_reconciles_total", &self.reconciles),
            ("coracle_controller_failures_total", &self.failures),
            ("coracle_controller_conflicts_total", &self.conflicts),
            ("coracle_controller_writes_total", &self.writes),
            ("coracle_controller_busy_microseconds_total", &self.busy_us),
        ];
        for (name, counter) in rows {
            let value = counter.load(Ordering::Relaxed);
            // Writing to a String cannot fail.
            let _ = writeln!(into, "{name}{{controller=\"{controller}\"}} {value}");
        }
    }
}
