//! Tests that need what a machine may not have: they skip in a way that is counted.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Notes that the running test was skipped. `what` is one word that names the missing thing
/// (`kubectl`, `python`, `golden`); the line goes to stderr and to the file that
/// `CORACLE_SKIP_LOG` names, from which CI tells expected skips from others.
pub fn skip(what: &str, why: &str) {
    let test = std::thread::current().name().unwrap_or("?").to_owned();
    let line = format!("{what} {test}: {why}\n");
    eprint!("SKIPPED {line}");
    let Some(log) = std::env::var_os("CORACLE_SKIP_LOG") else { return };
    let written = std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(&log)
        .and_then(|mut file| file.write_all(line.as_bytes()));
    if let Err(error) = written {
        panic!("cannot note a skipped test in {}: {error}", Path::new(&log).display());
    }
}

/// Where `program` is on PATH; notes a skip and gives `None` when it is not.
#[must_use]
pub fn tool(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join(program)).find(|p| p.is_file());
    if found.is_none() {
        skip(program, &format!("{program} is not on PATH"));
    }
    found
}

/// A Python interpreter that has the `kubernetes` client: `CORACLE_PYTHON` or `python3`.
/// Notes a skip and gives `None` when there is none.
#[must_use]
pub fn python_client() -> Option<PathBuf> {
    let python = std::env::var_os("CORACLE_PYTHON").map_or_else(|| PathBuf::from("python3"), PathBuf::from);
    let works = Command::new(&python)
        .args(["-c", "import kubernetes, yaml"])
        .output()
        .is_ok_and(|output| output.status.success());
    if works {
        return Some(python);
    }
    skip("python", "no Python with the kubernetes client; set CORACLE_PYTHON");
    None
}
