//! The three steps that start a container: its image, its creation, its start.

use std::time::Instant;

use coracle_client::events::Type;
use coracle_plan::kubelet::env::{EnvInput, environment, expand_all, visible_services};
use coracle_plan::kubelet::field::Addresses;
use coracle_plan::kubelet::image::{self, ImageStep, PullPolicy};
use coracle_plan::kubelet::sources::of_environment;
use coracle_plan::kubelet::{ContainerPhase, Sandbox, reason};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, PodSpec};

use super::PodEntry;
use super::act::Scratch;
use super::look::refresh_container;
use super::worker::Known;
use crate::convert::{self, ContainerInput};
use crate::shared::Shared;
use crate::volumes;

/// Why a container could not be started: the reason of its waiting state, and more.
#[derive(Debug)]
pub(super) struct StartError {
    pub(super) reason: &'static str,
    pub(super) message: String,
}

impl StartError {
    fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

/// Makes sure that the node has the image, by the pull policy.
pub(super) async fn ensure_image(
    shared: &Shared,
    entry: &PodEntry,
    known: &Known,
    name: &str,
    scratch: &mut Scratch,
) -> Result<(), StartError> {
    let (spec, container) = specification(known, name)?;
    let image = container.image.as_deref().unwrap_or_default();
    if !image::is_valid(image) {
        let message = format!(
            "Failed to apply default image tag \"{image}\": couldn't parse image name \"{image}\": invalid reference format"
        );
        return Err(StartError::new(reason::INVALID_IMAGE_NAME, message));
    }
    let policy = PullPolicy::of(container);
    let present = match policy {
        // Whether it is there does not matter: it is pulled.
        PullPolicy::Always => None,
        PullPolicy::IfNotPresent | PullPolicy::Never => {
            let found = shared.runtime.image_status(image).await;
            found.map_err(|e| {
                let message = format!("Failed to inspect image \"{image}\": {e}");
                StartError::new(reason::IMAGE_INSPECT_ERROR, message)
            })?
        }
    };
    let event = |kind: Type, why: &str, message: String| {
        shared.event(&entry.id, known.path_of(name), kind, why, &message);
    };
    match (policy.step(present.is_some()), present) {
        (ImageStep::Use, Some(found)) => {
            let message = format!("Container image \"{image}\" already present on machine");
            event(Type::Normal, "Pulled", message);
            scratch.images.insert(name.to_owned(), found.id);
            Ok(())
        }
        (ImageStep::Refuse, _) => {
            let message = format!("Container image \"{image}\" is not present with pull policy of Never");
            event(Type::Warning, reason::ERR_IMAGE_NEVER_PULL, message.clone());
            Err(StartError::new(reason::ERR_IMAGE_NEVER_PULL, message))
        }
        _ => {
            event(Type::Normal, "Pulling", format!("Pulling image \"{image}\""));
            let begun = Instant::now();
            let config = convert::sandbox_config(&shared.config, &entry.id, &known.pod, spec, 0);
            match shared.runtime.pull_image(image, config).await {
                Ok(found) => {
                    let took_ms = begun.elapsed().as_millis();
                    let message = format!("Successfully pulled image \"{image}\" in {took_ms}ms");
                    event(Type::Normal, "Pulled", message);
                    scratch.images.insert(name.to_owned(), found);
                    Ok(())
                }
                Err(error) => {
                    let message = format!("Failed to pull image \"{image}\": {error}");
                    event(Type::Warning, "Failed", message);
                    Err(StartError::new(reason::ERR_IMAGE_PULL, error.to_string()))
                }
            }
        }
    }
}

/// Makes the container in the pod's sandbox.
pub(super) async fn create(
    shared: &Shared,
    entry: &PodEntry,
    known: &Known,
    name: &str,
    attempt: u32,
    scratch: &mut Scratch,
) -> Result<(), StartError> {
    let config_error = |e: String| StartError::new(reason::CREATE_CONTAINER_CONFIG_ERROR, e);
    let (spec, container) = specification(known, name)?;
    let sandbox = sandbox(known)?;
    let environment = make_environment(shared, entry, known, sandbox, container, attempt).await?;
    let mounts = volumes::mounts(&shared.config, &entry.id.uid, spec, container, &environment)
        .map_err(|e| config_error(e.to_string()))?;
    let expanded = |list: &Option<Vec<String>>| expand_all(list.as_deref().unwrap_or_default(), &environment);
    let input = ContainerInput {
        attempt,
        image_ref: scratch.images.remove(name).unwrap_or_default(),
        command: expanded(&container.command),
        args: expanded(&container.args),
        mounts,
        environment,
    };
    let config = convert::container_config(&entry.id, spec, container, input);
    let sandbox_config =
        convert::sandbox_config(&shared.config, &entry.id, &known.pod, spec, sandbox.attempt);
    let sandbox_id = sandbox.id.clone();
    let created = shared.runtime.create_container(&sandbox_id, config, sandbox_config).await;
    let id = created.map_err(|e| StartError::new(reason::CREATE_CONTAINER_ERROR, e.to_string()))?;
    let message = format!("Created container: {name}");
    shared.event(&entry.id, known.path_of(name), Type::Normal, "Created", &message);
    scratch.made.insert(name.to_owned(), id);
    Ok(())
}

/// Starts the container just made and notes what the runtime says of it.
pub(super) async fn start(
    shared: &Shared,
    entry: &PodEntry,
    known: &mut Known,
    name: &str,
    scratch: &mut Scratch,
) -> Result<(), StartError> {
    let run_error = |e: &dyn ToString| StartError::new(reason::RUN_CONTAINER_ERROR, e.to_string());
    let sandbox_id = sandbox(known)?.id.clone();
    let Some(id) = scratch.made.remove(name) else {
        return Err(run_error(&"the container was not made"));
    };
    let started = shared.runtime.start_container(&id).await;
    // Whatever came of it, the container exists now.
    let looked = refresh_container(shared, known, &id, Some(&sandbox_id)).await;
    started.map_err(|e| run_error(&e))?;
    looked.map_err(|e| run_error(&e))?;
    let message = format!("Started container {name}");
    shared.event(&entry.id, known.path_of(name), Type::Normal, "Started", &message);
    let ends =
        known.containers.iter().filter(|c| c.name == name && c.id != id && c.state == ContainerPhase::Exited);
    let previous_end = ends.filter_map(|c| c.finished_at).max();
    known.memory.started(name, previous_end, Timestamp::now());
    Ok(())
}

fn specification<'a>(known: &'a Known, name: &str) -> Result<(&'a PodSpec, &'a Container), StartError> {
    let found = known.pod.spec.as_ref().zip(known.container(name));
    found.ok_or_else(|| {
        let message = format!("container {name} not found in pod");
        StartError::new(reason::CREATE_CONTAINER_CONFIG_ERROR, message)
    })
}

/// The sandbox that containers are made in.
fn sandbox(known: &Known) -> Result<&Sandbox, StartError> {
    let ready = known.sandboxes.iter().filter(|s| s.ready);
    ready
        .max_by_key(|s| s.attempt)
        .ok_or_else(|| StartError::new(reason::CREATE_CONTAINER_ERROR, "the pod's sandbox is not ready"))
}

async fn make_environment(
    shared: &Shared,
    entry: &PodEntry,
    known: &Known,
    sandbox: &Sandbox,
    container: &Container,
    attempt: u32,
) -> Result<Vec<(String, String)>, StartError> {
    let config_error = |e: String| StartError::new(reason::CREATE_CONTAINER_CONFIG_ERROR, e);
    let objects = of_environment(container);
    // A first start may share what other pods fetched; later ones see changes since.
    let again = attempt > 0 || known.memory.failures.contains_key(&container.name);
    let since = if again { tokio::time::Instant::now() } else { known.since };
    let fetched = shared.objects.fetch(&entry.id, &objects, since).await;
    let sources = fetched.map_err(|e| config_error(e.to_string()))?;
    shared.services.synced().await;
    let namespace = entry.id.namespace.as_str();
    let mut services = match namespace {
        "default" => Vec::new(),
        _ => shared.services.get(Some("default"), "kubernetes").into_iter().collect(),
    };
    services.extend(shared.services.list_in(namespace));
    let links = known.pod.spec.as_ref().and_then(|s| s.enable_service_links).unwrap_or(true);
    let visible = visible_services(services.iter().map(|s| &**s), namespace, links);
    let facts = shared.facts();
    let hostname = convert::hostname(&known.pod);
    environment(EnvInput {
        pod: &known.pod,
        container,
        node: &facts,
        addresses: Addresses { pod: &sandbox.ips },
        hostname: &hostname,
        sources: &sources,
        services: &visible,
    })
    .map_err(|e| config_error(e.to_string()))
}
