//! The program itself, as a user starts, breaks and stops it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

const HELLO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../wasm-samples/hello.yaml");

fn coracle(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_coracle"));
    command.args(arguments).env_remove("KUBECONFIG").env_remove("CORACLE_DATA_DIR");
    command
}

/// Node addresses that no other test uses, so that node ports do not collide.
fn own_ip() -> Ipv4Addr {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let n = std::process::id().wrapping_mul(17).wrapping_add(COUNTER.fetch_add(1, Ordering::Relaxed));
    let [_, _, a, b] = n.to_be_bytes();
    Ipv4Addr::new(127, 64 | (a & 63), b, 1)
}

struct Up {
    child: Child,
    ip: Ipv4Addr,
    lines: Vec<String>,
    stdout: BufReader<std::process::ChildStdout>,
}

impl Up {
    fn start(data: &Path, more: &[&str]) -> Self {
        Self::start_at(own_ip(), data, more)
    }

    /// Starts `up` and reads its output to the kubeconfig line.
    fn start_at(ip: Ipv4Addr, data: &Path, more: &[&str]) -> Self {
        let mut child = coracle(&["up", "--port", "0", "--node-ip", &ip.to_string()])
            .arg("--data-dir")
            .arg(data)
            .args(more)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let mut up = Self { child, ip, lines: Vec::new(), stdout };
        up.read_until("kubeconfig: ");
        up
    }

    fn read_until(&mut self, start: &str) -> String {
        loop {
            let mut line = String::new();
            assert!(self.stdout.read_line(&mut line).unwrap() > 0, "no {start:?} in {:?}", self.lines);
            let line = line.trim_end().to_owned();
            self.lines.push(line.clone());
            if let Some(rest) = line.strip_prefix(start) {
                return rest.to_owned();
            }
        }
    }

    fn signal(&mut self, signal: Signal) -> std::process::ExitStatus {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).unwrap();
        self.child.wait().unwrap()
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn get(ip: Ipv4Addr, port: u16) -> Option<String> {
    let mut stream = TcpStream::connect((ip, port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    write!(stream, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.starts_with("HTTP/1.1 200").then_some(answer)
}

fn wait_for_hello(ip: Ipv4Addr) {
    let began = Instant::now();
    while get(ip, 30080).is_none() {
        assert!(began.elapsed() < Duration::from_secs(60), "hello does not answer");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Runs to its end; a program that goes on for a minute has not failed as it should.
fn failure(command: &mut Command) -> String {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let began = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if began.elapsed() > Duration::from_secs(60) {
            let _ = child.kill();
            panic!("{command:?} did not end");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let Output { status, stderr, .. } = child.wait_with_output().unwrap();
    assert_eq!(status.code(), Some(1), "{}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stderr).unwrap()
}

#[test]
fn up_says_where_everything_is_and_stops_cleanly() {
    let dir = tempfile::tempdir().unwrap();
    let mut up = Up::start(dir.path(), &["-f", HELLO]);
    let ready = up.lines.iter().find(|l| l.starts_with("ready in ")).unwrap();
    assert!(ready.ends_with(" ms"), "{ready}");
    assert!(up.lines.last().unwrap().ends_with("/kubeconfig"));
    let export = up.read_until("export KUBECONFIG=");
    assert!(export.ends_with("/kubeconfig"));
    let service = up.read_until("service default/hello: ");
    assert_eq!(service, format!("http://{}:30080/", up.ip));
    wait_for_hello(up.ip);
    let began = Instant::now();
    let status = up.signal(Signal::TERM);
    assert_eq!(status.code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(5), "stopping took {:?}", began.elapsed());
}

#[test]
fn killed_and_started_again_everything_is_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let ip = own_ip();
    for round in 0..3 {
        let mut up = Up::start_at(ip, dir.path(), &["-f", HELLO]);
        wait_for_hello(ip);
        let status = up.signal(Signal::KILL);
        assert_eq!(status.code(), None, "round {round}");
    }
}

#[test]
fn ephemeral_leaves_nothing_behind() {
    let temporary = tempfile::tempdir().unwrap();
    let ip = own_ip().to_string();
    let mut child = coracle(&["up", "--port", "0", "--ephemeral", "--agents", "0", "--node-ip", &ip])
        .env("TMPDIR", temporary.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.starts_with("kubeconfig: ") {
        line.clear();
        assert!(stdout.read_line(&mut line).unwrap() > 0);
    }
    assert!(std::fs::read_dir(temporary.path()).unwrap().next().is_some());
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(std::fs::read_dir(temporary.path()).unwrap().next().is_none());
}

#[test]
fn a_taken_port_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let dir = tempfile::tempdir().unwrap();
    let said = failure(coracle(&["up", "--port", &port]).arg("--data-dir").arg(dir.path()));
    assert!(said.contains(&port) && said.contains("in use"), "{said}");
}

#[test]
fn a_data_directory_in_use_is_named_with_its_owner() {
    let dir = tempfile::tempdir().unwrap();
    let up = Up::start(dir.path(), &["--agents", "0"]);
    let said = failure(coracle(&["up", "--port", "0"]).arg("--data-dir").arg(dir.path()));
    assert!(said.contains("in use") && said.contains(&up.child.id().to_string()), "{said}");
}

#[test]
fn a_data_directory_that_cannot_be_written_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let said = failure(coracle(&["up", "--port", "0"]).arg("--data-dir").arg(file.join("below")));
    assert!(said.contains("below"), "{said}");
}

#[test]
fn a_newer_format_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("VERSION"), "format=99\noldest-reader=98\n").unwrap();
    let said = failure(coracle(&["up", "--port", "0"]).arg("--data-dir").arg(dir.path()));
    assert!(said.contains("newer"), "{said}");
}

#[test]
fn a_broken_manifest_names_file_document_and_field() {
    let dir = tempfile::tempdir().unwrap();
    let manifest = dir.path().join("app.yaml");
    for (text, wanted) in [
        (
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n---\nkind: Pod\nmetadata: {name: b}\n",
            "document 2: apiVersion",
        ),
        ("a: [", "line"),
        (
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: b}\nspec: {containers: []}\n",
            "spec.containers",
        ),
    ] {
        std::fs::write(&manifest, text).unwrap();
        let data = dir.path().join("data");
        let mut command = coracle(&["up", "--port", "0", "--agents", "0"]);
        let said = failure(command.arg("--data-dir").arg(&data).arg("-f").arg(&manifest));
        assert!(said.contains("app.yaml") && said.contains(wanted), "{wanted}: {said}");
    }
}

#[test]
fn what_is_not_there_yet_says_so() {
    let dir = tempfile::tempdir().unwrap();
    for arguments in [
        &["up", "--servers", "3"][..],
        &["server", "--join", "https://127.0.0.1:1", "--token", "t"],
        &["server", "--datastore-endpoints", "http://127.0.0.1:1"],
        &["agent", "--server", "https://127.0.0.1:1", "--token", "t"],
        &["store"],
        &["token"],
        &["image", "pull", "x:y"],
        &["image", "push", "x:y"],
    ] {
        let said = failure(coracle(arguments).env("CORACLE_DATA_DIR", dir.path()));
        assert!(said.contains("not available yet"), "{arguments:?}: {said}");
    }
}

#[test]
fn an_image_is_loaded_beside_a_running_cluster() {
    let dir = tempfile::tempdir().unwrap();
    let wasm = concat!(env!("CARGO_MANIFEST_DIR"), "/../../wasm-samples/prebuilt/cli.wasm");
    let image = |arguments: &[&str]| {
        let output =
            coracle(&["image"]).args(arguments).env("CORACLE_DATA_DIR", dir.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    image(&["load", wasm, "before:v1"]);
    let _up = Up::start(dir.path(), &[]);
    image(&["load", wasm, "during:v1"]);
    let listed = image(&["ls"]);
    assert!(listed.contains("before:v1") && listed.contains("during:v1"), "{listed}");
    image(&["rm", "before:v1"]);
    assert!(!image(&["ls"]).contains("before:v1"));
}
