//! How fast and how small: `cargo bench -p coracle-runtime`.
//!
//! Prints, for a node in this process driven over its socket as a kubelet drives it: the
//! time to be ready, the time from CreateContainer to running with compiled code at hand,
//! containers started per second, requests per second of `hello` on one connection and on
//! eight, what a container costs in memory, and the CPU used while nothing happens.
#![allow(clippy::unwrap_used, missing_docs)]
// The messages of CRI are large, and tests await them where they stand.
#![allow(clippy::large_futures)]

use std::time::{Duration, Instant};

use coracle_cri::runtime::v1::runtime_service_client::RuntimeServiceClient;
use coracle_cri::runtime::v1::*;
use coracle_images::{Store, samples};
use coracle_network::{Config as FabricConfig, Fabric};
use coracle_runtime::{Config, Service};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

const STARTS: usize = 500;
const REQUESTS: usize = 20_000;

type Client = RuntimeServiceClient<Channel>;

#[tokio::main]
async fn main() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(Some(&dir.path().join("images"))).unwrap();
    samples::register(&store).unwrap();
    println!("rss before                        {:>9} KiB", rss_kib());

    let begun = Instant::now();
    let fabric = Fabric::new(FabricConfig::new("bench", "127.0.0.1".parse().unwrap())).unwrap();
    fabric.set_pod_cidr("10.128.0.0/18".parse().unwrap());
    let config = Config { socket: dir.path().join("sock"), state_dir: dir.path().join("state") };
    let socket = config.socket.clone();
    let service = Service::new(config, store, fabric.clone()).unwrap();
    let stop = CancellationToken::new();
    let served = tokio::spawn(service.run(stop.clone()));
    let mut client = loop {
        match coracle_cri::connect(&socket).await {
            Ok(channel) => break Client::new(channel),
            Err(_) => tokio::task::yield_now().await,
        }
    };
    println!("ready                             {:>9.1} ms", ms(begun.elapsed()));
    println!("rss ready                         {:>9} KiB", rss_kib());

    let pod = sandbox(&mut client, "warm").await;
    for sample in ["hello", "cli"] {
        let begun = Instant::now();
        start(&mut client, &pod, sample, 0).await;
        println!("first {sample:<10} compile and start  {:>8.1} ms", ms(begun.elapsed()));
    }
    println!("rss with both compiled            {:>9} KiB", rss_kib());

    idle("idle, one hello").await;
    starts(&mut client, "hello").await;
    requests(&mut client, &fabric, 1).await;
    requests(&mut client, &fabric, 8).await;
    idle("idle, 500 hello").await;
    starts(&mut client, "tcp-echo").await;
    idle("idle, 500 hello, 500 tcp-echo").await;
    stop.cancel();
    served.await.unwrap().unwrap();
}

/// Starts many containers, each in a sandbox of its own, one after the other.
async fn starts(client: &mut Client, sample: &str) {
    let before = rss_kib();
    let mut times = Vec::new();
    let begun = Instant::now();
    for number in 0..STARTS {
        let pod = sandbox(client, &format!("{sample}-{number}")).await;
        let begun = Instant::now();
        start(client, &pod, sample, 0).await;
        times.push(begun.elapsed());
    }
    let total = begun.elapsed();
    times.sort();
    println!("{sample:<9} create to running p50    {:>9.2} ms", ms(times[STARTS / 2]));
    println!("{sample:<9} create to running p99    {:>9.2} ms", ms(times[STARTS * 99 / 100]));
    println!("{sample:<9} sandbox+container rate   {:>9.0} /s", STARTS as f64 / total.as_secs_f64());
    println!("{sample:<9} each costs               {:>9} KiB", (rss_kib() - before) / STARTS as i64);
}

async fn requests(client: &mut Client, fabric: &Fabric, connections: usize) {
    let list = client.list_pod_sandbox(ListPodSandboxRequest::default()).await.unwrap().into_inner();
    let pod = list.items.iter().find(|pod| pod.metadata.as_ref().unwrap().name == "hello-0").unwrap();
    let request = PodSandboxStatusRequest { pod_sandbox_id: pod.id.clone(), verbose: false };
    let status = client.pod_sandbox_status(request).await.unwrap().into_inner().status.unwrap();
    let ip = status.network.unwrap().ip.parse().unwrap();
    let (begun, cpu) = (Instant::now(), cpu());
    let mut tasks = Vec::new();
    for _ in 0..connections {
        let io = TokioIo::new(fabric.dial(ip, 8080).await.unwrap());
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        tokio::spawn(connection);
        tasks.push(tokio::spawn(async move {
            for _ in 0..REQUESTS / connections {
                let request = http::Request::get("/").header("host", "p").body(Empty::<bytes::Bytes>::new());
                let response = sender.send_request(request.unwrap()).await.unwrap();
                assert_eq!(response.status(), 200);
                response.into_body().collect().await.unwrap();
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let wall = begun.elapsed();
    println!(
        "hello, {connections} connection(s)            {:>9.0} requests/s",
        REQUESTS as f64 / wall.as_secs_f64()
    );
    let spent = (self::cpu() - cpu).as_micros() as f64 / REQUESTS as f64;
    println!("  CPU per request, client included{spent:>9.1} us");
}

async fn idle(what: &str) {
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = cpu();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let share = (cpu() - before).as_secs_f64() / 3.0 * 100.0;
    println!("{what:<33} {share:>9.2} % of a core, {} KiB", rss_kib());
}

async fn sandbox(client: &mut Client, name: &str) -> String {
    let metadata = PodSandboxMetadata {
        name: name.to_owned(),
        namespace: "default".to_owned(),
        uid: name.to_owned(),
        attempt: 0,
    };
    let config =
        PodSandboxConfig { metadata: Some(metadata), hostname: name.to_owned(), ..Default::default() };
    let request = RunPodSandboxRequest { config: Some(config), runtime_handler: String::new() };
    client.run_pod_sandbox(request).await.unwrap().into_inner().pod_sandbox_id
}

async fn start(client: &mut Client, pod: &str, sample: &str, attempt: u32) {
    let image = format!("coracle.local/samples/{sample}:latest");
    let config = ContainerConfig {
        metadata: Some(ContainerMetadata { name: sample.to_owned(), attempt }),
        image: Some(ImageSpec { image, ..Default::default() }),
        ..Default::default()
    };
    let request =
        CreateContainerRequest { pod_sandbox_id: pod.to_owned(), config: Some(config), sandbox_config: None };
    let container_id = client.create_container(request).await.unwrap().into_inner().container_id;
    client.start_container(StartContainerRequest { container_id }).await.unwrap();
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn rss_kib() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn cpu() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}
