//! `gunicorn-prometheus-exporter`, the program.

mod cli;
mod health;
mod logging;

use std::process::ExitCode;

use clap::Parser;
use gunicorn_prometheus_exporter::standalone;

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
    logging::start(cli.log_format);
    // Which provider of cryptography: nobody has chosen one before the first line of the program.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let loaded = cli.settings()?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    match cli.task(&loaded.settings)? {
        Task::Standalone => {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            let read_again = || cli.settings().map(|loaded| loaded.settings);
            Ok(runtime.block_on(standalone(&loaded.settings, read_again))?)
        }
        Task::Health => Ok(health::ask(&loaded.settings.prometheus)?),
        Task::CheckConfig => cli::print_settings(&loaded),
    }
}
