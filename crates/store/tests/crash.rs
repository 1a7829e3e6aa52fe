//! `kill -9` in a loop: every acknowledged write is there afterwards, at its revision, and
//! no revision is given twice.
//!
//! The writer is this very test program, started again with [`CHILD`] set. Rounds:
//! `CORACLE_CRASH_ROUNDS` (default 20).
#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    hash::{BuildHasher, Hasher, RandomState},
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use coracle_store::{
    Embedded, EmbeddedConfig, EventKind, KeyRange, Kv, Op, PutRequest, RangeRequest, TxnRequest,
    WatchMessage, WatchRequest,
};

/// Directory that the child writes to.
const CHILD: &str = "CORACLE_CRASH_CHILD";
/// Begin of the values of this run of the child.
const RUN: &str = "CORACLE_CRASH_RUN";
const WRITERS: usize = 16;

/// A write that was acknowledged.
type Acknowledged = BTreeMap<i64, (String, String)>;

#[tokio::test(flavor = "multi_thread")]
async fn child() {
    let Ok(dir) = std::env::var(CHILD) else { return };
    let run = std::env::var(RUN).unwrap();
    let kv = Embedded::open(EmbeddedConfig::new(Some(dir.into()))).await.unwrap();
    let writers: Vec<_> =
        (0..WRITERS).map(|writer| tokio::spawn(write(kv.clone(), writer, run.clone()))).collect();
    for writer in writers {
        writer.await.unwrap();
    }
}

/// Writes until killed, and says so on stdout once a write is acknowledged.
async fn write(kv: Arc<Embedded>, writer: usize, run: String) {
    for i in 0.. {
        let (key, value) = (format!("/crash/{writer}/{}", i % 50), format!("{run}.{i}"));
        let put = Op::Put(PutRequest::new(key.clone(), value.clone()));
        let done = kv.txn(TxnRequest { success: vec![put], ..TxnRequest::default() }).await.unwrap();
        let line = format!("ack {} {key} {value}\n", done.revision);
        std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
    }
}

/// A child that does not outlive the test.
struct Writer(Child);

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Lets the child write, kills it after `life`, and answers what it acknowledged.
fn round(dir: &Path, run: usize, life: Duration, from_first: bool) -> Acknowledged {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child", "--nocapture"]).env(CHILD, dir).env(RUN, run.to_string());
    let mut writer = Writer(command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap());
    let mut lines = BufReader::new(writer.0.stdout.take().unwrap()).lines();
    let mut acknowledged = Acknowledged::new();
    let mut note = |line: String| {
        // A line that the kill cut short is no acknowledgement.
        let fields: Vec<&str> = line.split(' ').collect();
        if let ["ack", revision, key, value] = fields[..] {
            let before = acknowledged.insert(revision.parse().unwrap(), (key.to_owned(), value.to_owned()));
            assert_eq!(before, None, "revision {revision} given twice");
        }
    };
    if from_first {
        for line in lines.by_ref() {
            let line = line.unwrap();
            let is_first = line.starts_with("ack ");
            note(line);
            if is_first {
                break;
            }
        }
    }
    let killer = std::thread::spawn(move || {
        std::thread::sleep(life);
        writer.0.kill().unwrap();
        writer.0.wait().unwrap();
    });
    let mut rest: Vec<String> = lines.map_while(Result::ok).collect();
    killer.join().unwrap();
    if rest.last().is_some_and(|line| !line.contains(&format!(" {run}."))) {
        rest.pop();
    }
    // The last line may lack its end, and with it a digit.
    rest.pop();
    rest.into_iter().for_each(&mut note);
    acknowledged
}

/// Every change since `from`, from the store's history.
async fn history(kv: &Embedded, from: i64) -> Acknowledged {
    let newest = kv.status().await.unwrap().revision;
    let range = KeyRange::prefix("/crash/");
    let request = WatchRequest { range, start_revision: from, prev_kv: false, progress_notify: false };
    let mut stream = kv.watch(request).await.unwrap();
    let mut seen = Acknowledged::new();
    while seen.last_key_value().map_or(from - 1, |(revision, _)| *revision) < newest {
        let message = stream.recv().await.unwrap().unwrap();
        let WatchMessage::Events { revision, events } = message else { continue };
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        assert_eq!((events.len(), events[0].kind), (1, EventKind::Put));
        let before = seen.insert(revision, (text(&events[0].kv.key), text(&events[0].kv.value)));
        assert_eq!(before, None);
    }
    seen
}

/// The store holds what was acknowledged, at the revisions that were told.
async fn verify(dir: &Path, acknowledged: &Acknowledged, compact: bool) {
    let kv = Embedded::open(EmbeddedConfig::new(Some(dir.to_owned()))).await.unwrap();
    let from = kv.status().await.unwrap().compact_revision.max(2);
    let stored = history(&kv, from).await;
    for (revision, write) in acknowledged.range(from..) {
        assert_eq!(stored.get(revision), Some(write), "revision {revision}");
    }
    // What a key holds now is what history says last.
    let mut newest: BTreeMap<&str, (i64, &str)> = BTreeMap::new();
    for (revision, (key, value)) in &stored {
        newest.insert(key, (*revision, value));
    }
    let now = kv.range(RangeRequest::new(KeyRange::prefix("/crash/"))).await.unwrap();
    for kv in &now.kvs {
        if let Some((revision, value)) = newest.get(std::str::from_utf8(&kv.key).unwrap()) {
            assert_eq!((kv.mod_revision, &kv.value[..]), (*revision, value.as_bytes()));
        }
    }
    // Also where compaction took the history away.
    let mut last: BTreeMap<&str, (i64, &str)> = BTreeMap::new();
    for (revision, (key, value)) in acknowledged {
        last.insert(key, (*revision, value));
    }
    for (key, (revision, value)) in last {
        let at = now.kvs.binary_search_by(|kv| kv.key.as_ref().cmp(key.as_bytes()));
        let stored = &now.kvs[at.unwrap()];
        assert!(stored.mod_revision >= revision, "{key} was written at {revision}");
        assert!(stored.mod_revision > revision || stored.value == value);
    }
    if compact && now.revision > from {
        kv.compact(now.revision).await.unwrap();
    }
    kv.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_writes_survive_kill_9() {
    let rounds: usize = std::env::var("CORACLE_CRASH_ROUNDS").map_or(20, |n| n.parse().unwrap());
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("store");
    let mut all = Acknowledged::new();
    for run in 0..rounds {
        let random = RandomState::new().build_hasher().finish();
        // Now and then it dies while it opens.
        let (life, from_first) = match random % 5 {
            0 => (Duration::from_millis(random / 5 % 30), false),
            _ => (Duration::from_millis(random / 5 % 250), true),
        };
        let acknowledged = round(&dir, run, life, from_first);
        println!("round {run}: killed after {life:?}, {} writes acknowledged", acknowledged.len());
        for (revision, write) in &acknowledged {
            assert!(!all.contains_key(revision), "revision {revision} was given in an earlier round");
            assert!(
                all.last_key_value().is_none_or(|(last, _)| last < revision),
                "{write:?} went back in time"
            );
        }
        all.extend(acknowledged);
        // Verifying closes the store cleanly; a kill shall also follow a kill.
        if random % 7 < 3 || run + 1 == rounds {
            verify(&dir, &all, random.is_multiple_of(3)).await;
        }
    }
    assert!(all.len() > rounds, "the rounds wrote something");
}
