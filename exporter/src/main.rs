//! `gunicorn-prometheus-exporter`, the program.

use std::process::ExitCode;

fn main() -> ExitCode {
    gunicorn_prometheus_exporter::run_program(std::env::args_os()).into()
}
