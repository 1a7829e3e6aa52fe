//! The pod lifecycle event generator: follows the runtime's events, and lists everything
//! once after each (re)connection and every minute, in case an event went missing.
//!
//! It also ends what belongs to no pod: sandboxes left by pods that were deleted while no
//! kubelet ran.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use coracle_client::{Change, Informer};
use coracle_cri::runtime::v1 as cri;
use k8s_openapi::api::core::v1::Pod;
use tokio_util::sync::CancellationToken;

use crate::convert::uid_of;
use crate::cri::CallError;
use crate::pods::Found;
use crate::shared::Shared;
use crate::volumes;

/// How often everything is listed although no event asked for it.
const RELIST_PERIOD: Duration = Duration::from_secs(60);
/// The pause before the runtime is asked again: from the first failure to the longest.
const RETRY: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(1));

/// Follows the runtime until shutdown, and hands the pods of this node to their workers.
pub(crate) async fn run(shared: Arc<Shared>, pods: Informer<Pod>, shutdown: CancellationToken) {
    let mut changes = pods.subscribe();
    let mut start = tokio::select! {
        () = shutdown.cancelled() => return,
        found = first_list(&shared) => found,
    };
    tokio::select! {
        () = shutdown.cancelled() => return,
        () = pods.synced() => {}
    }
    // Every pod has its entry before the first list may call a sandbox nobody's.
    for pod in pods.list() {
        shared.pods.changed(&shared, &Change::Added(pod), &mut start);
    }
    let feed = async {
        while let Some(change) = changes.next().await {
            shared.pods.changed(&shared, &change, &mut start);
        }
    };
    let follow = async {
        // What was there before, and belongs to nobody, goes as soon as the pods are known.
        remove_leftovers(&shared, &pods).await;
        follow(&shared).await;
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = feed => {}
        () = follow => {}
    }
}

/// Lists everything, as soon as the runtime answers at all.
async fn first_list(shared: &Arc<Shared>) -> HashMap<String, Found> {
    let mut pause = RETRY.0;
    loop {
        match introduce(shared).await {
            Ok(found) => return found,
            Err(error) => tracing::debug!(%error, "waiting for the container runtime"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RETRY.1);
    }
}

async fn introduce(shared: &Arc<Shared>) -> Result<HashMap<String, Found>, CallError> {
    let version = shared.runtime.version().await?;
    shared.update_facts(|facts| facts.runtime_name = version.runtime_name);
    list(shared).await
}

/// Follows events, listing everything now and then; never ends.
async fn follow(shared: &Arc<Shared>) {
    let mut pause = RETRY.0;
    loop {
        match follow_once(shared).await {
            Ok(()) => pause = RETRY.0,
            Err(error) => {
                tracing::warn!(%error, "the container runtime's events broke off");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(RETRY.1);
            }
        }
    }
}

/// Follows one stream of events to its end.
async fn follow_once(shared: &Arc<Shared>) -> Result<(), CallError> {
    let mut events = shared.runtime.events().await?;
    // Listed after the stream was opened, so that nothing falls between.
    relist(shared).await?;
    let mut timer = tokio::time::interval(RELIST_PERIOD);
    timer.reset();
    loop {
        tokio::select! {
            event = events.message() => match event {
                Ok(Some(event)) => handle(shared, &event),
                Ok(None) => {
                    let message = "the stream of events ended".to_owned();
                    return Err(CallError::Refused { code: tonic::Code::Unavailable, message });
                }
                Err(status) => {
                    let message = status.message().to_owned();
                    return Err(CallError::Refused { code: status.code(), message });
                }
            },
            _ = timer.tick() => relist(shared).await?,
        }
    }
}

fn handle(shared: &Arc<Shared>, event: &cri::ContainerEventResponse) {
    let ended = matches!(
        event.container_event_type(),
        cri::ContainerEventType::ContainerStoppedEvent | cri::ContainerEventType::ContainerDeletedEvent
    );
    // The kubelet is the one who creates and starts: it has seen the outcome already.
    if !ended {
        return;
    }
    let sandbox = event.pod_sandbox_status.as_ref();
    let uid = sandbox.and_then(|s| s.metadata.as_ref()).map(|m| m.uid.clone());
    let uid = uid.filter(|uid| !uid.is_empty()).or_else(|| owner(shared, &event.container_id));
    if let Some(uid) = uid {
        shared.pods.touched(shared, &uid, &event.container_id);
    }
}

/// The pod that is known to have this container.
fn owner(shared: &Shared, container_id: &str) -> Option<String> {
    let entries = shared.pods.all();
    let has = |c: &coracle_plan::kubelet::ContainerRecord| c.id == container_id;
    let found = entries.iter().find(|e| e.seen().containers.iter().any(has));
    found.map(|e| e.id.uid.clone())
}

/// Lists everything and hands each pod what is new about it.
async fn relist(shared: &Arc<Shared>) -> Result<(), CallError> {
    let found = list(shared).await?;
    let sandboxes: HashMap<String, Vec<(String, bool)>> =
        found.iter().map(|(uid, found)| (uid.clone(), found.sandboxes.clone())).collect();
    for uid in shared.pods.relisted(shared, found) {
        for (id, _) in sandboxes.get(&uid).into_iter().flatten() {
            tracing::info!(%uid, sandbox = %id, "removing a sandbox whose pod is gone");
            shared.runtime.stop_sandbox(id).await?;
            shared.runtime.remove_sandbox(id).await?;
        }
    }
    Ok(())
}

async fn list(shared: &Shared) -> Result<HashMap<String, Found>, CallError> {
    let sandboxes = shared.runtime.sandboxes(None).await?;
    let containers = shared.runtime.containers(None).await?;
    let mut found: HashMap<String, Found> = HashMap::new();
    for sandbox in &sandboxes {
        let uid = sandbox.metadata.as_ref().map(|m| m.uid.as_str()).filter(|u| !u.is_empty());
        if let Some(uid) = uid.or_else(|| uid_of(&sandbox.labels)) {
            found.entry(uid.to_owned()).or_default().add_sandbox(sandbox);
        }
    }
    for container in &containers {
        if let Some(uid) = uid_of(&container.labels) {
            found.entry(uid.to_owned()).or_default().add_container(container);
        }
    }
    Ok(found)
}

/// Removes directories of pods that no longer exist.
async fn remove_leftovers(shared: &Arc<Shared>, pods: &Informer<Pod>) {
    let known: HashSet<String> = pods.list().iter().filter_map(|pod| pod.metadata.uid.clone()).collect();
    let config = shared.config.clone();
    let work = tokio::task::spawn_blocking(move || {
        for uid in volumes::left_on_disk(&config) {
            if known.contains(&uid) {
                continue;
            }
            if let Err(error) = volumes::tear_down(&config, &uid) {
                tracing::warn!(%uid, %error, "volumes of a pod that is gone cannot be removed");
            }
        }
    });
    // Only a panic or the end of the process keeps it from finishing.
    let _ = work.await;
}
