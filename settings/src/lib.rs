//! Every setting: its key, variable, type, range and default.
//!
//! Flags come first, then the environment, then the YAML file, then the defaults. The result is one value,
//! [`Settings`]. Gunicorn's arbiter, the exporter process, the standalone binary and its container all read
//! their settings here. [`Settings`] is plain data, so that the arbiter can send it to its exporter as JSON,
//! through a pipe.
//!
//! ```text
//! lib.rs       the settings as types
//! defaults.rs  every default, once
//! sections.rs  every key: its type and range
//! reader.rs    parses a key by its type
//! lookup.rs    finds the text of a key in flags, environment, files of secrets and the YAML file
//! schema.rs    the JSON Schema of the file, for editors
//! yaml.rs      the file as a tree of texts with line numbers
//! unknown.rs   warnings about keys and variables that are probably misspelled
//! ```

#![forbid(unsafe_code)]

mod defaults;
mod error;
mod keys;
mod lookup;
mod reader;
mod schema;
mod secret;
mod sections;
mod unknown;
mod yaml;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use error::{Origin, SettingsError};
pub use reader::Flag;
use reader::Reader;
pub use secret::Secret;

/// Maximum number of shards of a registry, each a key in Redis.
pub const MAX_SHARDS: u16 = 64;

/// The settings of one instance of the application, or of one exporter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// The listener of `/metrics`, and what it shows.
    pub prometheus: PrometheusSettings,
    /// The Redis that shares metrics between instances.
    pub redis: RedisSettings,
    /// The recording of requests.
    pub http: HttpSettings,
    /// Basic authentication, if any.
    pub auth: Option<AuthSettings>,
    /// `cleanup.db_files`: in file mode, stores of dead processes are deleted once they are folded.
    pub cleanup_db_files: bool,
    /// The first part of `worker_id`; by default `<host name>:<port of the first bind>`.
    pub instance: Option<String>,
    /// `flush_interval`: time between two flushes.
    pub flush_interval_ms: u64,
    /// `SIDECAR_MODE`: another process serves the metrics of this application.
    pub sidecar_mode: bool,
}

/// `exporter.prometheus`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PrometheusSettings {
    /// The port of the listener.
    pub metrics_port: u16,
    /// The address or host name that it binds; an IPv6 address without brackets.
    pub bind_address: String,
    /// The directory for copies of stores, used unless Redis is.
    pub multiproc_dir: Option<PathBuf>,
    /// Whether all users of the directory's group may read and write its files.
    pub multiproc_group: bool,
    /// What `/metrics` shows.
    pub scope: Scope,
    /// TLS of the listener.
    pub ssl: ListenerTls,
}

/// The registry that `/metrics` shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// The shared registry with Redis, this instance without.
    Shared,
    /// This instance alone.
    Instance,
}

/// `exporter.prometheus.ssl`, or `exporter.ssl`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerTls {
    /// Serve HTTPS.
    pub enabled: bool,
    /// The certificate chain, PEM.
    pub certfile: Option<PathBuf>,
    /// Its private key, PEM.
    pub keyfile: Option<PathBuf>,
    /// Authorities that may sign certificates of clients, PEM.
    pub client_cafile: Option<PathBuf>,
    /// The same, as a directory.
    pub client_capath: Option<PathBuf>,
    /// Whether a client without a certificate is refused.
    pub client_auth_required: bool,
}

/// `exporter.redis`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RedisSettings {
    /// Whether metrics are shared. A given URL turns this on unless `enabled` says otherwise.
    pub enabled: bool,
    /// `redis://`, `rediss://` or `unix://`; a URL replaces host, port, db, username and password.
    pub url: Option<Secret>,
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Number of the database.
    pub db: u32,
    /// User of the access control list.
    pub username: Option<String>,
    /// Password of that user, or of the server.
    pub password: Option<Secret>,
    /// The registry's key is this followed by `:metrics`.
    pub key_prefix: String,
    /// How long series without a live writer stay; 0 = for ever (`ttl_disabled`, or a negative
    /// value).
    pub ttl_seconds: u64,
    /// TLS towards Redis.
    pub ssl: RedisTls,
    /// Sentinels that know the primary.
    pub sentinel: Option<SentinelSettings>,
    /// Whether the server is a Redis Cluster.
    pub cluster: bool,
    /// Number of keys over which the families are spread.
    pub shards: u16,
}

/// `exporter.redis.ssl`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RedisTls {
    /// Connect with TLS (as a `rediss://` URL does).
    pub enabled: bool,
    /// Authorities that may sign the server's certificate, PEM; by default the system's.
    pub ca_file: Option<PathBuf>,
    /// The client's certificate, PEM.
    pub cert_file: Option<PathBuf>,
    /// Its private key, PEM.
    pub key_file: Option<PathBuf>,
    /// Whether the server's certificate is checked.
    pub verify: bool,
}

/// `exporter.redis.sentinel`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SentinelSettings {
    /// Each as `host:port`.
    pub hosts: Vec<String>,
    /// The sentinels' name of the primary.
    pub master: String,
    /// User for the sentinels.
    pub username: Option<String>,
    /// Password for the sentinels.
    pub password: Option<Secret>,
}

/// `exporter.http`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HttpSettings {
    /// How many paths may become endpoints if no framework names the route; 0 = none.
    pub endpoint_limit: u32,
    /// Paths that are not recorded.
    pub skip_paths: Vec<String>,
    /// Methods that are not recorded.
    pub skip_methods: Vec<String>,
    /// Whether `status` is a class such as `2xx`.
    pub group_status: bool,
    /// Bounds of durations, in seconds.
    pub buckets: Vec<f64>,
    /// Bounds of sizes, in bytes.
    pub size_buckets: Vec<f64>,
    /// Whether trace ids are stored as exemplars.
    pub exemplars: bool,
    /// What is shown of requests in progress.
    pub in_flight: InFlight,
    /// Whether the line about a worker's timeout names the frames of Python in which it hung.
    pub stacks: bool,
}

/// `exporter.http.in_flight`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InFlight {
    /// The endpoint, as it becomes a label.
    #[default]
    Endpoint,
    /// The path without its query, until a route has matched.
    Path,
    /// Their number alone.
    Off,
}

/// `exporter.auth`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthSettings {
    /// The user name.
    pub username: String,
    /// The bcrypt hash of the password.
    pub password_hash: Secret,
}

/// `exporter.gunicorn`: what `load_yaml_config` passes to Gunicorn; `None` if it is not set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GunicornSettings {
    /// Number of workers.
    pub workers: Option<u32>,
    /// Seconds of silence after which a worker is killed.
    pub timeout: Option<u32>,
    /// Seconds that an idle connection is kept.
    pub keepalive: Option<u32>,
}

/// The result of [`Settings::load`].
#[derive(Debug, Clone)]
pub struct LoadResult {
    /// The settings.
    pub settings: Settings,
    /// One line for each unknown key, which the caller logs.
    pub warnings: Vec<String>,
    /// One line about variables that are set and have no effect, which the caller logs.
    pub hints: Vec<String>,
    /// Settings for Gunicorn itself.
    pub gunicorn: GunicornSettings,
    /// The place of each value that is not a default.
    sources: BTreeMap<String, Origin>,
    /// The environment variables of the settings.
    variables: Vec<String>,
}

/// Places do not count: a file with another comment has the same settings.
impl PartialEq for LoadResult {
    fn eq(&self, other: &Self) -> bool {
        self.settings == other.settings
            && self.gunicorn == other.gunicorn
            && self.warnings == other.warnings
            && self.hints == other.hints
    }
}

impl LoadResult {
    /// Returns the place of a value; `None` for a default. The key is without its leading
    /// `exporter.`.
    pub fn source(&self, key: &str) -> Option<&Origin> {
        self.sources.get(key)
    }

    /// Adds a warning for each of these variables whose name is close to that of a setting.
    pub fn warn_of_variables<'n>(&mut self, names: impl Iterator<Item = &'n str>) {
        self.warnings
            .extend(unknown::variables(names, &self.variables));
    }
}

impl Settings {
    /// Parses `yaml` (its path for messages, and its text) and the environment. The first wrong
    /// value is returned as an error, and nothing is used then.
    pub fn load(
        yaml: Option<(&Path, &str)>,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<LoadResult, SettingsError> {
        Self::load_with_flags(yaml, env, &[])
    }

    /// Does the same with flags of the command line, which take precedence. An error names the
    /// flag.
    pub fn load_with_flags(
        yaml: Option<(&Path, &str)>,
        env: &dyn Fn(&str) -> Option<String>,
        flags: &[Flag],
    ) -> Result<LoadResult, SettingsError> {
        let mut reader = Reader::new(yaml, env, flags)?;
        let (settings, gunicorn) = Self::read(&mut reader)?;
        Ok(LoadResult {
            hints: hint_of_redis(&settings, &reader).into_iter().collect(),
            settings,
            warnings: reader.unknown_keys(),
            variables: reader.variables(),
            gunicorn,
            sources: reader.sources,
        })
    }

    fn read(reader: &mut Reader<'_>) -> Result<(Self, GunicornSettings), SettingsError> {
        let defaults = Self::default();
        let prometheus = sections::prometheus(reader)?;
        let redis = sections::redis(reader)?;
        let outlives = redis.enabled || prometheus.multiproc_dir.is_some();
        let settings = Self {
            http: sections::http(reader, outlives)?,
            prometheus,
            redis,
            auth: sections::auth(reader)?,
            cleanup_db_files: reader
                .boolean("cleanup.db_files")?
                .unwrap_or(defaults.cleanup_db_files),
            instance: reader.text("instance")?,
            flush_interval_ms: reader
                .seconds("flush_interval", 0.05..=10.0)?
                .unwrap_or(defaults.flush_interval_ms),
            sidecar_mode: reader
                .variable("SIDECAR_MODE")?
                .unwrap_or(defaults.sidecar_mode),
        };
        let gunicorn = sections::gunicorn(reader)?;
        Ok((settings, gunicorn))
    }

    /// Returns the JSON Schema of the YAML file, for editors.
    pub fn schema() -> Result<serde_json::Value, SettingsError> {
        let mut reader = Reader::new(None, &|_| None, &[])?;
        Self::read(&mut reader)?;
        Ok(schema::schema(&reader.described))
    }

    /// Reads the file at `path`, for [`Settings::load`].
    pub fn read_file(path: &Path) -> Result<String, SettingsError> {
        let unreadable = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::NotFound => SettingsError::NotFound(path.to_owned()),
            _ => SettingsError::Unreadable {
                path: path.to_owned(),
                reason: error.to_string(),
            },
        };
        if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
            return Err(SettingsError::NotAFile(path.to_owned()));
        }
        std::fs::read_to_string(path).map_err(unreadable)
    }

    /// Returns the same settings without passwords, for display.
    #[must_use]
    pub fn redacted(&self) -> Self {
        let mut settings = self.clone();
        let redis = &mut settings.redis;
        let sentinel = redis.sentinel.as_mut();
        let secrets = [
            redis.url.as_mut(),
            redis.password.as_mut(),
            sentinel.and_then(|sentinel| sentinel.password.as_mut()),
            settings.auth.as_mut().map(|auth| &mut auth.password_hash),
        ];
        secrets.into_iter().flatten().for_each(Secret::hide);
        settings
    }

    /// Returns the metrics directory; `None` with Redis, whatever is set.
    pub fn store_directory(&self) -> Option<&Path> {
        let directory = self.prometheus.multiproc_dir.as_deref();
        directory.filter(|_| !self.redis.enabled)
    }

    /// Returns the keys of the registry in Redis, one for each shard.
    pub fn registry_keys(&self) -> Vec<String> {
        let prefix = &self.redis.key_prefix;
        match self.redis.shards {
            0 | 1 => vec![format!("{prefix}:metrics")],
            shards => (0..shards)
                .map(|shard| format!("{prefix}:metrics:{{{shard}}}"))
                .collect(),
        }
    }
}

/// Returns a line if the environment names a Redis that is not used, because nothing says whether
/// metrics are shared. Many applications have these variables for another purpose.
fn hint_of_redis(settings: &Settings, reader: &Reader<'_>) -> Option<String> {
    if settings.redis.enabled || reader.sources.contains_key("redis.enabled") {
        return None;
    }
    let is_set = |name: &str| (reader.env)(name).is_some_and(|text| !text.trim().is_empty());
    let shares = if is_set("REDIS_HOST") {
        "REDIS_HOST is set and REDIS_ENABLED is not, so the metrics are not shared: REDIS_ENABLED=true shares them through that Redis"
    } else if is_set("REDIS_URL") {
        "REDIS_URL is set, which this program does not read, so the metrics are not shared: GUNICORN_EXPORTER_REDIS_URL shares them through that Redis"
    } else {
        return None;
    };
    Some(format!(
        "{shares}, REDIS_ENABLED=false says that this is meant"
    ))
}
