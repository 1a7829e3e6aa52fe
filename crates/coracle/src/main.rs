//! The `coracle` program.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use coracle::cli::Cli;
use coracle::{commands, logs};

fn main() -> ExitCode {
    let cli = Cli::parse();
    logs::init(cli.verbose, cli.log_format);
    coracle_pki::tls::install();
    match commands::run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell if stderr is closed.
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
