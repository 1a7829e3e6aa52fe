//! The Node object: registered at once, Ready as soon as runtime and network are, and kept
//! alive by a Lease.
//!
//! Nothing here waits on a clock to become Ready: the Node's own watch delivers its pod
//! CIDR, the runtime is configured with it, and its answer decides. After that the runtime
//! is asked every few seconds, and a change is written at once.

mod capacity;
mod lease;
mod object;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use coracle_client::Informers;
use coracle_client::events::Type;
use k8s_openapi::api::core::v1::{Node, ObjectReference};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::objects::api_message;
use crate::shared::Shared;
use object::{Health, Images};

/// How often the runtime is asked how it is.
const CHECK_PERIOD: Duration = Duration::from_secs(10);
/// How long the runtime may take to say how it is before it counts as hung.
const CHECK_LIMIT: Duration = Duration::from_secs(5);
/// How often the list of images is refreshed.
const IMAGES_PERIOD: Duration = Duration::from_secs(60);
/// How often the status is written although nothing changed.
const REPORT_PERIOD: Duration = Duration::from_secs(300);
/// The pause after a failed request: from the first to the longest.
const RETRY: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(10));

/// Registers the node and keeps its object true until shutdown.
pub(crate) async fn run(
    shared: Arc<Shared>,
    informers: Informers,
    api_address: SocketAddr,
    shutdown: CancellationToken,
) {
    let work = async {
        let reporter = Reporter::new(&shared, api_address);
        let uid = reporter.register().await;
        let lease = lease::keep(&shared.client, &shared.config.node_name, &uid);
        tokio::join!(lease, reporter.keep(informers, uid.clone()));
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = work => {}
    }
}

/// Writes the Node.
struct Reporter<'a> {
    shared: &'a Shared,
    api: Api<Node>,
    api_address: SocketAddr,
    capacity: capacity::Capacity,
}

impl<'a> Reporter<'a> {
    fn new(shared: &'a Shared, api_address: SocketAddr) -> Self {
        let config = &shared.config;
        let capacity = capacity::Capacity::of_machine(&config.state_dir, config.pods_max);
        shared.update_facts(|facts| {
            facts.allocatable_cpu_milli = i128::from(capacity.cpus) * 1000;
            facts.allocatable_memory = i128::from(capacity.memory_bytes);
            facts.allocatable_ephemeral = i128::from(capacity.disk_bytes);
        });
        Self { shared, api: Api::all(shared.client.clone()), api_address, capacity }
    }

    /// Creates the Node, or brings an older one's metadata up to date; its uid.
    async fn register(&self) -> String {
        let mut pause = RETRY.0;
        loop {
            match self.try_register().await {
                Ok(node) => return node.metadata.uid.unwrap_or_default(),
                Err(error) => {
                    let message = api_message(&error);
                    tracing::warn!(%message, "the node cannot be registered yet");
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY.1);
        }
    }

    async fn try_register(&self) -> Result<Node, kube::Error> {
        let config = &self.shared.config;
        let health = Health::starting();
        let mut node = object::node(config);
        node.status =
            Some(object::status(config, self.api_address, self.capacity, &health, None, &Images::default()));
        match self.api.create(&PostParams::default(), &node).await {
            Err(kube::Error::Api(status)) if status.is_already_exists() => {
                let patch = object::metadata_patch(&node);
                let params = PatchParams::default();
                self.api.patch(&config.node_name, &params, &Patch::Strategic(patch)).await
            }
            other => other,
        }
    }

    /// Keeps the status true; never ends.
    async fn keep(&self, informers: Informers, uid: String) {
        let selector = format!("metadata.name={}", self.shared.config.node_name);
        let nodes = informers.get_filtered::<Node>(None, Some(&selector));
        let mut changes = nodes.subscribe();
        let mut state = State::default();
        let mut pause = Duration::ZERO;
        loop {
            tokio::select! {
                change = changes.next() => match change {
                    Some(change) => state.node = Some(Arc::clone(change.object())),
                    None => return,
                },
                () = tokio::time::sleep(pause) => {}
            }
            while let Err(message) = self.check_and_report(&mut state, &uid).await {
                tracing::warn!(%message, "the node's status cannot be written");
                tokio::time::sleep(state.back_off()).await;
            }
            // A runtime that is about to come up is asked often, a healthy one now and then.
            let ready = *self.shared.node_ready.borrow();
            pause = if ready { CHECK_PERIOD } else { (pause * 2).clamp(RETRY.0, CHECK_PERIOD) };
        }
    }

    /// Asks the runtime how it is and writes what changed.
    async fn check_and_report(&self, state: &mut State, uid: &str) -> Result<(), String> {
        let health = self.check(state).await;
        if health.ready() != *self.shared.node_ready.borrow() {
            self.announce(&health, uid);
        }
        self.shared.node_ready.send_replace(health.ready());
        self.refresh_images(state, &health).await;
        let Some(node) = state.node.clone() else { return Ok(()) };
        let status = object::status(
            &self.shared.config,
            self.api_address,
            self.capacity,
            &health,
            state.written.as_ref().or(node.status.as_ref()),
            &state.images,
        );
        let due = state.reported_at.is_none_or(|at| at.elapsed() >= REPORT_PERIOD);
        // The node lifecycle controller marks nodes that it has not heard of.
        let overruled = node.status.as_ref().map(object::readiness) != Some(object::readiness(&status));
        if !due && !overruled && !object::differs(state.written.as_ref(), &status) {
            return Ok(());
        }
        let patch = Patch::Strategic(object::status_patch(&status));
        let params = PatchParams::default();
        let name = &self.shared.config.node_name;
        match self.api.patch_status(name, &params, &patch).await {
            Ok(_) => {
                state.written = Some(status);
                state.reported_at = Some(Instant::now());
                state.pause = None;
                Ok(())
            }
            Err(kube::Error::Api(error)) if error.is_not_found() => {
                // Deleted behind our back: come back as a new Node.
                state.written = None;
                self.register().await;
                Ok(())
            }
            Err(error) => Err(api_message(&error)),
        }
    }

    /// What the runtime says of itself, once it knows the node's addresses.
    async fn check(&self, state: &mut State) -> Health {
        let runtime = &self.shared.runtime;
        if state.runtime_version.is_none() {
            match tokio::time::timeout(CHECK_LIMIT, runtime.version()).await {
                Ok(Ok(v)) => {
                    state.runtime_version = Some(format!("{}://{}", v.runtime_name, v.runtime_version));
                }
                Ok(Err(error)) => return Health::down(&error.to_string()),
                Err(_) => return Health::hung(CHECK_LIMIT),
            }
        }
        let spec = state.node.as_ref().and_then(|node| node.spec.as_ref());
        let cidr = spec.and_then(|s| s.pod_cidr.clone()).filter(|c| !c.is_empty());
        if let Some(cidr) = cidr
            && state.cidr.as_ref() != Some(&cidr)
        {
            if let Err(error) = runtime.set_pod_cidr(cidr.clone()).await {
                return Health::down(&error.to_string());
            }
            state.cidr = Some(cidr);
        }
        match tokio::time::timeout(CHECK_LIMIT, runtime.status()).await {
            Ok(Ok(answer)) => Health::of(&answer, state.runtime_version.clone()),
            Ok(Err(error)) => {
                // A new runtime process has to be told again.
                state.cidr = None;
                state.runtime_version = None;
                Health::down(&error.to_string())
            }
            Err(_) => Health::hung(CHECK_LIMIT),
        }
    }

    async fn refresh_images(&self, state: &mut State, health: &Health) {
        let fresh = state.images_at.is_some_and(|at| at.elapsed() < IMAGES_PERIOD);
        if fresh || !health.ready() {
            return;
        }
        if let Ok(images) = self.shared.runtime.list_images().await {
            state.images = Images::of(&images);
            state.images_at = Some(Instant::now());
        }
    }

    fn announce(&self, health: &Health, uid: &str) {
        let name = &self.shared.config.node_name;
        let reference = ObjectReference {
            kind: Some("Node".to_owned()),
            name: Some(name.clone()),
            uid: Some(uid.to_owned()),
            ..ObjectReference::default()
        };
        let word = if health.ready() { "NodeReady" } else { "NodeNotReady" };
        let message = format!("Node {name} status is now: {word}");
        self.shared.recorder.event(&reference, Type::Normal, word, &message);
    }
}

/// What is known of the node between two reports.
#[derive(Default)]
struct State {
    node: Option<Arc<Node>>,
    /// What the runtime was told.
    cidr: Option<String>,
    runtime_version: Option<String>,
    images: Images,
    images_at: Option<Instant>,
    written: Option<k8s_openapi::api::core::v1::NodeStatus>,
    reported_at: Option<Instant>,
    pause: Option<Duration>,
}

impl State {
    fn back_off(&mut self) -> Duration {
        let next = self.pause.map_or(RETRY.0, |pause| (pause * 2).min(RETRY.1));
        self.pause = Some(next);
        next
    }
}
