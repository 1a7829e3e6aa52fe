//! Runs probes when they are due and hands their results to the pods' workers.
//!
//! There is one timer per probe and no task between runs; a probe that is not wanted any
//! more (its container ended, its startup succeeded) simply is not set again.

mod dial;
mod http;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use coracle_client::events::Type;
use coracle_plan::kubelet::probe::{ProbeKind, Timing, timeout_message, warm_up_ms};
use coracle_plan::kubelet::{ContainerKind, ContainerPhase, containers, field_path};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::pods::{PodEntry, ProbeResult};
use crate::shared::Shared;
use crate::timers::Timers;

/// Probes running at the same time; more wait their turn.
const RUNNING_MAX: usize = 64;

/// One probe of one container.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ProbeKey {
    pub(crate) uid: String,
    pub(crate) container_id: String,
    pub(crate) kind: ProbeKind,
}

/// What a run of a probe has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Success,
    Failure(String),
    /// Nobody listens there: a failure, unless the container has only just started.
    Refused(String),
    /// The probe could not be run, which says nothing about the container.
    Unknown(String),
}

/// All probes of the node.
pub(crate) struct Probes {
    timers: Timers<ProbeKey>,
    /// Probes that have a timer or are running.
    active: Mutex<HashSet<ProbeKey>>,
    /// Refusals so far of probes whose container warms up.
    refusals: Mutex<HashMap<ProbeKey, u32>>,
    turns: Arc<Semaphore>,
}

impl Probes {
    pub(crate) fn new() -> Self {
        Self {
            timers: Timers::new(),
            active: Mutex::new(HashSet::new()),
            refusals: Mutex::new(HashMap::new()),
            turns: Arc::new(Semaphore::new(RUNNING_MAX)),
        }
    }

    /// Sets a probe's first run unless it has one set already.
    pub(crate) fn ensure(&self, key: ProbeKey, first: Duration) {
        if self.active.lock().insert(key.clone()) {
            self.timers.set(key, first);
        }
    }

    /// Runs probes as they become due; never ends.
    pub(crate) async fn run(shared: Arc<Shared>) {
        loop {
            let key = shared.probes.timers.next().await;
            let Ok(turn) = Arc::clone(&shared.probes.turns).acquire_owned().await else { return };
            let shared = Arc::clone(&shared);
            tokio::spawn(async move {
                run_one(&shared, key).await;
                drop(turn);
            });
        }
    }

    fn stop(&self, key: &ProbeKey) {
        self.active.lock().remove(key);
        self.refusals.lock().remove(key);
    }

    /// The pause before the next try of a refused probe while its container warms up.
    fn warm_up(&self, key: &ProbeKey, age_ms: i64) -> Option<Duration> {
        let mut refusals = self.refusals.lock();
        let attempt = refusals.entry(key.clone()).or_default();
        let pause_ms = warm_up_ms(*attempt, age_ms)?;
        *attempt += 1;
        u64::try_from(pause_ms).ok().map(Duration::from_millis)
    }
}

/// What a probe needs to know about its container.
struct Target {
    container: Container,
    kind: ContainerKind,
    probe: Probe,
    ip: Option<String>,
    started_at: Timestamp,
}

async fn run_one(shared: &Arc<Shared>, key: ProbeKey) {
    let found = shared.pods.get(&key.uid);
    let target = found.as_ref().and_then(|entry| target(entry, &key));
    let (Some(entry), Some(target)) = (found, target) else {
        shared.probes.stop(&key);
        return;
    };
    let timing = Timing::of(&target.probe);
    let outcome = attempt(shared, &key, &target, &timing).await;
    let now = Timestamp::now();
    let period = Duration::from_secs(u64::try_from(timing.period_s).unwrap_or(1));
    let age_ms = now.as_millisecond().saturating_sub(target.started_at.as_millisecond());
    if matches!(outcome, Outcome::Refused(_))
        && timing.initial_delay_s == 0
        && key.kind != ProbeKind::Liveness
        && let Some(pause) = shared.probes.warm_up(&key, age_ms)
    {
        shared.probes.timers.set(key, pause);
        return;
    }
    let success = match outcome {
        Outcome::Success => Some(true),
        Outcome::Failure(message) | Outcome::Refused(message) => {
            unhealthy(shared, &entry, &key, &target, "failed", &message);
            Some(false)
        }
        Outcome::Unknown(message) => {
            unhealthy(shared, &entry, &key, &target, "errored", &message);
            None
        }
    };
    if let Some(success) = success {
        let result = ProbeResult { container_id: key.container_id.clone(), kind: key.kind, success };
        shared.pods.probed(shared, &key.uid, result);
    }
    // Whether the probe is still wanted shows when it is due.
    shared.probes.timers.set(key, period);
}

fn unhealthy(shared: &Shared, entry: &PodEntry, key: &ProbeKey, target: &Target, verb: &str, message: &str) {
    let message = format!("{} probe {verb}: {message}", key.kind.title());
    let path = field_path(target.kind, &target.container.name);
    shared.event(&entry.id, Some(path), Type::Warning, "Unhealthy", &message);
}

/// The probe's target, if the probe is still wanted.
fn target(entry: &PodEntry, key: &ProbeKey) -> Option<Target> {
    let seen = entry.seen();
    let record = seen.containers.iter().find(|c| c.id == key.container_id)?;
    let wanted = seen.probes.get(&record.id).is_some_and(|p| p.wants(key.kind));
    if record.state != ContainerPhase::Running || !wanted {
        return None;
    }
    let spec = seen.pod.spec.as_ref()?;
    let (kind, container) = containers(spec).find(|(_, c)| c.name == record.name)?;
    let sandbox = seen.sandboxes.iter().find(|s| s.id == record.sandbox_id);
    Some(Target {
        container: container.clone(),
        kind,
        probe: key.kind.of(container)?.clone(),
        ip: sandbox.and_then(|s| s.ips.first().cloned()),
        started_at: record.started_at.unwrap_or(record.created_at),
    })
}

async fn attempt(shared: &Shared, key: &ProbeKey, target: &Target, timing: &Timing) -> Outcome {
    let limit = Duration::from_secs(timing.timeout_s);
    let probe = &target.probe;
    let work = async {
        if let Some(action) = &probe.http_get {
            return match address(target, action.host.as_deref(), &action.port) {
                Ok((host, port)) => http::get(shared, action, &host, port).await,
                Err(message) => Outcome::Unknown(message),
            };
        }
        if let Some(action) = &probe.tcp_socket {
            return match address(target, action.host.as_deref(), &action.port) {
                Ok((host, port)) => match dial::dial(&shared.runtime, &host, port).await {
                    Ok(_) => Outcome::Success,
                    Err(error) => error.outcome(&format!("dial tcp {host}:{port}")),
                },
                Err(message) => Outcome::Unknown(message),
            };
        }
        if let Some(action) = &probe.exec {
            let command = action.command.clone().unwrap_or_default();
            return exec(shared, &key.container_id, command, limit).await;
        }
        Outcome::Unknown("this kind of probe is not supported by this kubelet".to_owned())
    };
    match tokio::time::timeout(limit, work).await {
        Ok(outcome) => outcome,
        Err(_) => Outcome::Failure(timeout_message(timing)),
    }
}

async fn exec(shared: &Shared, id: &str, command: Vec<String>, limit: Duration) -> Outcome {
    match shared.runtime.exec(id, command, limit).await {
        Ok(done) if done.exit_code == 0 => Outcome::Success,
        Ok(done) => {
            let text = [done.stdout, done.stderr].concat();
            Outcome::Failure(String::from_utf8_lossy(&text).into_owned())
        }
        Err(error) => Outcome::Unknown(error.to_string()),
    }
}

/// Where a probe connects to.
fn address(target: &Target, host: Option<&str>, port: &IntOrString) -> Result<(String, u16), String> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => {
            let ports = target.container.ports.iter().flatten();
            let named = ports.clone().find(|p| p.name.as_deref() == Some(name.as_str()));
            named.map(|p| p.container_port).or_else(|| name.parse().ok())
        }
    };
    let port = number.and_then(|n| u16::try_from(n).ok()).filter(|n| *n > 0);
    let port = port.ok_or_else(|| "the probe's port cannot be resolved".to_owned())?;
    let host = host.filter(|h| !h.is_empty()).map(str::to_owned).or_else(|| target.ip.clone());
    Ok((host.ok_or_else(|| "the pod has no address yet".to_owned())?, port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ports_by_name_and_number() {
        let container: Container = serde_json::from_value(json!({
            "name": "c", "ports": [{"name": "web", "containerPort": 8080}]}))
        .unwrap();
        let target = Target {
            container,
            kind: ContainerKind::Regular,
            probe: Probe::default(),
            ip: Some("10.0.0.5".into()),
            started_at: Timestamp::UNIX_EPOCH,
        };
        let of = |port| address(&target, None, &port);
        assert_eq!(of(IntOrString::String("web".into())), Ok(("10.0.0.5".into(), 8080)));
        assert_eq!(of(IntOrString::Int(81)), Ok(("10.0.0.5".into(), 81)));
        assert!(of(IntOrString::String("nope".into())).is_err());
        assert!(of(IntOrString::Int(0)).is_err());
    }
}
