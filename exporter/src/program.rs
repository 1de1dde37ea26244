//! The program: runs its command line and returns the exit status.

use std::ffi::OsString;
use std::os::fd::AsFd;

use clap::Parser;

use crate::cli::{self, Cli, Failure, Task};
use crate::frame::{run_to_the_end, runtime};
use crate::idle::idle;
use crate::instance::run_instance;
use crate::{health, logging, sidecar, standalone};

/// Runs the program with these words, the first of which is its own name; returns its exit status.
pub fn run_program(words: impl IntoIterator<Item = OsString>) -> u8 {
    let cli = match Cli::try_parse_from(words) {
        Ok(cli) => cli,
        Err(answer) => return cli::not_a_task(&answer),
    };
    if cli.is_instance() {
        return instance();
    }
    match run(&cli) {
        Ok(()) => cli::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// Runs the exporter of an instance whose arbiter started this program; standard input is the link.
fn instance() -> u8 {
    match std::io::stdin().as_fd().try_clone_to_owned() {
        Ok(link) => run_instance(link),
        Err(error) => {
            eprintln!("the exporter of an instance is started by its arbiter only: {error}");
            cli::USAGE
        }
    }
}

fn run(cli: &Cli) -> Result<(), Failure> {
    if let Some(shell) = cli.completions() {
        return cli::print_completions(shell);
    }
    logging::start(cli.log_format);
    // The provider of cryptography; this is the first line of the program, so no other is
    // installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let loaded = cli.settings()?;
    if !cli.is_strict() {
        for warning in &loaded.warnings {
            tracing::warn!("{warning}");
        }
    }
    for hint in &loaded.hints {
        tracing::info!("{hint}");
    }
    let read_again = || cli.settings().map(|loaded| loaded.settings);
    let settings = &loaded.settings;
    match cli.task(settings)? {
        Task::Standalone => Ok(run_to_the_end(standalone(settings, read_again))??),
        Task::Sidecar => Ok(run_to_the_end(sidecar(settings, read_again))??),
        Task::Idle => Ok(run_to_the_end(idle(settings, read_again))??),
        Task::Health => Ok(health::ask(&settings.prometheus)?),
        Task::Push(words) => Ok(words.run(&runtime()?, settings)?),
        Task::CheckConfig(words) => words.run(&loaded),
    }
}
