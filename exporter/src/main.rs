//! `gunicorn-prometheus-exporter`, the program.

mod cli;
mod health;
mod logging;
mod push_command;

use std::process::ExitCode;

use clap::Parser;
use gunicorn_prometheus_exporter::{Settings, sidecar, standalone};

use cli::{Cli, Failure, Task};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(answer) => return cli::not_a_task(&answer),
    };
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn run(cli: &Cli) -> Result<(), Failure> {
    if let Some(Task::Completions(shell)) = cli.task_without_settings() {
        return cli::print_completions(shell);
    }
    logging::start(cli.log_format);
    // Which provider of cryptography: nobody has chosen one before the first line of the program.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let loaded = cli.settings()?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let read_again = || cli.settings().map(|loaded| loaded.settings);
    let settings: &Settings = &loaded.settings;
    match cli.task(settings)? {
        Task::Standalone => Ok(runtime()?.block_on(standalone(settings, read_again))?),
        Task::Sidecar => Ok(runtime()?.block_on(sidecar(settings, read_again))?),
        Task::Health => Ok(health::ask(&settings.prometheus)?),
        Task::Push(words) => Ok(words.run(&runtime()?, settings)?),
        Task::CheckConfig => cli::print_settings(&loaded),
        Task::Completions(shell) => cli::print_completions(shell),
    }
}

/// One thread is enough for all that this program does.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}
