//! What the parts of one kubelet share.

use std::sync::Arc;

use coracle_client::Informer;
use coracle_client::events::{Recorder, Type};
use coracle_plan::kubelet::NodeFacts;
use k8s_openapi::api::core::v1::{ObjectReference, Service};
use kube::Client;
use parking_lot::RwLock;
use tokio::sync::{Semaphore, watch};

use crate::config::Config;
use crate::convert::PodId;
use crate::cri::Runtime;
use crate::objects::Objects;
use crate::pods::Pods;
use crate::probes::Probes;

/// Everything that more than one part of a kubelet needs.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) client: Client,
    pub(crate) runtime: Runtime,
    pub(crate) recorder: Recorder,
    pub(crate) objects: Objects,
    pub(crate) services: Informer<Service>,
    pub(crate) pods: Pods,
    pub(crate) probes: Probes,
    /// Whether runtime and network can take sandboxes.
    pub(crate) node_ready: watch::Sender<bool>,
    /// Turns of writing pod statuses.
    pub(crate) status_writes: Semaphore,
    facts: RwLock<Arc<NodeFacts>>,
}

/// Status writes of all pods at the same time; more wait their turn.
const STATUS_WRITES_MAX: usize = 32;

impl Shared {
    pub(crate) fn new(
        config: Config,
        client: Client,
        recorder: Recorder,
        services: Informer<Service>,
    ) -> Self {
        let facts = NodeFacts {
            name: config.node_name.clone(),
            host_ips: vec![config.node_ip.to_string()],
            runtime_name: "coracle".to_owned(),
            ..NodeFacts::default()
        };
        Self {
            runtime: Runtime::new(&config.runtime_endpoint),
            objects: Objects::new(client.clone()),
            pods: Pods::new(),
            probes: Probes::new(),
            node_ready: watch::Sender::new(false),
            status_writes: Semaphore::new(STATUS_WRITES_MAX),
            facts: RwLock::new(Arc::new(facts)),
            config,
            client,
            recorder,
            services,
        }
    }

    /// What is known of the node.
    pub(crate) fn facts(&self) -> Arc<NodeFacts> {
        Arc::clone(&self.facts.read())
    }

    /// Changes what is known of the node.
    pub(crate) fn update_facts(&self, change: impl FnOnce(&mut NodeFacts)) {
        let mut facts = self.facts.write();
        change(Arc::make_mut(&mut *facts));
    }

    /// Records an event about a pod, or about a part of it.
    pub(crate) fn event(
        &self,
        pod: &PodId,
        field_path: Option<String>,
        kind: Type,
        reason: &str,
        message: &str,
    ) {
        let reference = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            name: Some(pod.name.clone()),
            namespace: Some(pod.namespace.clone()),
            uid: Some(pod.uid.clone()),
            field_path,
            ..ObjectReference::default()
        };
        self.recorder.event(&reference, kind, reason, message);
    }
}
