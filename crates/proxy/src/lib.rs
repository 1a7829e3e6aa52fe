//! kube-proxy: watches Services, EndpointSlices and Nodes and programs a node's network
//! over the node network API, always with the full state and a growing generation.
//!
//! Changes are coalesced: the first one is sent at once, those that come while a sync is
//! under way or shortly after go together in the next. Nothing is sent while the routing is
//! the same. A network that was restarted is noticed and gets everything again. A node port
//! that cannot be opened becomes an event on its Service, and is tried again.
//!
//! State owned: what was sent last. It never decides where a connection goes: the rules are
//! in `plan::services`, the choice per connection is the network's.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod lifeline;
mod problems;
mod wire;

use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use coracle_client::events::Recorder;
use coracle_client::{Change, Informer, Informers, Subscription};
use coracle_cri::network::v1::node_network_client::NodeNetworkClient;
use coracle_plan::services::{Routing, node_matters, routing};
use k8s_openapi::api::core::v1::{Node, Service as KubeService};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic::transport::Channel;
use tracing::{debug, info, warn};

use crate::lifeline::Lifeline;
use crate::problems::Problems;

/// Between the ends of two syncs at least this long, and [`PAUSE_FACTOR`] times what the
/// last one took, so that a large cluster in motion costs a bounded share of a core.
const PAUSE_MIN: Duration = Duration::from_millis(5);
/// The longest pause: how stale a node's routing may be in a very large cluster.
const PAUSE_MAX: Duration = Duration::from_secs(1);
const PAUSE_FACTOR: u32 = 4;
/// Pauses after a failed sync, doubling.
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(5);
/// How often node ports that could not be opened are tried again.
const PROBLEM_RETRY: Duration = Duration::from_secs(10);
/// How long one sync may take; a network that does not answer is asked again.
const SYNC_TIMEOUT: Duration = Duration::from_secs(30);
/// Reported as the source of events.
const COMPONENT: &str = "kube-proxy";

/// What a proxy needs to know.
#[derive(Debug, Clone)]
pub struct Config {
    /// Name of the node whose network is programmed.
    pub node_name: String,
    /// The unix socket that serves the node network API, with or without `unix://`.
    pub network_endpoint: PathBuf,
    /// DNS suffix of the cluster, for example `cluster.local`.
    pub cluster_domain: String,
}

/// Why a proxy ended before its shutdown. What fails in the network is tried again instead.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Without informers nothing would be noticed any more.
    #[error("the informers ended before the proxy; they must live at least as long")]
    InformersEnded,
}

/// The proxy of one node.
pub struct Service {
    config: Config,
    client: kube::Client,
    informers: Informers,
}

impl Service {
    /// A proxy that has not started. The informers may be shared with other components.
    pub fn new(config: Config, client: kube::Client, informers: Informers) -> Self {
        Self { config, client, informers }
    }

    /// Keeps the network in step with the cluster until `shutdown`.
    ///
    /// # Errors
    /// [`Error::InformersEnded`].
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), Error> {
        let cluster = Cluster::new(&self.informers);
        let work = async {
            cluster.synced().await;
            let recorder = Recorder::new(self.client, COMPONENT, &self.config.node_name);
            Proxy::new(self.config, cluster, recorder).run().await;
        };
        match shutdown.run_until_cancelled(work).await {
            Some(()) if !shutdown.is_cancelled() => Err(Error::InformersEnded),
            _ => Ok(()),
        }
    }
}

/// The three kinds that routing is made of.
struct Cluster {
    services: Informer<KubeService>,
    slices: Informer<EndpointSlice>,
    nodes: Informer<Node>,
}

impl Cluster {
    fn new(informers: &Informers) -> Self {
        Self { services: informers.get(), slices: informers.get(), nodes: informers.get() }
    }

    async fn synced(&self) {
        tokio::join!(self.services.synced(), self.slices.synced(), self.nodes.synced());
    }

    fn routing(&self) -> Routing {
        routing(&self.services.list(), &self.slices.list(), &self.nodes.list())
    }

    fn changes(&self) -> Changes {
        Changes {
            services: self.services.subscribe(),
            slices: self.slices.subscribe(),
            nodes: self.nodes.subscribe(),
        }
    }
}

/// Tells when the cluster may have changed.
struct Changes {
    services: Subscription<KubeService>,
    slices: Subscription<EndpointSlice>,
    nodes: Subscription<Node>,
}

/// The informers have been shut down.
struct Ended;

impl Changes {
    /// Waits for a change that may matter, and takes all that are there already.
    async fn next(&mut self) -> Result<(), Ended> {
        loop {
            let matters = tokio::select! {
                change = self.services.next() => change.map(|_| true),
                change = self.slices.next() => change.map(|_| true),
                change = self.nodes.next() => change.as_ref().map(matters),
            };
            match matters {
                None => return Err(Ended),
                Some(true) => {
                    self.drain();
                    return Ok(());
                }
                Some(false) => {}
            }
        }
    }

    fn drain(&mut self) {
        while self.services.try_next().is_some() {}
        while self.slices.try_next().is_some() {}
        while self.nodes.try_next().is_some() {}
    }
}

fn matters(change: &Change<Node>) -> bool {
    match change {
        Change::Updated { old, new } => node_matters(old, new),
        Change::Added(_) | Change::Deleted(_) => true,
    }
}

/// The loop's state.
struct Proxy {
    config: Config,
    cluster: Cluster,
    network: NodeNetworkClient<Channel>,
    lifeline: Lifeline,
    problems: Problems,
    generation: u64,
    /// What the network has; `None` when that is not known.
    sent: Option<Routing>,
}

impl Proxy {
    fn new(config: Config, cluster: Cluster, recorder: Recorder) -> Self {
        let channel = coracle_cri::connect_lazy(&config.network_endpoint);
        Self {
            network: NodeNetworkClient::new(channel),
            lifeline: Lifeline::new(&config.network_endpoint),
            problems: Problems::new(recorder),
            generation: 0,
            sent: None,
            config,
            cluster,
        }
    }

    async fn run(mut self) {
        let mut changes = self.cluster.changes();
        let mut failures = 0;
        loop {
            let started = Instant::now();
            let pause = match self.sync().await {
                Ok(()) => {
                    failures = 0;
                    (started.elapsed() * PAUSE_FACTOR).clamp(PAUSE_MIN, PAUSE_MAX)
                }
                Err(status) => {
                    self.sent = None;
                    failures += 1;
                    debug!(%status, failures, "the node network was not programmed");
                    tokio::time::sleep(retry_pause(failures)).await;
                    continue;
                }
            };
            tokio::time::sleep(pause).await;
            if self.wait(&mut changes).await.is_err() {
                return;
            }
        }
    }

    /// Waits for a reason to sync again.
    async fn wait(&mut self, changes: &mut Changes) -> Result<(), Ended> {
        tokio::select! {
            change = changes.next() => change,
            () = self.lifeline.lost() => {
                info!("the node network has restarted");
                self.sent = None;
                Ok(())
            }
            () = tokio::time::sleep(PROBLEM_RETRY), if self.problems.any() => {
                self.sent = None;
                Ok(())
            }
        }
    }

    /// Sends the routing, unless the network has it.
    async fn sync(&mut self) -> Result<(), tonic::Status> {
        // Before the routing is sent, so that a restart in between is not missed.
        self.lifeline.hold().await.map_err(|error| tonic::Status::unavailable(error.to_string()))?;
        let routing = self.cluster.routing();
        if self.sent.as_ref() == Some(&routing) {
            return Ok(());
        }
        self.generation = next_generation(self.generation);
        let request = wire::request(&routing, self.generation, &self.config.cluster_domain);
        let answer = tokio::time::timeout(SYNC_TIMEOUT, self.network.sync(request))
            .await
            .map_err(|_| tonic::Status::deadline_exceeded("no answer to the sync"))?;
        let response = answer.inspect_err(report)?.into_inner();
        self.problems.update(&self.cluster.services, response.problems);
        self.sent = Some(routing);
        Ok(())
    }
}

/// A refusal is a fault of ours or of a second proxy, and worth a line; an absent network
/// is not.
fn report(status: &tonic::Status) {
    if !matches!(status.code(), Code::Unavailable | Code::Unimplemented) {
        warn!(%status, "the node network refused the routing");
    }
}

/// Grows across restarts of the proxy too, since it follows the clock.
fn next_generation(last: u64) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let micros = u64::try_from(now.as_micros()).unwrap_or(u64::MAX);
    micros.max(last.saturating_add(1))
}

fn retry_pause(failures: u32) -> Duration {
    let doubled = RETRY_MIN.saturating_mul(1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX));
    doubled.min(RETRY_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generations_grow() {
        let first = next_generation(0);
        assert!(first > 0);
        assert!(next_generation(first) > first);
        assert_eq!(next_generation(u64::MAX - 1), u64::MAX);
    }

    #[test]
    fn retries_slow_down_to_a_limit() {
        assert_eq!(retry_pause(1), RETRY_MIN);
        assert_eq!(retry_pause(2), RETRY_MIN * 2);
        assert_eq!(retry_pause(100), RETRY_MAX);
    }
}
