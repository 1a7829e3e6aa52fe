//! Brings what is known of a pod up to date with the runtime, asking only about what may
//! have changed.

use coracle_plan::kubelet::ContainerPhase;

use super::worker::Known;
use super::{Found, PodEntry};
use crate::convert;
use crate::cri::CallError;
use crate::shared::Shared;

/// Looks at whatever is known to be out of date.
pub(super) async fn look(shared: &Shared, entry: &PodEntry, known: &mut Known) -> Result<(), CallError> {
    loop {
        if !known.complete {
            known.found = Some(list(shared, &entry.id.uid).await?);
            known.complete = true;
        }
        if let Some(found) = known.found.clone() {
            reconcile(shared, known, &found).await?;
            known.found = None;
        }
        while let Some(id) = known.touched.first().cloned() {
            refresh_container(shared, known, &id, None).await?;
            known.touched.remove(&id);
        }
        // A container of an unknown sandbox asks for the lists; they settle it.
        if known.complete {
            return Ok(());
        }
    }
}

/// Asks the runtime how a container is now.
pub(super) async fn refresh_container(
    shared: &Shared,
    known: &mut Known,
    id: &str,
    sandbox: Option<&str>,
) -> Result<(), CallError> {
    let at = known.containers.iter().position(|c| c.id == id);
    let sandbox = match (sandbox, at) {
        (Some(sandbox), _) => sandbox.to_owned(),
        (None, Some(at)) => known.containers[at].sandbox_id.clone(),
        (None, None) => {
            // Made by a call whose answer never came: the lists will tell where it belongs.
            known.complete = false;
            return Ok(());
        }
    };
    let record = match shared.runtime.container_status(id).await {
        Ok(status) => Some(convert::record(&status, &sandbox)),
        Err(error) if error.is_not_found() => None,
        Err(error) => return Err(error),
    };
    match (at, record) {
        (Some(at), Some(record)) => known.containers[at] = record,
        (None, Some(record)) => known.containers.push(record),
        (Some(at), None) => drop(known.containers.remove(at)),
        (None, None) => {}
    }
    Ok(())
}

/// Asks the runtime how a sandbox is now.
pub(super) async fn refresh_sandbox(shared: &Shared, known: &mut Known, id: &str) -> Result<(), CallError> {
    let sandbox = match shared.runtime.sandbox_status(id).await {
        Ok(status) => Some(convert::sandbox(&status)),
        Err(error) if error.is_not_found() => None,
        Err(error) => return Err(error),
    };
    known.sandboxes.retain(|s| s.id != id);
    known.sandboxes.extend(sandbox);
    Ok(())
}

/// Looks at everything that a list shows in another state than is known. What a list does
/// not show is asked for by name: the list may be older than what was made since.
async fn reconcile(shared: &Shared, known: &mut Known, found: &Found) -> Result<(), CallError> {
    let mut sandboxes: Vec<String> = known
        .sandboxes
        .iter()
        .filter(|s| !found.sandboxes.contains(&(s.id.clone(), s.ready)))
        .map(|s| s.id.clone())
        .collect();
    let fresh = found.sandboxes.iter().filter(|(id, _)| known.sandboxes.iter().all(|s| s.id != *id));
    sandboxes.extend(fresh.map(|(id, _)| id.clone()));
    for id in sandboxes {
        refresh_sandbox(shared, known, &id).await?;
    }
    let listed = |id: &str, state: ContainerPhase| {
        found.containers.iter().any(|(found_id, _, found)| found_id == id && *found == state)
    };
    let outdated: Vec<String> =
        known.containers.iter().filter(|c| !listed(&c.id, c.state)).map(|c| c.id.clone()).collect();
    for id in outdated {
        refresh_container(shared, known, &id, None).await?;
    }
    for (id, sandbox, _) in &found.containers {
        if known.containers.iter().all(|c| c.id != *id) {
            refresh_container(shared, known, id, Some(sandbox)).await?;
        }
    }
    Ok(())
}

async fn list(shared: &Shared, uid: &str) -> Result<Found, CallError> {
    let sandboxes = shared.runtime.sandboxes(Some(uid)).await?;
    let containers = shared.runtime.containers(Some(uid)).await?;
    let mut found = Found::default();
    for sandbox in &sandboxes {
        found.add_sandbox(sandbox);
    }
    for container in &containers {
        found.add_container(container);
    }
    Ok(found)
}
