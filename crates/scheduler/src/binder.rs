//! Writes what the scheduler decided: many bindings at a time, each on its own.

use std::sync::Arc;
use std::time::Duration;

use coracle_plan::scheduler::framework::{Action, CycleState};
use coracle_plan::scheduler::pod_info::PodInfo;
use k8s_openapi::api::core::v1::{Binding, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::PostParams;
use serde_json::Value;
use tokio::task::JoinSet;
use tracing::error;

/// Bindings that are being written at once. The scheduler decides no further pod while so
/// many are under way: more in flight would only wait in the API server.
const BINDINGS_MAX: usize = 128;
/// How long writing one may take.
const WRITE_TIMEOUT: Duration = Duration::from_secs(15);

/// The bindings under way.
pub(crate) struct Binder {
    client: kube::Client,
    tasks: JoinSet<Outcome>,
}

/// What became of a binding.
pub(crate) struct Outcome {
    pub(crate) pod: Arc<PodInfo>,
    pub(crate) node: Arc<str>,
    pub(crate) state: CycleState,
    pub(crate) result: Result<(), BindError>,
}

/// A binding was not written, or nobody knows whether it was.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BindError {
    #[error("the pod is gone")]
    Gone,
    #[error("{0}")]
    Refused(String),
    #[error("no answer within {} s", WRITE_TIMEOUT.as_secs())]
    TimedOut,
    #[error("{0}")]
    Failed(#[source] Box<kube::Error>),
}

impl Binder {
    pub(crate) fn new(client: kube::Client) -> Self {
        Self { client, tasks: JoinSet::new() }
    }

    /// Whether another binding may start.
    pub(crate) fn has_room(&self) -> bool {
        self.tasks.len() < BINDINGS_MAX
    }

    /// Starts to carry out the actions that bind a pod.
    pub(crate) fn start(
        &mut self,
        pod: Arc<PodInfo>,
        node: Arc<str>,
        state: CycleState,
        actions: Vec<Action>,
    ) {
        let client = self.client.clone();
        self.tasks.spawn(async move {
            let written = tokio::time::timeout(WRITE_TIMEOUT, carry_out(client, actions)).await;
            let result = written.unwrap_or(Err(BindError::TimedOut));
            Outcome { pod, node, state, result }
        });
    }

    /// The next one that ends; waits for ever while none is under way. Cancel safe.
    pub(crate) async fn next(&mut self) -> Outcome {
        loop {
            match self.tasks.join_next().await {
                Some(Ok(outcome)) => return outcome,
                Some(Err(fault)) => error!(%fault, "a binding was lost"),
                None => std::future::pending().await,
            }
        }
    }

    /// The next one that has ended already.
    pub(crate) fn try_next(&mut self) -> Option<Outcome> {
        loop {
            match self.tasks.try_join_next()? {
                Ok(outcome) => return Some(outcome),
                Err(fault) => error!(%fault, "a binding was lost"),
            }
        }
    }
}

async fn carry_out(client: kube::Client, actions: Vec<Action>) -> Result<(), BindError> {
    for action in actions {
        match action {
            Action::Bind { namespace, name, uid, node } => {
                let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
                let binding = binding(namespace, &name, uid, node);
                let written: Result<Value, kube::Error> =
                    pods.create_subresource("binding", &name, &PostParams::default(), &binding).await;
                written.map_err(classify)?;
            }
        }
    }
    Ok(())
}

fn binding(namespace: String, name: &str, uid: Option<String>, node: String) -> Binding {
    Binding {
        metadata: ObjectMeta {
            namespace: Some(namespace),
            name: Some(name.to_owned()),
            uid,
            ..ObjectMeta::default()
        },
        target: ObjectReference {
            kind: Some("Node".to_owned()),
            name: Some(node),
            ..ObjectReference::default()
        },
    }
}

fn classify(error: kube::Error) -> BindError {
    match error {
        kube::Error::Api(status) if status.code == 404 => BindError::Gone,
        kube::Error::Api(status) => BindError::Refused(status.message),
        other => BindError::Failed(Box::new(other)),
    }
}
