//! `cargo xtask`: the gate that every change passes, and the chores around it.

mod layers;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "Chores of the Coracle repository")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Checks everything that CI checks.
    Verify {
        /// Leave the tests out: formatting, lints, module docs and dependency directions only.
        #[arg(long)]
        no_tests: bool,
    },
    /// Mends what can be mended by a program: formatting and machine-applicable lints.
    Fix,
    /// Prints the layers and what each crate depends on.
    Map,
}

fn main() -> Result<()> {
    let root = root()?;
    match Cli::parse().task {
        Task::Verify { no_tests } => verify(&root, no_tests),
        Task::Fix => fix(&root),
        Task::Map => {
            print!("{}", layers::map(&root)?);
            Ok(())
        }
    }
}

fn verify(root: &Path, no_tests: bool) -> Result<()> {
    cargo(root, &["fmt", "--all", "--check"])?;
    tidy::check(root)?;
    layers::check(root)?;
    cargo(root, &["clippy", "--release", "--workspace", "--all-targets", "--", "-D", "warnings"])?;
    if !no_tests {
        test(root)?;
    }
    if installed("cargo-deny") {
        cargo(root, &["deny", "check"])?;
    } else {
        println!("cargo-deny is not installed: licences and advisories were not checked");
    }
    println!("verify: all good");
    Ok(())
}

/// Runs all tests. A program that `CORACLE_TEST_RUNNER` names starts every test program, as CI
/// does to run them as an ordinary user.
fn test(root: &Path) -> Result<()> {
    let arguments = ["test", "--release", "--workspace", "--no-fail-fast"];
    let Some(runner) = std::env::var_os("CORACLE_TEST_RUNNER") else {
        return cargo(root, &arguments);
    };
    let facts = Command::new("rustc").arg("-vV").output().context("rustc does not start")?;
    let facts = String::from_utf8(facts.stdout).context("rustc -vV")?;
    let host = facts.lines().find_map(|l| l.strip_prefix("host: ")).context("rustc -vV names no host")?;
    let variable = format!("CARGO_TARGET_{}_RUNNER", host.to_ascii_uppercase().replace('-', "_"));
    run(cargo_command(root, &arguments).env(variable, runner), &arguments)
}

fn fix(root: &Path) -> Result<()> {
    cargo(
        root,
        &["clippy", "--release", "--workspace", "--all-targets", "--fix", "--allow-dirty", "--allow-staged"],
    )?;
    cargo(root, &["fmt", "--all"])
}

fn cargo(root: &Path, arguments: &[&str]) -> Result<()> {
    run(&mut cargo_command(root, arguments), arguments)
}

fn cargo_command(root: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(root);
    command
}

fn run(command: &mut Command, arguments: &[&str]) -> Result<()> {
    println!("$ cargo {}", arguments.join(" "));
    let status = command.status().context("cargo does not start")?;
    if !status.success() {
        bail!("cargo {} failed", arguments.join(" "));
    }
    Ok(())
}

fn installed(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(program).is_file()))
}

fn root() -> Result<PathBuf> {
    let manifest = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    manifest.ancestors().nth(2).map(Path::to_owned).context("xtask lies in crates/xtask")
}
