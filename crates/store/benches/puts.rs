//! Puts per second with 1 and with 64 clients, what they cost in CPU, reads, the time to
//! open, and the disk's fsync time beside them.
//!
//! `cargo bench -p coracle-store [-- --dir DIR --seconds N --value BYTES]`; without `--dir`
//! it uses the temporary directory, so set it to measure the disk that matters.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a program for people who measure")]

use std::{
    fs::File,
    io::Write,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use coracle_store::{Embedded, EmbeddedConfig, KeyRange, Kv, Op, PutRequest, RangeRequest, TxnRequest};

struct Options {
    dir: Option<PathBuf>,
    seconds: u64,
    value: usize,
}

fn options() -> Options {
    let mut options = Options { dir: None, seconds: 3, value: 256 };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--dir" => options.dir = args.next().map(Into::into),
            "--seconds" => options.seconds = args.next().and_then(|n| n.parse().ok()).unwrap_or(3),
            "--value" => options.value = args.next().and_then(|n| n.parse().ok()).unwrap_or(256),
            // What `cargo bench` itself passes.
            _ => {}
        }
    }
    options
}

/// User and system time of this process so far.
fn cpu() -> Duration {
    let usage = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = usage.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

fn fsync_times(dir: &Path) -> (Duration, Duration) {
    let path = dir.join("fsync.probe");
    let mut file = File::create(&path).unwrap();
    let mut times: Vec<Duration> = (0..300)
        .map(|_| {
            file.write_all(&[7; 4096]).unwrap();
            let begin = Instant::now();
            file.sync_data().unwrap();
            begin.elapsed()
        })
        .collect();
    std::fs::remove_file(path).unwrap();
    times.sort();
    (times[times.len() / 2], times[times.len() * 99 / 100])
}

async fn clients<F>(name: &str, n: usize, seconds: u64, request: impl Fn(u64) -> F + Send + Sync + 'static)
where
    F: Future<Output = ()> + Send,
{
    let request = Arc::new(request);
    let counter = Arc::new(AtomicU64::new(0));
    let end = Instant::now() + Duration::from_secs(seconds);
    let (begin, begin_cpu) = (Instant::now(), cpu());
    let tasks: Vec<_> = (0..n)
        .map(|_| {
            let (request, counter) = (request.clone(), counter.clone());
            tokio::spawn(async move {
                let mut times = Vec::new();
                while Instant::now() < end {
                    let begin = Instant::now();
                    request(counter.fetch_add(1, Ordering::Relaxed)).await;
                    times.push(begin.elapsed());
                }
                times
            })
        })
        .collect();
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await.unwrap());
    }
    let (wall, used) = (begin.elapsed(), cpu() - begin_cpu);
    times.sort();
    let done = times.len();
    println!(
        "{name:<24} {n:>5} clients {:>8.0}/s  p50 {:>7.0?} p99 {:>7.0?}  cpu {:>5.1} µs each",
        done as f64 / wall.as_secs_f64(),
        times[done / 2],
        times[done * 99 / 100],
        used.as_secs_f64() * 1e6 / done as f64,
    );
}

fn put(key: String, value: Vec<u8>) -> TxnRequest {
    TxnRequest { success: vec![Op::Put(PutRequest::new(key, value))], ..TxnRequest::default() }
}

async fn run(options: &Options, dir: Option<PathBuf>) {
    println!("-- {}", if dir.is_some() { "on disk" } else { "in memory" });
    let begin = Instant::now();
    let kv = Embedded::open(EmbeddedConfig::new(dir.clone())).await.unwrap();
    println!("open, new: {:.1?}", begin.elapsed());
    let value = options.value;
    for n in [1, 64, 1024] {
        let store = kv.clone();
        clients("put, 10k keys", n, options.seconds, move |i| {
            let store = store.clone();
            async move {
                drop(
                    store.txn(put(format!("/bench/{:08}", i * 7919 % 10_000), vec![1; value])).await.unwrap(),
                )
            }
        })
        .await;
    }
    for (name, serializable) in [("get, linearizable", false), ("get, serializable", true)] {
        let store = kv.clone();
        clients(name, 64, options.seconds, move |i| {
            let store = store.clone();
            let key = KeyRange::Key(format!("/bench/{:08}", i % 10_000).into());
            async move {
                drop(store.range(RangeRequest { serializable, ..RangeRequest::new(key) }).await.unwrap())
            }
        })
        .await;
    }
    let begin = Instant::now();
    let all = kv.range(RangeRequest::new(KeyRange::prefix("/bench/"))).await.unwrap();
    println!("list of {} keys: {:.1?}", all.count, begin.elapsed());
    let status = kv.status().await.unwrap();
    println!("state file: {} KiB, revision {}", status.db_bytes / 1024, status.revision);
    if let Some(dir) = &dir {
        // As a crash would leave it: the copy is the disk as of now.
        let copy = dir.with_extension("crashed");
        std::fs::create_dir(&copy).unwrap();
        for name in ["VERSION", "log.redb", "state.redb"] {
            std::fs::copy(dir.join(name), copy.join(name)).unwrap();
        }
        let begin = Instant::now();
        let crashed = Embedded::open(EmbeddedConfig::new(Some(copy))).await.unwrap();
        println!("open, after a crash: {:.1?}", begin.elapsed());
        crashed.shutdown().await;
    }
    let begin = Instant::now();
    kv.compact(status.revision).await.unwrap();
    kv.shutdown().await;
    println!("compact and shut down: {:.1?}", begin.elapsed());
    if let Some(dir) = dir {
        let begin = Instant::now();
        let kv = Embedded::open(EmbeddedConfig::new(Some(dir))).await.unwrap();
        println!("open, existing: {:.1?}", begin.elapsed());
        let begin_cpu = cpu();
        tokio::time::sleep(Duration::from_secs(5)).await;
        println!("idle: {:.2}% of a core", (cpu() - begin_cpu).as_secs_f64() / 5.0 * 100.0);
        kv.shutdown().await;
    }
}

#[tokio::main]
async fn main() {
    let options = options();
    let scratch = match &options.dir {
        Some(dir) => tempfile::tempdir_in(dir).unwrap(),
        None => tempfile::tempdir().unwrap(),
    };
    let (p50, p99) = fsync_times(scratch.path());
    println!("fsync of 4 KiB appended: p50 {p50:.0?}, p99 {p99:.0?}");
    run(&options, Some(scratch.path().join("store"))).await;
    run(&options, None).await;
}
