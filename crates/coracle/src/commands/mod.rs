//! What each subcommand does.

mod image;
mod nodes;
mod parts;
mod server;
mod up;

use std::future::Future;

use anyhow::{Context as _, Result, bail};
use clap::CommandFactory as _;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::{Cli, Command};

/// Runs a command to its end.
///
/// # Errors
/// In words for the user; the program exits with 1.
pub fn run(command: Command) -> Result<()> {
    match command {
        Command::Up(arguments) => block_on(up::run(arguments)),
        Command::Server(arguments) => block_on(server::run(arguments, true)),
        Command::Apiserver(arguments) => block_on(server::run(arguments, false)),
        Command::Agent(arguments) => block_on(nodes::agent(arguments)),
        Command::Kubelet(arguments) => block_on(nodes::kubelet(arguments)),
        Command::ControllerManager(arguments) => block_on(parts::controller_manager(arguments)),
        Command::Scheduler(arguments) => block_on(parts::scheduler(arguments)),
        Command::Proxy(arguments) => block_on(parts::proxy(arguments)),
        Command::Runtime(arguments) => block_on(parts::runtime(arguments)),
        Command::Kubeconfig(arguments) => nodes::kubeconfig(&arguments),
        Command::Image(arguments) => image::run(arguments),
        Command::Store => bail!(
            "running the store alone is not available yet: `coracle server` runs it with the API server"
        ),
        Command::Token(_) => bail!(
            "joining by token is not available yet: `coracle kubeconfig --node NAME` makes the credential of an agent"
        ),
        Command::Version => {
            println!("coracle {} (Kubernetes {})", env!("CARGO_PKG_VERSION"), crate::VERSION);
            Ok(())
        }
        Command::Completion { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "coracle", &mut std::io::stdout());
            Ok(())
        }
    }
}

/// Runs `work` on the control plane's threads; guests have threads of their own.
fn block_on(work: impl Future<Output = Result<()>>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_name("control")
        .enable_all()
        .build()
        .context("cannot start threads")?;
    let outcome = runtime.block_on(work);
    // A blocking call that is stuck must not keep a stopped cluster alive.
    runtime.shutdown_background();
    outcome
}

/// Waits for SIGINT or SIGTERM.
async fn told_to_stop() -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
