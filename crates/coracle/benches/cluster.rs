//! What a cluster costs: time to ready, idle memory and CPU, and pods from create to Ready.
//!
//! `cargo bench -p coracle` runs every measure five times (`CORACLE_BENCH_RUNS` changes that)
//! against the real program on a fresh data directory, and prints each run and the median.
//! The time of one fsync on the same disk stands beside them, since three of them are the
//! floor of a pod's way to Ready.
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on has failed")]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, PostParams, WatchEvent, WatchParams};
use kube::{Api, Client};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

/// Pods of one run, and how many creations are in flight.
const PODS: usize = 200;
const IN_FLIGHT: usize = 16;
/// How long an idle cluster is watched.
const IDLE: Duration = Duration::from_secs(10);

fn main() {
    let runs = std::env::var("CORACLE_BENCH_RUNS").ok().and_then(|r| r.parse().ok()).unwrap_or(5);
    let mut table: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for run in 1..=runs {
        for (name, value) in one_run() {
            println!("run {run}: {name} = {value:.3}");
            table.entry(name).or_default().push(value);
        }
    }
    println!("\nmedian of {runs} runs");
    for (name, mut values) in table {
        values.sort_by(f64::total_cmp);
        println!("{name:<40} {:>10.3}", values[values.len() / 2]);
    }
}

fn one_run() -> Vec<(&'static str, f64)> {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut figures = vec![("disk: fsync of 4 KiB (ms)", fsync_ms(dir.path()))];

    let (cold, up) = Up::start(&data);
    figures.push(("ready, fresh data directory (ms)", cold));
    std::thread::sleep(Duration::from_secs(2));
    let cpu = up.cpu_s();
    std::thread::sleep(IDLE);
    figures.push(("idle CPU (% of a core)", (up.cpu_s() - cpu) / IDLE.as_secs_f64() * 100.0));
    figures.push(("idle RSS (MB)", up.rss_mb()));

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let before = up.cpu_s();
    let mut ready = runtime.block_on(create_pods(&data.join("kubeconfig")));
    ready.sort_by(f64::total_cmp);
    figures.push(("create to Ready, p50 (ms)", ready[ready.len() / 2]));
    figures.push(("create to Ready, p99 (ms)", ready[ready.len() * 99 / 100]));
    figures.push(("create to Ready, CPU per pod (ms)", (up.cpu_s() - before) * 1e3 / ready.len() as f64));
    figures.push(("RSS with 200 pods (MB)", up.rss_mb()));
    up.stop();

    let (again, up) = Up::start(&data);
    figures.push(("ready, existing data directory (ms)", again));
    up.stop();
    figures
}

/// Milliseconds from create to Ready of every pod; the first pod, whose code has to be
/// compiled, is not counted.
async fn create_pods(kubeconfig: &Path) -> Vec<f64> {
    coracle_pki::tls::install();
    let client = coracle_client::remote(kubeconfig, "bench").await.unwrap();
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    wait_ready(&pods, vec![create(&client, "warm-up").await], "0").await;

    let version = pods.list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
    let created = futures::stream::iter(0..PODS).map(|i| {
        let client = client.clone();
        async move { create(&client, &format!("bench-{i}")).await }
    });
    let creating = created.buffer_unordered(IN_FLIGHT).collect::<Vec<_>>();
    let watching = watch_ready(&pods, PODS, &version);
    let (created, seen) = tokio::join!(creating, watching);
    let times = created.into_iter().map(|(name, at)| (seen[&name] - at).as_secs_f64() * 1e3).collect();
    let grace = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
    pods.delete_collection(&grace, &ListParams::default()).await.unwrap();
    times
}

async fn create(client: &Client, name: &str) -> (String, Instant) {
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [{
            "name": "c",
            "image": "coracle.local/samples/hello:latest",
            "resources": {"requests": {"cpu": "1m", "memory": "1Mi"}},
        }]},
    }))
    .unwrap();
    let api: Api<Pod> = Api::default_namespaced(client.clone());
    let at = Instant::now();
    api.create(&PostParams::default(), &pod).await.unwrap();
    (name.to_owned(), at)
}

async fn wait_ready(pods: &Api<Pod>, wanted: Vec<(String, Instant)>, version: &str) {
    watch_ready(pods, wanted.len(), version).await;
}

/// When each of `wanted` pods was first seen Ready.
async fn watch_ready(pods: &Api<Pod>, wanted: usize, version: &str) -> BTreeMap<String, Instant> {
    let mut seen = BTreeMap::new();
    let mut events = pods.watch(&WatchParams::default().timeout(290), version).await.unwrap().boxed();
    while seen.len() < wanted {
        let event = events.try_next().await.unwrap().expect("the watch ended early");
        if let WatchEvent::Added(pod) | WatchEvent::Modified(pod) = event {
            let conditions = pod.status.and_then(|s| s.conditions).unwrap_or_default();
            if conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True") {
                seen.entry(pod.metadata.name.unwrap()).or_insert_with(Instant::now);
            }
        }
    }
    seen
}

struct Up(Child);

impl Up {
    fn start(data: &Path) -> (f64, Self) {
        let began = Instant::now();
        let mut child = Command::new(env!("CARGO_BIN_EXE_coracle"))
            .args(["up", "--port", "0", "--node-ip", "127.93.7.1", "--data-dir"])
            .arg(data)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = lines.find(|l| l.as_ref().unwrap().starts_with("ready in ")).is_some();
        let ms = began.elapsed().as_secs_f64() * 1e3;
        assert!(ready, "the cluster did not start");
        // The program goes on writing a few lines: read them, so that its pipe stays open.
        std::thread::spawn(move || lines.for_each(drop));
        (ms, Self(child))
    }

    fn proc_file(&self, name: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{name}", self.0.id())).unwrap()
    }

    fn rss_mb(&self) -> f64 {
        let status = self.proc_file("status");
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1000.0 * 1.024
    }

    /// User and system time of the process so far, in seconds.
    fn cpu_s(&self) -> f64 {
        let stat = self.proc_file("stat");
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
        ticks / rustix::param::clock_ticks_per_second() as f64
    }

    fn stop(mut self) {
        kill_process(Pid::from_child(&self.0), Signal::TERM).unwrap();
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Median of 50 appends of 4 KiB, each with fdatasync.
fn fsync_ms(dir: &Path) -> f64 {
    let mut file = std::fs::File::create(dir.join("fsync")).unwrap();
    let mut times: Vec<f64> = (0..50)
        .map(|_| {
            let began = Instant::now();
            file.write_all(&[7; 4096]).unwrap();
            file.sync_data().unwrap();
            began.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
