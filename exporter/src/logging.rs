//! Writes log lines to standard error; `RUST_LOG` selects them (`debug`, or `hyper=warn,info`).

use std::io::IsTerminal;

use clap::ValueEnum;
use tracing::Level;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::SubscriberBuilder;
use tracing_subscriber::fmt::format::{DefaultFields, Format};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

const VARIABLE: &str = "RUST_LOG";

/// The format of a line.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum LogFormat {
    /// Text for people
    Text,
    /// One JSON object per line
    Json,
}

/// Starts the log of a program, by default with `info` and above.
pub(crate) fn start(format: LogFormat) {
    let (filter, ignored) = filter(Level::INFO);
    let lines = lines().with_target(false);
    match format {
        LogFormat::Text => lines.finish().with(filter).init(),
        LogFormat::Json => lines.json().finish().with(filter).init(),
    }
    warn(ignored);
}

/// Starts the log of an instance's exporter process, by default with `warn` and above.
pub(crate) fn start_instance() {
    let (filter, ignored) = filter(Level::WARN);
    // Keeps a subscriber that is already installed.
    let _ = lines().finish().with(filter).try_init();
    warn(ignored);
}

fn lines() -> SubscriberBuilder<DefaultFields, Format, LevelFilter, fn() -> std::io::Stderr> {
    tracing_subscriber::fmt()
        .with_max_level(Level::TRACE)
        .with_writer(std::io::stderr as fn() -> _)
        .with_ansi(std::io::stderr().is_terminal())
}

/// Parses the variable; also returns its error, if there is one.
///
/// It filters by targets and levels only. Filtering by fields (`EnvFilter`) needs an engine for
/// regular expressions, a tenth of the program's size.
fn filter(default: Level) -> (Targets, Option<String>) {
    let default = Targets::new().with_default(default);
    match std::env::var(VARIABLE) {
        Ok(text) if !text.is_empty() => match text.parse::<Targets>() {
            Ok(filter) => (filter, None),
            Err(error) => (default, Some(format!("'{text}': {error}"))),
        },
        _ => (default, None),
    }
}

fn warn(ignored: Option<String>) {
    if let Some(ignored) = ignored {
        tracing::warn!("{VARIABLE} is ignored: {ignored}");
    }
}
