//! Log lines go to standard error; `RUST_LOG` says which (`debug`, or `hyper=warn,info`).

use std::io::IsTerminal;

use clap::ValueEnum;
use tracing::Level;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::SubscriberBuilder;
use tracing_subscriber::fmt::format::{DefaultFields, Format};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

const VARIABLE: &str = "RUST_LOG";

/// How a line looks.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

/// From here on, what is logged is seen: of the program, which says `info` and above by itself.
pub(crate) fn start(format: LogFormat) {
    let (filter, ignored) = filter(Level::INFO);
    let lines = lines().with_target(false);
    match format {
        LogFormat::Text => lines.finish().with(filter).init(),
        LogFormat::Json => lines.json().finish().with(filter).init(),
    }
    warn(ignored);
}

/// The same in the process of an instance, which has `warn` and above to say.
pub(crate) fn start_instance() {
    let (filter, ignored) = filter(Level::WARN);
    // Who has set it up before is right.
    let _ = lines().finish().with(filter).try_init();
    warn(ignored);
}

fn lines() -> SubscriberBuilder<DefaultFields, Format, LevelFilter, fn() -> std::io::Stderr> {
    tracing_subscriber::fmt()
        .with_max_level(Level::TRACE)
        .with_writer(std::io::stderr as fn() -> _)
        .with_ansi(std::io::stderr().is_terminal())
}

/// What the variable says; with what is wrong in it, if anything is.
///
/// By targets and levels only: to filter by fields (`EnvFilter`), an engine for regular expressions
/// would be a tenth of the program.
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
