//! Logging: to stderr, as text or JSON lines.

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Starts logging. `RUST_LOG` wins over `verbosity` (0 warnings, 1 info, 2 debug, 3 trace of
/// Coracle's own crates). Only the first call in a process has an effect.
pub fn init(verbosity: u8, format: Format) {
    let level = match verbosity {
        0 => "warn",
        1 => "info",
        2 => "debug",
        _ => "trace",
    };
    // Libraries stay at warnings unless RUST_LOG says otherwise. openraft warns of every
    // caller that did not wait for its answer.
    let default = format!(
        "warn,openraft=error,coracle={level},{}",
        OWN_CRATES.map(|c| format!("{c}={level}")).join(",")
    );
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // An error says that a subscriber is set already, as when tests start several clusters.
    let _ = match format {
        Format::Text => builder.with_target(true).try_init(),
        Format::Json => builder.json().try_init(),
    };
}

const OWN_CRATES: [&str; 12] = [
    "coracle_apiserver",
    "coracle_client",
    "coracle_controllers",
    "coracle_images",
    "coracle_kubelet",
    "coracle_network",
    "coracle_pki",
    "coracle_proxy",
    "coracle_runtime",
    "coracle_scheduler",
    "coracle_store",
    "coracle_testkit",
];
