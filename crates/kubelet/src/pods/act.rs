//! Executes a plan's actions, in order, and notes in the pod's memory what failed.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use coracle_client::events::Type;
use coracle_plan::kubelet::backoff::{Failure, MOUNT, SANDBOX};
use coracle_plan::kubelet::sources::of_volumes;
use coracle_plan::kubelet::{Action, ApiDelete, Sandbox, Stop, Volumes, reason, unsupported};
use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::node::v1::RuntimeClass;
use kube::Api;
use kube::api::{DeleteParams, Preconditions};

use super::PodEntry;
use super::look::{refresh_container, refresh_sandbox};
use super::start::{self, StartError};
use super::worker::Known;
use crate::convert;
use crate::objects::api_message;
use crate::shared::Shared;
use crate::volumes;

/// Limit of deleting a pod's object.
const DELETE_LIMIT: Duration = Duration::from_secs(10);

/// What one action hands to those after it.
#[derive(Default)]
pub(super) struct Scratch {
    /// Image references by container.
    pub(super) images: HashMap<String, String>,
    /// Ids of containers just made, by name.
    pub(super) made: HashMap<String, String>,
}

/// Executes `actions`. False when one failed that has no back-off of its own.
pub(super) async fn act(shared: &Shared, entry: &PodEntry, known: &mut Known, actions: &[Action]) -> bool {
    if !prepare(shared, entry, known, actions).await {
        return true;
    }
    let mut scratch = Scratch::default();
    let mut failed: BTreeSet<&str> = BTreeSet::new();
    for action in actions {
        let started = match action {
            Action::MountVolumes | Action::CreateSandbox { .. } => continue,
            Action::EnsureImage { container }
            | Action::CreateContainer { container, .. }
            | Action::StartContainer { container }
                if failed.contains(container.as_str()) =>
            {
                continue;
            }
            Action::EnsureImage { container } => {
                (container, start::ensure_image(shared, entry, known, container, &mut scratch).await)
            }
            Action::CreateContainer { container, attempt } => {
                (container, start::create(shared, entry, known, container, *attempt, &mut scratch).await)
            }
            Action::StartContainer { container } => {
                (container, start::start(shared, entry, known, container, &mut scratch).await)
            }
            other => {
                if let Err(message) = clean_up(shared, entry, known, other).await {
                    tracing::warn!(pod = %entry.id.name, action = %other, %message, "action failed");
                    return known.delete_is_waiting();
                }
                continue;
            }
        };
        if let (container, Err(error)) = started {
            note_failure(shared, entry, known, container, error);
            failed.insert(container);
        }
    }
    true
}

/// Volumes and sandbox, at the same time; false when either failed.
async fn prepare(shared: &Shared, entry: &PodEntry, known: &mut Known, actions: &[Action]) -> bool {
    let mount = actions.contains(&Action::MountVolumes);
    let attempt = actions.iter().find_map(|action| match action {
        Action::CreateSandbox { attempt } => Some(*attempt),
        _ => None,
    });
    let view: &Known = known;
    let (mounted, sandbox) = tokio::join!(
        async { if mount { Some(mount_volumes(shared, entry, view).await) } else { None } },
        async {
            match attempt {
                Some(attempt) => Some(create_sandbox(shared, entry, view, attempt).await),
                None => None,
            }
        }
    );
    let now = Timestamp::now();
    let mut ready = true;
    match mounted {
        None => {}
        Some(Ok(())) => known.mounted(),
        Some(Err(message)) => {
            ready = false;
            shared.event(&entry.id, None, Type::Warning, reason::FAILED_MOUNT, &message);
            let previous = match &known.memory.volumes {
                Volumes::Failed(failure) => Some(failure),
                _ => None,
            };
            let failure = Failure::after(previous, MOUNT, reason::FAILED_MOUNT, message, now);
            known.memory.volumes = Volumes::Failed(failure);
        }
    }
    match sandbox {
        None => {}
        Some(Ok(sandbox)) => {
            known.memory.sandbox_failure = None;
            known.sandboxes.push(sandbox);
        }
        Some(Err(message)) => {
            ready = false;
            let why = reason::FAILED_CREATE_POD_SANDBOX;
            let message = format!("Failed to create pod sandbox: {message}");
            shared.event(&entry.id, None, Type::Warning, why, &message);
            let previous = known.memory.sandbox_failure.as_ref();
            known.memory.sandbox_failure = Some(Failure::after(previous, SANDBOX, why, message, now));
            // Half a sandbox may be left.
            known.complete = false;
        }
    }
    ready
}

async fn mount_volumes(shared: &Shared, entry: &PodEntry, known: &Known) -> Result<(), String> {
    let Some(spec) = known.pod.spec.as_ref() else { return Ok(()) };
    let (objects, tokens) = of_volumes(spec);
    let again = known.refresh_at.is_some() || matches!(known.memory.volumes, Volumes::Failed(_));
    let since = if again { tokio::time::Instant::now() } else { known.since };
    let mut sources = shared.objects.fetch(&entry.id, &objects, since).await.map_err(|e| e.to_string())?;
    let account = spec.service_account_name.as_deref().filter(|n| !n.is_empty());
    for token in tokens {
        let text = shared
            .objects
            .token(&entry.id, account.unwrap_or("default"), &token)
            .await
            .map_err(|e| e.to_string())?;
        sources.tokens.insert(token, text);
    }
    if spec.volumes.as_ref().is_none_or(Vec::is_empty) {
        return Ok(());
    }
    let (config, pod, facts) = (shared.config.clone(), known.pod.clone(), shared.facts());
    let uid = entry.id.uid.clone();
    let work = tokio::task::spawn_blocking(move || match pod.spec.as_ref() {
        Some(spec) => volumes::set_up(&config, &uid, &pod, spec, &facts, &sources),
        None => Ok(()),
    });
    match work.await {
        Ok(result) => result.map_err(|e| e.to_string()),
        Err(error) => Err(format!("setting up volumes was given up: {error}")),
    }
}

async fn create_sandbox(
    shared: &Shared,
    entry: &PodEntry,
    known: &Known,
    attempt: u32,
) -> Result<Sandbox, String> {
    // Until the node has its addresses a sandbox can only fail. The sender lives as long as
    // `shared`, so this cannot end early.
    let _ = shared.node_ready.subscribe().wait_for(|ready| *ready).await;
    let Some(spec) = known.pod.spec.as_ref() else {
        return Err("the pod has no specification".to_owned());
    };
    if spec.host_network == Some(true) {
        return Err("spec.hostNetwork: the host's network is not available to pods of this node".to_owned());
    }
    if attempt == 0 {
        let vain = unsupported::without_effect(spec);
        if !vain.is_empty() {
            shared.event(&entry.id, None, Type::Warning, reason::NOT_SUPPORTED, &vain.join("; "));
        }
    }
    let handler = runtime_handler(shared, spec.runtime_class_name.as_deref()).await?;
    let config = convert::sandbox_config(&shared.config, &entry.id, &known.pod, spec, attempt);
    let id = shared.runtime.run_sandbox(config, handler).await.map_err(|e| e.to_string())?;
    let status = shared.runtime.sandbox_status(&id).await.map_err(|e| e.to_string())?;
    Ok(convert::sandbox(&status))
}

/// The runtime's name for a RuntimeClass; empty for the default.
async fn runtime_handler(shared: &Shared, class: Option<&str>) -> Result<String, String> {
    let Some(class) = class.filter(|name| !name.is_empty()) else { return Ok(String::new()) };
    let api: Api<RuntimeClass> = Api::all(shared.client.clone());
    match api.get(class).await {
        Ok(found) => Ok(found.handler),
        Err(error) => Err(format!("RuntimeClass \"{class}\": {}", api_message(&error))),
    }
}

/// Executes an action that ends or removes something.
async fn clean_up(
    shared: &Shared,
    entry: &PodEntry,
    known: &mut Known,
    action: &Action,
) -> Result<(), String> {
    let text = |e: crate::cri::CallError| e.to_string();
    match action {
        Action::StopContainers(stops) => stop_containers(shared, entry, known, stops).await,
        Action::RemoveContainer { id } => {
            shared.runtime.remove_container(id).await.map_err(text)?;
            known.containers.retain(|c| &c.id != id);
            Ok(())
        }
        Action::StopSandbox { id } => {
            shared.runtime.stop_sandbox(id).await.map_err(text)?;
            refresh_sandbox(shared, known, id).await.map_err(text)
        }
        Action::RemoveSandbox { id } => {
            shared.runtime.remove_sandbox(id).await.map_err(text)?;
            known.sandboxes.retain(|s| &s.id != id);
            known.containers.retain(|c| &c.sandbox_id != id);
            Ok(())
        }
        Action::UnmountVolumes => {
            let (config, uid) = (shared.config.clone(), entry.id.uid.clone());
            let work = tokio::task::spawn_blocking(move || volumes::tear_down(&config, &uid));
            work.await.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
            known.memory.volumes = Volumes::Unmounted;
            known.refresh_at = None;
            Ok(())
        }
        Action::DeletePod => delete_pod(shared, entry, known).await,
        _ => Ok(()),
    }
}

async fn stop_containers(
    shared: &Shared,
    entry: &PodEntry,
    known: &mut Known,
    stops: &[Stop],
) -> Result<(), String> {
    for stop in stops {
        let path = known.path_of(&stop.container);
        shared.event(&entry.id, path, Type::Normal, "Killing", &stop.why);
    }
    let calls: Vec<_> =
        stops.iter().map(|stop| shared.runtime.stop_container(&stop.id, stop.grace_s)).collect();
    let results = join_all(calls).await;
    for stop in stops {
        refresh_container(shared, known, &stop.id, None).await.map_err(|e| e.to_string())?;
    }
    match results.into_iter().find_map(Result::err) {
        Some(error) => Err(error.to_string()),
        None => Ok(()),
    }
}

async fn delete_pod(shared: &Shared, entry: &PodEntry, known: &mut Known) -> Result<(), String> {
    let api: Api<Pod> = Api::namespaced(shared.client.clone(), &entry.id.namespace);
    let params = DeleteParams {
        grace_period_seconds: Some(0),
        preconditions: Some(Preconditions { uid: Some(entry.id.uid.clone()), resource_version: None }),
        ..DeleteParams::default()
    };
    let answer = api.delete(&entry.id.name, &params);
    let message = match tokio::time::timeout(DELETE_LIMIT, answer).await {
        Ok(Ok(_)) => {
            known.memory.delete = ApiDelete::Sent;
            return Ok(());
        }
        // Gone already, or another pod has the name by now.
        Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => {
            known.memory.delete = ApiDelete::Sent;
            return Ok(());
        }
        Ok(Err(error)) => api_message(&error),
        Err(_) => format!("no answer within {} s", DELETE_LIMIT.as_secs()),
    };
    known.delete_failed(message.clone());
    Err(message)
}

fn note_failure(shared: &Shared, entry: &PodEntry, known: &mut Known, container: &str, error: StartError) {
    let path = known.path_of(container);
    let StartError { reason: why, message } = error;
    let text = match why {
        reason::ERR_IMAGE_PULL | reason::ERR_IMAGE_NEVER_PULL => format!("Error: {why}"),
        reason::INVALID_IMAGE_NAME => format!("Error: {why}: {message}"),
        _ => format!("Error: {message}"),
    };
    shared.event(&entry.id, path, Type::Warning, "Failed", &text);
    known.memory.start_failed(container, why, message, Timestamp::now());
}
