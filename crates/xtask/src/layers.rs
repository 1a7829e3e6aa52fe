//! Dependency directions: edges → drivers → cores → vocabulary, and the walls between drivers.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

/// What each crate may know of the others. A crate that is not listed fails the check, so
/// that a new one has to find its place here.
const ALLOWED: &[(&str, &[&str])] = &[
    // Vocabulary.
    ("coracle-api", &[]),
    // Pure cores.
    ("coracle-machinery", &["coracle-api"]),
    ("coracle-plan", &["coracle-api", "coracle-machinery"]),
    // Drivers.
    ("coracle-store", &[]),
    ("coracle-pki", &[]),
    ("coracle-cri", &[]),
    ("coracle-images", &[]),
    ("coracle-network", &["coracle-cri"]),
    ("coracle-client", &["coracle-api", "coracle-plan"]),
    (
        "coracle-apiserver",
        &["coracle-api", "coracle-machinery", "coracle-plan", "coracle-store", "coracle-pki"],
    ),
    ("coracle-controllers", &["coracle-api", "coracle-plan", "coracle-client"]),
    ("coracle-scheduler", &["coracle-api", "coracle-plan", "coracle-client"]),
    ("coracle-kubelet", &["coracle-api", "coracle-plan", "coracle-client", "coracle-cri", "coracle-pki"]),
    ("coracle-proxy", &["coracle-api", "coracle-plan", "coracle-client", "coracle-cri"]),
    ("coracle-runtime", &["coracle-cri", "coracle-network", "coracle-images"]),
    // Edges.
    ("coracle", &["*"]),
    ("coracle-testkit", &["*"]),
    ("e2e", &["*"]),
    ("xtask", &[]),
];

/// Crates that do no I/O: none of these libraries may reach them.
const CORES: [&str; 3] = ["coracle-api", "coracle-machinery", "coracle-plan"];
const IMPURE: [&str; 8] = ["tokio", "hyper", "axum", "kube", "reqwest", "rand", "redb", "tonic"];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_members: BTreeSet<String>,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    kind: Option<String>,
}

/// Checks every crate's dependencies against the table above.
///
/// # Errors
/// Lists every edge that points the wrong way.
pub fn check(root: &Path) -> Result<()> {
    let graph = graph(root)?;
    let complaints = judge(&graph);
    if !complaints.is_empty() {
        bail!("{}", complaints.join("\n"));
    }
    println!("layers: {} crates", graph.len());
    Ok(())
}

/// The dependency map, a line per crate.
///
/// # Errors
/// When cargo does not answer.
pub fn map(root: &Path) -> Result<String> {
    let graph = graph(root)?;
    let mut text = String::new();
    for (name, _) in ALLOWED {
        if let Some(dependencies) = graph.get(*name) {
            let own: Vec<&str> =
                dependencies.iter().map(String::as_str).filter(|d| graph.contains_key(*d)).collect();
            writeln!(text, "{name} -> {}", own.join(" "))?;
        }
    }
    Ok(text)
}

fn judge(graph: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let mut complaints = Vec::new();
    for (name, dependencies) in graph {
        let Some((_, allowed)) = ALLOWED.iter().find(|(n, _)| n == name) else {
            complaints.push(format!("{name}: has no place in xtask's table of layers"));
            continue;
        };
        for dependency in dependencies {
            let ours = graph.contains_key(dependency);
            if ours && !allowed.contains(&"*") && !allowed.contains(&dependency.as_str()) {
                complaints.push(format!("{name} must not know {dependency}"));
            }
            if CORES.contains(&name.as_str()) && IMPURE.contains(&dependency.as_str()) {
                complaints.push(format!("{name} is a pure core and must not use {dependency}"));
            }
        }
    }
    complaints
}

fn graph(root: &Path) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["metadata", "--no-deps", "--format-version", "1", "--locked"])
        .current_dir(root)
        .output()
        .context("cargo metadata does not start")?;
    if !output.status.success() {
        bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    }
    let metadata: Metadata = serde_json::from_slice(&output.stdout).context("cargo metadata")?;
    let members = metadata.packages.into_iter().filter(|p| metadata.workspace_members.contains(&p.id));
    Ok(members
        .map(|p| {
            // Build dependencies run on the developer's machine, not in the crate.
            let used = p.dependencies.into_iter().filter(|d| d.kind.is_none()).map(|d| d.name).collect();
            (p.name, used)
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::judge;
    use std::collections::{BTreeMap, BTreeSet};

    fn graph(edges: &[(&str, &[&str])]) -> BTreeMap<String, BTreeSet<String>> {
        edges.iter().map(|(n, ds)| ((*n).to_owned(), ds.iter().map(|d| (*d).to_owned()).collect())).collect()
    }

    #[test]
    fn edges_that_point_up_are_named() {
        let bad = graph(&[("coracle-kubelet", &["coracle-runtime"]), ("coracle-runtime", &[])]);
        assert_eq!(judge(&bad), ["coracle-kubelet must not know coracle-runtime"]);
        let good = graph(&[("coracle-runtime", &["coracle-images", "tokio"]), ("coracle-images", &[])]);
        assert!(judge(&good).is_empty());
    }

    #[test]
    fn cores_stay_pure() {
        let bad = graph(&[("coracle-plan", &["tokio"])]);
        assert_eq!(judge(&bad), ["coracle-plan is a pure core and must not use tokio"]);
    }

    #[test]
    fn a_new_crate_needs_a_place() {
        assert_eq!(judge(&graph(&[("coracle-new", &[])])).len(), 1);
    }
}
