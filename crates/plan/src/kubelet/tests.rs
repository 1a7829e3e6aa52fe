//! Scenarios of pods' lives: a script of what happens, and after each step the plan.
//!
//! Each file in `scenarios/` is a list of blocks: a command, `----`, what it prints, an empty
//! line. The runner plays kubelet and runtime: `run` executes plans until nothing is left to
//! do and prints the actions, the events and the status. With `REWRITE_SCENARIOS=1` in the
//! environment the files are written anew from what was printed.

use std::fmt::Write as _;
use std::path::PathBuf;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use super::backoff::{Failure, MOUNT, add_seconds};
use super::probe::{ContainerProbes, ProbeKind};
use super::*;

/// A pod, its node and its runtime.
struct World {
    pod: Pod,
    gone: bool,
    status: PodStatus,
    sandboxes: Vec<Sandbox>,
    containers: Vec<ContainerRecord>,
    memory: Memory,
    now: Timestamp,
    next_id: u32,
    /// Steps that fail, as `pull web`, `create web`, `start web`, `mount`.
    failing: Vec<String>,
}

impl World {
    fn new(spec: Value) -> Self {
        let pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "ns", "uid": "u", "generation": 1},
            "spec": spec,
        }))
        .unwrap();
        let now = Timestamp::from_second(1_000_000).unwrap();
        Self {
            pod,
            gone: false,
            status: PodStatus { phase: Some("Pending".into()), ..Default::default() },
            sandboxes: Vec::new(),
            containers: Vec::new(),
            memory: Memory { first_seen: Some(now), ..Default::default() },
            now,
            next_id: 0,
            failing: Vec::new(),
        }
    }

    fn plan(&self) -> Plan {
        let node = NodeFacts {
            name: "n".into(),
            host_ips: vec!["127.0.0.1".into()],
            runtime_name: "coracle".into(),
            ..Default::default()
        };
        plan(&PodView {
            pod: &self.pod,
            gone: self.gone,
            status: &self.status,
            node: &node,
            sandboxes: &self.sandboxes,
            containers: &self.containers,
            memory: &self.memory,
            now: self.now,
        })
    }

    fn command(&mut self, line: &str) -> String {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["run"] => return self.run(),
            ["exit", name, code] => self.exit(name, code.parse().unwrap()),
            ["advance", seconds] => {
                self.now = add_seconds(self.now, seconds.parse().unwrap());
            }
            ["fail", step @ ..] => self.failing.push(step.join(" ")),
            ["heal"] => self.failing.clear(),
            ["delete", grace] => {
                self.pod.metadata.deletion_timestamp = Some(Time(self.now));
                self.pod.metadata.deletion_grace_period_seconds = Some(grace.parse().unwrap());
            }
            ["gone"] => self.gone = true,
            ["probe", name, kind, result] => self.probe(name, kind, *result == "ok"),
            ["crash", "runtime"] => {
                self.sandboxes.clear();
                self.containers.clear();
            }
            ["stop", "runtime"] => {
                for sandbox in &mut self.sandboxes {
                    sandbox.ready = false;
                }
                let names: Vec<String> = self.running().map(|c| c.name.clone()).collect();
                for name in names {
                    self.exit(&name, 255);
                }
            }
            ["restart", "kubelet"] => {
                self.memory = Memory { first_seen: Some(self.now), ..Default::default() };
            }
            other => panic!("no such command: {other:?}"),
        }
        String::new()
    }

    fn running(&self) -> impl Iterator<Item = &ContainerRecord> {
        self.containers.iter().filter(|c| c.state == ContainerPhase::Running)
    }

    fn exit(&mut self, name: &str, code: i32) {
        let running = |c: &&mut ContainerRecord| c.name == name && c.state == ContainerPhase::Running;
        let record = self.containers.iter_mut().find(running).unwrap();
        record.state = ContainerPhase::Exited;
        record.exit_code = code;
        record.finished_at = Some(self.now);
    }

    fn probe(&mut self, name: &str, kind: &str, success: bool) {
        let id = self.running().find(|c| c.name == name).map(|c| c.id.clone()).unwrap();
        let container = self.container(name);
        let kind = ProbeKind::ALL.into_iter().find(|k| k.title().to_lowercase() == kind).unwrap();
        let probe = kind.of(&container).unwrap().clone();
        self.memory.probes.get_mut(&id).unwrap().record(kind, &probe, success);
    }

    fn container(&self, name: &str) -> Container {
        let spec = self.pod.spec.as_ref().unwrap();
        containers(spec).map(|(_, c)| c).find(|c| c.name == name).unwrap().clone()
    }

    /// Executes plans until one has no actions.
    fn run(&mut self) -> String {
        let mut out = String::new();
        for _ in 0..20 {
            let plan = self.plan();
            for event in &plan.events {
                writeln!(out, "event {}: {}", event.reason, event.message).unwrap();
                self.memory.announced.insert(event.container.clone(), event.until);
            }
            if let Some(status) = &plan.status {
                self.status = status.clone();
            }
            if plan.actions.is_empty() {
                self.print_rest(&plan, &mut out);
                return out;
            }
            let mut skip: Option<String> = None;
            for action in &plan.actions {
                if skip.is_none() {
                    writeln!(out, "{action}").unwrap();
                    skip = self.execute(action).err();
                }
            }
            if let Some(failure) = skip {
                writeln!(out, "! {failure} failed").unwrap();
            }
        }
        panic!("the plan does not come to an end:\n{out}");
    }

    fn print_rest(&self, plan: &Plan, out: &mut String) {
        if plan.finished {
            writeln!(out, "finished").unwrap();
            return;
        }
        let status = &self.status;
        let phase = status.phase.as_deref().unwrap_or("-");
        let ready = status.conditions.iter().flatten().find(|c| c.type_ == "Ready");
        let ready = ready.map_or("-", |c| c.status.as_str());
        let reason = status.reason.as_deref().map(|r| format!(" {r}")).unwrap_or_default();
        writeln!(out, "= {phase}{reason} ready={ready}").unwrap();
        let init = status.init_container_statuses.iter().flatten();
        for container in init.chain(status.container_statuses.iter().flatten()) {
            writeln!(out, "  {}", describe(container)).unwrap();
        }
        if let Some(at) = plan.requeue_at {
            let seconds = backoff::seconds_between(self.now, at);
            writeln!(out, "  again in {seconds}s").unwrap();
        }
    }

    fn execute(&mut self, action: &Action) -> Result<(), String> {
        match action {
            Action::MountVolumes => self.mount(),
            Action::UnmountVolumes => {
                self.memory.volumes = Volumes::Unmounted;
                Ok(())
            }
            Action::CreateSandbox { attempt } => {
                let id = format!("s{attempt}");
                let ips = vec!["10.1.0.1".to_owned()];
                let created_at = self.now;
                self.sandboxes.push(Sandbox { id, attempt: *attempt, ready: true, created_at, ips });
                Ok(())
            }
            Action::EnsureImage { container } => self.step("pull", container, reason::ERR_IMAGE_PULL),
            Action::CreateContainer { container, attempt } => {
                self.step("create", container, reason::CREATE_CONTAINER_ERROR)?;
                self.create(container, *attempt);
                Ok(())
            }
            Action::StartContainer { container } => {
                self.step("start", container, reason::RUN_CONTAINER_ERROR)?;
                self.start(container);
                Ok(())
            }
            Action::StopContainers(stops) => {
                for stop in stops {
                    self.exit(&stop.container, 143);
                }
                Ok(())
            }
            Action::RemoveContainer { id } => {
                self.containers.retain(|c| &c.id != id);
                Ok(())
            }
            Action::StopSandbox { id } => {
                self.sandboxes.iter_mut().filter(|s| &s.id == id).for_each(|s| s.ready = false);
                Ok(())
            }
            Action::RemoveSandbox { id } => {
                self.sandboxes.retain(|s| &s.id != id);
                self.containers.retain(|c| &c.sandbox_id != id);
                Ok(())
            }
            Action::DeletePod => {
                self.memory.delete = ApiDelete::Sent;
                Ok(())
            }
        }
    }

    fn mount(&mut self) -> Result<(), String> {
        if self.failing.contains(&"mount".to_owned()) {
            let message = "no such thing".to_owned();
            let failure = Failure::after(None, MOUNT, reason::FAILED_MOUNT, message, self.now);
            self.memory.volumes = Volumes::Failed(failure);
            return Err("mount".to_owned());
        }
        self.memory.volumes = Volumes::Mounted;
        Ok(())
    }

    fn step(&mut self, what: &str, container: &str, why: &'static str) -> Result<(), String> {
        let step = format!("{what} {container}");
        if !self.failing.contains(&step) {
            return Ok(());
        }
        self.memory.start_failed(container, why, "no such thing".to_owned(), self.now);
        Err(step)
    }

    fn create(&mut self, name: &str, attempt: u32) {
        self.next_id += 1;
        let container = self.container(name);
        self.containers.push(ContainerRecord {
            id: format!("c{}", self.next_id),
            sandbox_id: self.sandboxes.last().unwrap().id.clone(),
            name: name.to_owned(),
            attempt,
            state: ContainerPhase::Created,
            created_at: self.now,
            started_at: None,
            finished_at: None,
            exit_code: 0,
            reason: String::new(),
            message: String::new(),
            image: container.image.clone().unwrap_or_default(),
            image_id: "sha256:1".to_owned(),
            hash: spec_hash(&container),
        });
    }

    fn start(&mut self, name: &str) {
        let ends = self.containers.iter().filter(|c| c.name == name);
        let previous = ends.filter_map(|c| c.finished_at).max();
        let probes = ContainerProbes::new(&self.container(name), false, false);
        let record = self.containers.last_mut().unwrap();
        record.state = ContainerPhase::Running;
        record.started_at = Some(self.now);
        if !probes.is_empty() {
            self.memory.probes.insert(record.id.clone(), probes);
        }
        self.memory.started(name, previous, self.now);
    }
}

/// `web running restarts=1 ready last=Error(1)`.
fn describe(status: &ContainerStatus) -> String {
    let mut out = status.name.clone();
    let state = status.state.as_ref().unwrap();
    if state.running.is_some() {
        out.push_str(" running");
    }
    if let Some(waiting) = &state.waiting {
        write!(out, " waiting={}", waiting.reason.as_deref().unwrap_or_default()).unwrap();
    }
    if let Some(end) = &state.terminated {
        let why = end.reason.as_deref().unwrap_or_default();
        write!(out, " terminated={why}({})", end.exit_code).unwrap();
    }
    write!(out, " restarts={}", status.restart_count).unwrap();
    if status.ready {
        out.push_str(" ready");
    }
    if let Some(end) = status.last_state.as_ref().and_then(|s| s.terminated.as_ref()) {
        let why = end.reason.as_deref().unwrap_or_default();
        write!(out, " last={why}({})", end.exit_code).unwrap();
    }
    out
}

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/kubelet/scenarios")
}

#[expect(clippy::disallowed_methods, reason = "the scenarios are files; only their test reads them")]
fn play(name: &str, spec: Value) {
    let path = directory().join(format!("{name}.txt"));
    let text = std::fs::read_to_string(&path).unwrap();
    let mut world = World::new(spec);
    let mut played = String::new();
    for block in text.trim_end().split("\n\n") {
        let command = block.lines().next().unwrap_or_default();
        let printed = world.command(command);
        write!(played, "{command}\n----\n{printed}\n").unwrap();
    }
    let played = format!("{}\n", played.trim_end());
    if std::env::var_os("REWRITE_SCENARIOS").is_some() {
        std::fs::write(&path, played).unwrap();
        return;
    }
    assert_eq!(played, text, "{}", path.display());
}

fn one_container(policy: &str) -> Value {
    json!({"restartPolicy": policy, "terminationGracePeriodSeconds": 30,
           "containers": [{"name": "web", "image": "web:1"}]})
}

#[test]
fn a_pod_starts_crashes_and_is_deleted() {
    play("always", one_container("Always"));
}

#[test]
fn a_pod_that_runs_once() {
    play("never", one_container("Never"));
}

#[test]
fn images_that_cannot_be_pulled() {
    play("pull", one_container("Always"));
}

#[test]
fn init_containers_and_sidecars() {
    play(
        "init",
        json!({"restartPolicy": "Always", "terminationGracePeriodSeconds": 5,
               "initContainers": [{"name": "first", "image": "a:1"},
                                  {"name": "side", "image": "b:1", "restartPolicy": "Always"}],
               "containers": [{"name": "web", "image": "web:1"}]}),
    );
}

#[test]
fn probes_decide_about_readiness_and_restarts() {
    play(
        "probes",
        json!({"restartPolicy": "Always", "terminationGracePeriodSeconds": 30,
               "containers": [{"name": "web", "image": "web:1",
                               "readinessProbe": {"httpGet": {"port": 80}, "failureThreshold": 1},
                               "livenessProbe": {"httpGet": {"port": 80}, "failureThreshold": 2,
                                                 "terminationGracePeriodSeconds": 3}}]}),
    );
}

#[test]
fn restarts_of_kubelet_and_runtime() {
    play("restarts", one_container("Always"));
}

#[test]
fn a_deadline_ends_a_pod() {
    let mut spec = one_container("Always");
    spec["activeDeadlineSeconds"] = json!(60);
    play("deadline", spec);
}

#[test]
fn a_plan_made_twice_is_the_same() {
    let world = World::new(one_container("Always"));
    assert_eq!(world.plan(), world.plan());
}

#[test]
fn conditions_keep_their_times_and_those_of_others() {
    let mut world = World::new(one_container("Always"));
    world.status.conditions = serde_json::from_value(json!([
        {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    ]))
    .unwrap();
    world.command("run");
    let before = world.status.clone();
    world.command("advance 100");
    world.command("run");
    assert_eq!(world.status, before);
    let kinds: Vec<&str> = before.conditions.iter().flatten().map(|c| c.type_.as_str()).collect();
    assert_eq!(
        kinds,
        ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"]
    );
    assert_eq!(before.pod_ip.as_deref(), Some("10.1.0.1"));
    assert_eq!(before.observed_generation, Some(1));
}
