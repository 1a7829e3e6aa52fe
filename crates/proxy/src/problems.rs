//! Node ports that could not be opened, as events on their Services. A problem is told when
//! it appears or changes, not with every sync that meets it again.

use coracle_client::Informer;
use coracle_client::events::{Recorder, Type};
use coracle_cri::network::v1::PortProblem;
use k8s_openapi::api::core::v1::{ObjectReference, Service};
use tracing::warn;

/// Reason of the events.
const REASON: &str = "NodePortUnavailable";

/// The problems of the last sync.
pub(crate) struct Problems {
    recorder: Recorder,
    known: Vec<PortProblem>,
}

impl Problems {
    pub(crate) fn new(recorder: Recorder) -> Self {
        Self { recorder, known: Vec::new() }
    }

    /// Whether there are any.
    pub(crate) fn any(&self) -> bool {
        !self.known.is_empty()
    }

    /// Takes in those of a sync.
    pub(crate) fn update(&mut self, services: &Informer<Service>, problems: Vec<PortProblem>) {
        for problem in problems.iter().filter(|problem| !self.known.contains(problem)) {
            warn!(
                namespace = problem.namespace,
                service = problem.service,
                port = problem.node_port,
                message = problem.message,
                "node port not opened"
            );
            let Some(service) = services.get(Some(&problem.namespace), &problem.service) else {
                continue;
            };
            let message = format!("node port {}: {}", problem.node_port, problem.message);
            self.recorder.event(&reference(&service), Type::Warning, REASON, &message);
        }
        self.known = problems;
    }
}

fn reference(service: &Service) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Service".to_owned()),
        namespace: service.metadata.namespace.clone(),
        name: service.metadata.name.clone(),
        uid: service.metadata.uid.clone(),
        resource_version: service.metadata.resource_version.clone(),
        ..ObjectReference::default()
    }
}
