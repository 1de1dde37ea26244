//! The command line: its words, and the task that they select.

use std::io::Write;
use std::path::PathBuf;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use metrics_settings::{Flag, LoadResult, PrometheusSettings, Settings, SettingsError};

use crate::check_config::CheckWords;
use crate::health::NotHealthy;
use crate::logging::LogFormat;
use crate::push_command::{PushFailure, PushWords};
use crate::{BackendError, Protection, PushError, RedisBackend, SidecarError, StandaloneError};

/// Exit codes of sysexits.h: wrong command line, environment or settings; wrong data in a file; no
/// such file; Redis is unavailable; try again.
pub(crate) const USAGE: u8 = 64;
const DATA: u8 = 65;
const NO_INPUT: u8 = 66;
const UNAVAILABLE: u8 = 69;
const TRY_AGAIN: u8 = 75;
/// Exit codes that every program uses.
pub(crate) const SUCCESS: u8 = 0;
const FAILURE: u8 = 1;

const EXAMPLES: &str = "\
Examples:
  Serve what applications share in a Redis:
    gunicorn-prometheus-exporter --redis-url redis://redis.internal:6379
  Look at the settings in force and their places; a misspelled one is an error:
    gunicorn-prometheus-exporter check-config --strict --config exporter.yml
  Push what a nightly job has measured:
    nightly-job | gunicorn-prometheus-exporter push --job nightly
  Complete words in bash:
    source <(gunicorn-prometheus-exporter completions bash)

Exit status: 0 success; 64 wrong words or settings; 65 a pushed file is wrong; 66 it cannot be read;
69 Redis cannot be used; 75 try again later; 1 anything else.";

/// Serves the metrics of Gunicorn applications to Prometheus.
///
/// Flags take precedence over the environment, the environment over the file, and the file over the
/// defaults. Without a command, the settings decide: the program serves the Redis or the directory
/// that they name, and without either an empty page that says what to do. An application without
/// either needs no exporter of its own: its arbiter starts one.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 100, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Option<Command>,

    /// The YAML file
    #[arg(long, global = true, env = "YAML_CONFIG_PATH", value_name = "FILE")]
    config: Option<PathBuf>,

    #[arg(long, global = true, value_name = "PORT", help = help_for_port())]
    port: Option<String>,

    #[arg(long, global = true, value_name = "ADDRESS", help = help_for_bind())]
    bind: Option<String>,

    /// The Redis that shares the metrics: redis://, rediss:// or unix://
    #[arg(long, global = true, value_name = "URL")]
    redis_url: Option<String>,

    /// The format of log lines, on standard error
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
}

#[derive(Debug, Clone, Subcommand)]
enum Command {
    /// Serves the Redis or the directory of the settings, or an empty page; the default
    Serve,
    /// Serves the metrics that applications share in one Redis
    ///
    /// SIGHUP reloads certificates and password; connections stay open. SIGTERM finishes open
    /// requests and ends the program.
    Standalone,
    /// Serves an application that runs no exporter: from its directory, or from its Redis
    Sidecar,
    /// Asks a running exporter whether it can serve metrics: exit status 0 or 1
    Health,
    /// Writes the metrics of a batch job to the Redis that applications share
    Push(PushWords),
    /// Prints the settings in force with their places, without passwords: exit status 0 or 64
    CheckConfig(CheckWords),
    /// The exporter of an instance, whose arbiter is at the other end of standard input
    #[command(hide = true)]
    Instance,
    /// Prints a completion script for a shell
    Completions {
        /// For which shell
        shell: Shell,
    },
}

/// The task of the program.
pub(crate) enum Task<'a> {
    Standalone,
    Sidecar,
    Idle,
    Health,
    Push(&'a PushWords),
    CheckConfig(&'a CheckWords),
}

impl Cli {
    /// Returns all settings; flags take precedence over the environment.
    pub(crate) fn settings(&self) -> Result<LoadResult, SettingsError> {
        // An empty variable, as in a compose file, names no file.
        let path = self
            .config
            .as_deref()
            .filter(|path| !path.as_os_str().is_empty());
        let text = path.map(Settings::read_file).transpose()?;
        let flag = |name, key, value: &Option<String>| {
            let value = value.clone();
            Flag { name, key, value }
        };
        let flags = [
            flag("--port", "prometheus.metrics_port", &self.port),
            flag("--bind", "prometheus.bind_address", &self.bind),
            flag("--redis-url", "redis.url", &self.redis_url),
        ];
        let env = |name: &str| std::env::var(name).ok();
        let file = path.zip(text.as_deref());
        let mut loaded = Settings::load_with_flags(file, &env, &flags)?;
        let names: Vec<_> = std::env::vars_os()
            .filter_map(|(name, _)| name.into_string().ok())
            .collect();
        loaded.warn_of_variables(names.iter().map(String::as_str));
        let is_of_redis = match self.command {
            Some(Command::Standalone) => true,
            // `push` needs a setting that names a Redis; the default host would be a guess.
            Some(Command::Push(_)) => names_redis(&loaded),
            None | Some(Command::Serve) => {
                let is_open = loaded.source("redis.enabled").is_none()
                    && loaded.settings.prometheus.multiproc_dir.is_none();
                is_open && names_redis(&loaded)
            }
            _ => false,
        };
        if is_of_redis || self.redis_url.is_some() {
            loaded.settings.redis.enabled = true;
            loaded.hints.clear();
        }
        Ok(loaded)
    }

    /// Returns whether an arbiter has started this program and sends it the settings.
    pub(crate) fn is_instance(&self) -> bool {
        matches!(self.command, Some(Command::Instance))
    }

    /// Returns whether an unknown setting is an error.
    pub(crate) fn is_strict(&self) -> bool {
        matches!(&self.command, Some(Command::CheckConfig(words)) if words.strict)
    }

    /// Returns the shell of `completions`, a command that needs no settings.
    pub(crate) fn completions(&self) -> Option<Shell> {
        match self.command {
            Some(Command::Completions { shell }) => Some(shell),
            _ => None,
        }
    }

    /// Returns the task of these settings, checked as far as possible without a connection.
    pub(crate) fn task(&self, settings: &Settings) -> Result<Task<'_>, Failure> {
        if matches!(self.command, Some(Command::Health)) {
            return Ok(Task::Health);
        }
        if settings.redis.enabled {
            RedisBackend::new(settings).map_err(StandaloneError::Backend)?;
        }
        if let Some(Command::Push(words)) = &self.command {
            return if settings.redis.enabled {
                Ok(Task::Push(words))
            } else {
                Err(Failure::NowhereToPush)
            };
        }
        Protection::of(settings).map_err(StandaloneError::Protection)?;
        match &self.command {
            Some(Command::CheckConfig(words)) => Ok(Task::CheckConfig(words)),
            Some(Command::Standalone) => Ok(Task::Standalone),
            _ if settings.redis.enabled => Ok(Task::Standalone),
            _ if settings.prometheus.multiproc_dir.is_some() => Ok(Task::Sidecar),
            Some(Command::Sidecar) => Err(Failure::NothingToServe),
            _ => Ok(Task::Idle),
        }
    }
}

/// Returns whether a setting names a Redis.
fn names_redis(loaded: &LoadResult) -> bool {
    let keys = [
        "redis.url",
        "redis.host",
        "redis.port",
        "redis.sentinel.hosts",
    ];
    loaded.settings.redis.cluster || keys.iter().any(|key| loaded.source(key).is_some())
}

fn help_for_port() -> String {
    let port = PrometheusSettings::default().metrics_port;
    format!("The port of /metrics [default: {port}]")
}

fn help_for_bind() -> String {
    let address = PrometheusSettings::default().bind_address;
    format!("The address to bind [default: {address}]")
}

/// The reason why the program ends with a status other than 0.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error(
        "there is nothing to serve: set REDIS_ENABLED=true, --redis-url or PROMETHEUS_MULTIPROC_DIR; an application without any of them serves its own metrics"
    )]
    NothingToServe,
    #[error("{0}: with --strict, each setting must be known")]
    Unknown(String),
    #[error("there is nowhere to push to: set REDIS_HOST, --redis-url or REDIS_ENABLED=true")]
    NowhereToPush,
    #[error(transparent)]
    Push(#[from] PushFailure),
    #[error(transparent)]
    Standalone(#[from] StandaloneError),
    #[error(transparent)]
    Sidecar(#[from] SidecarError),
    #[error(transparent)]
    NotHealthy(#[from] NotHealthy),
    #[error("the settings cannot be printed: {0}")]
    Print(String),
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

impl Failure {
    /// Prints one line to standard error, and returns the status.
    pub(crate) fn report(&self) -> u8 {
        complain(&self.to_string());
        match self {
            Self::Settings(_)
            | Self::NothingToServe
            | Self::Unknown(_)
            | Self::NowhereToPush
            | Self::Standalone(_)
            | Self::Push(PushFailure::Label(_) | PushFailure::Group(_)) => USAGE,
            Self::Push(PushFailure::Unreadable { .. }) => NO_INPUT,
            Self::Push(PushFailure::File { .. }) => DATA,
            Self::Push(PushFailure::Push(error)) => status_of_push(error),
            Self::Sidecar(_) | Self::NotHealthy(_) | Self::Print(_) | Self::Io(_) => FAILURE,
        }
    }
}

fn status_of_push(error: &PushError) -> u8 {
    match error {
        PushError::Backend(BackendError::Healing | BackendError::Loading { .. }) => TRY_AGAIN,
        PushError::Backend(_) => UNAVAILABLE,
        PushError::Part { reason, .. } => status_of_push(reason),
        _ => DATA,
    }
}

/// Prints clap's answer and returns the status: help and version are successes, the rest are
/// mistakes.
pub(crate) fn not_a_task(answer: &clap::Error) -> u8 {
    // The program ends either way, printed or not.
    let _ = answer.print();
    if answer.use_stderr() { USAGE } else { SUCCESS }
}

/// Carries out `completions`.
pub(crate) fn print_completions(shell: Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    let mut command = Cli::command();
    let name = command.get_name().to_owned();
    clap_complete::generate(shell, &mut command, name, &mut script);
    Ok(std::io::stdout().lock().write_all(&script)?)
}

fn complain(line: &str) {
    // Without standard error there is still the exit status.
    let _ = writeln!(std::io::stderr(), "error: {line}");
}
