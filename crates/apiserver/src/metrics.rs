//! What `/metrics` tells, in the OpenMetrics text format and with kube-apiserver's names.
//!
//! Labels come only from the resource table and fixed sets, never from what a client sends,
//! so that the number of series is bounded.

use std::fmt::Write as _;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use coracle_store::{Kv, StoreStatus};
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Upper bounds of the latency buckets, in seconds: our aim is below a millisecond, the
/// longest non-streaming request takes sixty seconds.
const LATENCY_BUCKETS_S: [f64; 14] =
    [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 20.0, 60.0];

/// Labels of a finished request.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct RequestLabels {
    pub(crate) verb: &'static str,
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) resource: String,
    pub(crate) subresource: String,
    pub(crate) scope: &'static str,
    pub(crate) code: u16,
}

/// Labels of a request's latency: no code, so that there are fewer histograms.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LatencyLabels {
    verb: &'static str,
    group: String,
    version: String,
    resource: String,
    subresource: String,
    scope: &'static str,
}

/// Labels of what is under way.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InFlightLabels {
    request_kind: &'static str,
}

/// Labels of watches and other long-running requests.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LongLabels {
    verb: &'static str,
    group: String,
    resource: String,
}

type Latency = Family<LatencyLabels, Histogram, fn() -> Histogram>;

fn latency_histogram() -> Histogram {
    Histogram::new(LATENCY_BUCKETS_S)
}

/// The figures of one API server.
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    latency: Latency,
    in_flight: Family<InFlightLabels, Gauge>,
    long_running: Family<LongLabels, Gauge>,
    refused: Counter,
    store_revision: Gauge,
    store_compacted: Gauge,
    store_bytes: Gauge<f64, AtomicU64>,
    store_leader: Gauge,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut new = Self {
            registry: Registry::default(),
            requests: Family::default(),
            latency: Latency::new_with_constructor(latency_histogram),
            in_flight: Family::default(),
            long_running: Family::default(),
            refused: Counter::default(),
            store_revision: Gauge::default(),
            store_compacted: Gauge::default(),
            store_bytes: Gauge::default(),
            store_leader: Gauge::default(),
        };
        let r = &mut new.registry;
        r.register("apiserver_request", "Requests answered", new.requests.clone());
        r.register("apiserver_request_duration_seconds", "Time to answer a request", new.latency.clone());
        r.register("apiserver_current_inflight_requests", "Requests under way", new.in_flight.clone());
        r.register(
            "apiserver_longrunning_requests",
            "Watches and streams under way",
            new.long_running.clone(),
        );
        r.register("apiserver_dropped_requests", "Requests refused for load", new.refused.clone());
        r.register("coracle_store_revision", "Newest revision of the store", new.store_revision.clone());
        r.register("coracle_store_compact_revision", "Oldest revision kept", new.store_compacted.clone());
        r.register("apiserver_storage_size_bytes", "Size of the store's state file", new.store_bytes.clone());
        r.register("coracle_store_leader", "Whether this member leads", new.store_leader.clone());
        new
    }

    /// Counts a finished request.
    pub(crate) fn answered(&self, labels: &RequestLabels, took: Option<Duration>) {
        self.requests.get_or_create(labels).inc();
        let Some(took) = took else { return };
        let latency = LatencyLabels {
            verb: labels.verb,
            group: labels.group.clone(),
            version: labels.version.clone(),
            resource: labels.resource.clone(),
            subresource: labels.subresource.clone(),
            scope: labels.scope,
        };
        self.latency.get_or_create(&latency).observe(took.as_secs_f64());
    }

    /// Counts a request as under way until the guard is dropped.
    pub(crate) fn start(&self, write: bool) -> Running {
        let labels = InFlightLabels { request_kind: if write { "mutating" } else { "readOnly" } };
        Running::new(self.in_flight.get_or_create_owned(&labels))
    }

    /// Counts a watch or stream as under way until the guard is dropped.
    pub(crate) fn start_long(&self, verb: &'static str, group: &str, resource: &str) -> Running {
        let labels = LongLabels { verb, group: group.to_owned(), resource: resource.to_owned() };
        Running::new(self.long_running.get_or_create_owned(&labels))
    }

    /// Counts a request that was refused for load.
    pub(crate) fn refused(&self) {
        self.refused.inc();
    }

    /// The text of `/metrics`. Figures of the store are taken now.
    pub(crate) async fn render(&self, kv: &dyn Kv) -> String {
        if let Ok(StoreStatus { revision, compact_revision, db_bytes, leader, .. }) = kv.status().await {
            self.store_revision.set(revision);
            self.store_compacted.set(compact_revision);
            self.store_bytes.set(db_bytes as f64);
            self.store_leader.set(i64::from(leader));
        }
        let mut out = String::new();
        if text::encode(&mut out, &self.registry).is_err() {
            out.clear();
            // Writing to a string cannot fail; an empty exposition is still a valid one.
            let _ = out.write_str("# EOF\n");
        }
        out
    }
}

/// Keeps a gauge one higher while it lives.
pub(crate) struct Running(Gauge);

impl Running {
    fn new(gauge: Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.dec();
    }
}
