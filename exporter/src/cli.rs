//! The words of the command line, and what they come to.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use gunicorn_prometheus_exporter::settings::{
    GunicornSettings, Loaded, Origin, Settings, SettingsError,
};
use gunicorn_prometheus_exporter::{Protection, RedisBackend, StandaloneError};
use serde::Serialize;

use crate::health::NotHealthy;
use crate::logging::LogFormat;

/// `EX_USAGE` of sysexits.h: the command line, the environment or the file is wrong.
const USAGE: u8 = 64;

/// Serves the metrics of Gunicorn applications to Prometheus.
///
/// Settings are taken from the flags, then from the environment, then from the file, then from the
/// defaults. Without a command, the Redis that they name is served.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Option<Command>,

    /// The YAML file
    #[arg(long, global = true, env = "YAML_CONFIG_PATH", value_name = "FILE")]
    config: Option<PathBuf>,

    /// The port of /metrics [default: 9091]
    #[arg(long, global = true, value_name = "PORT")]
    port: Option<String>,

    /// The address to bind [default: 0.0.0.0]
    #[arg(long, global = true, value_name = "ADDRESS")]
    bind: Option<String>,

    /// The Redis that shares the metrics: redis://, rediss:// or unix://
    #[arg(long, global = true, value_name = "URL")]
    redis_url: Option<String>,

    /// How log lines look, on standard error
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
}

#[derive(Debug, Clone, Copy, Subcommand)]
enum Command {
    /// Does what the settings say; the default
    Serve,
    /// Serves the metrics that applications share in one Redis
    Standalone,
    /// Asks a running exporter whether it is healthy: exit status 0 or 1
    Health,
    /// Prints the settings in force, without passwords: exit status 0 or 64
    CheckConfig,
}

/// What the program is to do.
pub(crate) enum Task {
    Standalone,
    Health,
    CheckConfig,
}

impl Cli {
    /// All settings, with the flags before the environment.
    pub(crate) fn settings(&self) -> Result<Loaded, SettingsError> {
        // An empty variable, as a compose file leaves it, names no file.
        let path = self
            .config
            .as_deref()
            .filter(|path| !path.as_os_str().is_empty());
        let text = path.map(Settings::read_file).transpose()?;
        let flags = [
            ("--port", "PROMETHEUS_METRICS_PORT", &self.port),
            ("--bind", "PROMETHEUS_BIND_ADDRESS", &self.bind),
            (
                "--redis-url",
                "GUNICORN_EXPORTER_REDIS_URL",
                &self.redis_url,
            ),
        ];
        let env = |name: &str| {
            let flag = flags.iter().find(|(_, variable, _)| *variable == name);
            flag.and_then(|(_, _, value)| (*value).clone())
                .or_else(|| std::env::var(name).ok())
        };
        let mut loaded = Settings::load(path.zip(text.as_deref()), &env)
            .map_err(|error| name_flag(error, &flags))?;
        let is_standalone = matches!(self.command, Some(Command::Standalone));
        if is_standalone || self.redis_url.is_some() {
            loaded.settings.redis.enabled = true;
        }
        Ok(loaded)
    }

    /// What to do with those settings; checked as far as it can be without a connection.
    pub(crate) fn task(&self, settings: &Settings) -> Result<Task, Failure> {
        if matches!(self.command, Some(Command::Health)) {
            return Ok(Task::Health);
        }
        settings.check_supported()?;
        Protection::of(settings).map_err(StandaloneError::Protection)?;
        if settings.redis.enabled {
            RedisBackend::new(settings).map_err(StandaloneError::Backend)?;
        }
        match self.command {
            Some(Command::CheckConfig) => Ok(Task::CheckConfig),
            Some(Command::Standalone) => Ok(Task::Standalone),
            None | Some(Command::Serve | Command::Health) if settings.redis.enabled => {
                Ok(Task::Standalone)
            }
            None | Some(Command::Serve | Command::Health) => Err(Failure::NothingToServe),
        }
    }
}

/// Who typed a flag is told of the flag.
fn name_flag(
    error: SettingsError,
    flags: &[(&'static str, &'static str, &Option<String>)],
) -> SettingsError {
    match error {
        SettingsError::Value {
            origin: Origin::Variable(name),
            value,
            allowed,
        } => {
            let flag = flags
                .iter()
                .find(|(_, variable, given)| *variable == name && given.is_some());
            SettingsError::Value {
                origin: flag.map_or(Origin::Variable(name), |(flag, ..)| Origin::Flag(flag)),
                value,
                allowed,
            }
        }
        other => other,
    }
}

/// The settings in the shape of the file.
#[derive(Serialize)]
struct Shown {
    exporter: Section,
}

#[derive(Serialize)]
struct Section {
    #[serde(flatten)]
    settings: Settings,
    gunicorn: GunicornSettings,
}

/// Why the program ends with another status than 0.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error(
        "there is nothing to serve: set REDIS_ENABLED=true or --redis-url; an application without Redis serves its own metrics"
    )]
    NothingToServe,
    #[error(transparent)]
    Standalone(#[from] StandaloneError),
    #[error(transparent)]
    NotHealthy(#[from] NotHealthy),
    #[error("the settings cannot be printed: {0}")]
    Print(String),
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

impl Failure {
    /// One line on standard error, and the status.
    pub(crate) fn report(&self) -> ExitCode {
        complain(&self.to_string());
        match self {
            Self::Settings(_) | Self::NothingToServe | Self::Standalone(_) => ExitCode::from(USAGE),
            Self::NotHealthy(_) | Self::Print(_) | Self::Io(_) => ExitCode::FAILURE,
        }
    }
}

/// What clap has to say instead of a task: help and version are answers, the rest are mistakes.
pub(crate) fn not_a_task(answer: &clap::Error) -> ExitCode {
    // Nowhere to print to is nothing to stop for.
    let _ = answer.print();
    if answer.use_stderr() {
        ExitCode::from(USAGE)
    } else {
        ExitCode::SUCCESS
    }
}

/// `check-config`.
pub(crate) fn print_settings(loaded: &Loaded) -> Result<(), Failure> {
    let shown = Shown {
        exporter: Section {
            settings: loaded.settings.redacted(),
            gunicorn: loaded.gunicorn,
        },
    };
    let text =
        serde_saphyr::to_string(&shown).map_err(|error| Failure::Print(error.to_string()))?;
    Ok(std::io::stdout().lock().write_all(text.as_bytes())?)
}

fn complain(line: &str) {
    // Without standard error there is still the exit status.
    let _ = writeln!(std::io::stderr(), "error: {line}");
}
