//! Every setting: its key, variable, type, range and default, parsed once and in one place.
//!
//! The environment comes first, then the YAML file, then the defaults. Gunicorn's arbiter, the
//! exporter process, the standalone binary and its container all read settings here. [`Settings`]
//! is plain data, so that the arbiter can hand it to its exporter as JSON, through a pipe.

mod error;
mod reader;
mod secret;
mod supported;
mod unknown;
mod yaml;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use error::{Origin, SettingsError};
use reader::Reader;
pub use secret::Secret;

/// What one instance of the application, or one exporter, is told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Where `/metrics` is served, and of what.
    pub prometheus: PrometheusSettings,
    /// The Redis that shares metrics between instances.
    pub redis: RedisSettings,
    /// What is recorded of requests.
    pub http: HttpSettings,
    /// Basic authentication, if any.
    pub auth: Option<AuthSettings>,
    /// `cleanup.db_files`: in file mode, stores of dead processes are deleted once they are folded.
    pub cleanup_db_files: bool,
    /// The first part of `worker_id`; by default `<host name>:<port of the first bind>`.
    pub instance: Option<String>,
    /// `flush_interval`: how often changes are pushed.
    pub flush_interval_ms: u64,
    /// `SIDECAR_MODE`: another process serves what this application records.
    pub sidecar_mode: bool,
}

/// `exporter.prometheus`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PrometheusSettings {
    /// The port of the listener.
    pub metrics_port: u16,
    /// The address or host name that it binds; an IPv6 address without brackets.
    pub bind_address: String,
    /// Worker stores are files of this directory, unless Redis is used.
    pub multiproc_dir: Option<PathBuf>,
    /// What `/metrics` shows.
    pub scope: Scope,
    /// TLS of the listener.
    pub ssl: ListenerTls,
}

/// What `/metrics` means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// With Redis the shared registry, without it this instance.
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
    /// Who may sign certificates of clients, PEM.
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
    /// `redis://`, `rediss://` or `unix://`; where it is given, host, port, db, username and
    /// password are those that it names.
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
    /// The registry's key is this and `:metrics`.
    pub key_prefix: String,
    /// The life of what nobody writes any more; 0 = for ever (`ttl_disabled`, or a negative value).
    pub ttl_seconds: u64,
    /// TLS towards Redis.
    pub ssl: RedisTls,
    /// Sentinels to ask for the primary.
    pub sentinel: Option<SentinelSettings>,
    /// Whether the server is a Redis Cluster.
    pub cluster: bool,
    /// Over how many keys the families are spread.
    pub shards: u16,
}

/// `exporter.redis.ssl`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RedisTls {
    /// Connect with TLS (as a `rediss://` URL does).
    pub enabled: bool,
    /// Who may sign the server's certificate, PEM; by default the system's authorities.
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
    /// `host:port`, each.
    pub hosts: Vec<String>,
    /// The name of the primary there.
    pub master: String,
    /// User at the sentinels.
    pub username: Option<String>,
    /// Password at the sentinels.
    pub password: Option<Secret>,
}

/// `exporter.http`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HttpSettings {
    /// How many paths may become endpoints where no framework names the route; 0 = none.
    pub endpoint_limit: u32,
    /// Paths that are not recorded.
    pub skip_paths: Vec<String>,
    /// Methods that are not recorded.
    pub skip_methods: Vec<String>,
    /// Whether `status` is `2xx` and the like.
    pub group_status: bool,
    /// Bounds of durations, in seconds.
    pub buckets: Vec<f64>,
    /// Bounds of sizes, in bytes.
    pub size_buckets: Vec<f64>,
    /// Whether trace ids are kept as exemplars.
    pub exemplars: bool,
}

/// `exporter.auth`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthSettings {
    /// The user name.
    pub username: String,
    /// The bcrypt hash of the password.
    pub password_hash: Secret,
}

/// `exporter.gunicorn`: what `load_yaml_config` offers to Gunicorn; `None` where nobody said it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GunicornSettings {
    /// Number of workers.
    pub workers: Option<u32>,
    /// Seconds of silence after which a worker is killed.
    pub timeout: Option<u32>,
    /// Seconds that an idle connection is kept.
    pub keepalive: Option<u32>,
}

/// What [`Settings::load`] found.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// One line for each key that is not known, to be logged by the caller.
    pub warnings: Vec<String>,
    /// What Gunicorn itself is to be told.
    pub gunicorn: GunicornSettings,
}

impl Settings {
    /// Parses `yaml` (its path for messages, and its text) and the environment. The first value
    /// that is wrong is the error; nothing of it is used then.
    pub fn load(
        yaml: Option<(&Path, &str)>,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Loaded, SettingsError> {
        let mut reader = Reader::new(yaml, env)?;
        let settings = Self {
            prometheus: prometheus(&mut reader)?,
            redis: redis(&mut reader)?,
            http: http(&mut reader)?,
            auth: auth(&mut reader)?,
            cleanup_db_files: reader.boolean("cleanup.db_files")?.unwrap_or(true),
            instance: reader.text("instance")?,
            flush_interval_ms: reader
                .seconds("flush_interval", 0.05..=10.0)?
                .unwrap_or(1_000),
            sidecar_mode: reader.variable("SIDECAR_MODE")?.unwrap_or(false),
        };
        let gunicorn = GunicornSettings {
            workers: small(reader.integer("gunicorn.workers", 1..=4_096)?),
            timeout: small(reader.integer("gunicorn.timeout", 0..=1_000_000)?),
            keepalive: small(reader.integer("gunicorn.keepalive", 0..=1_000_000)?),
        };
        Ok(Loaded {
            settings,
            warnings: reader.unknown_keys(),
            gunicorn,
        })
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

    /// The same without passwords, to be shown.
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

    /// The key of the registry in Redis.
    pub fn registry_key(&self) -> String {
        format!("{}:metrics", self.redis.key_prefix)
    }
}

fn prometheus(reader: &mut Reader<'_>) -> Result<PrometheusSettings, SettingsError> {
    let port = reader.integer("prometheus.metrics_port", 1..=65_535)?;
    let address = reader.text("prometheus.bind_address")?;
    Ok(PrometheusSettings {
        metrics_port: port.map_or(9_091, |port| port as u16),
        bind_address: address.map_or_else(
            || "0.0.0.0".to_owned(),
            |address| address.trim_matches(['[', ']']).to_owned(),
        ),
        multiproc_dir: reader.path("prometheus.multiproc_dir")?,
        scope: reader
            .parsed("prometheus.scope", "shared or instance", scope)?
            .unwrap_or(Scope::Shared),
        ssl: listener_tls(reader)?,
    })
}

fn scope(text: &str) -> Option<Scope> {
    match text {
        "shared" => Some(Scope::Shared),
        "instance" => Some(Scope::Instance),
        _ => None,
    }
}

fn listener_tls(reader: &mut Reader<'_>) -> Result<ListenerTls, SettingsError> {
    let enabled = reader.boolean("prometheus.ssl.enabled")?;
    let certfile = reader.path("prometheus.ssl.certfile")?;
    let keyfile = reader.path("prometheus.ssl.keyfile")?;
    let tls = ListenerTls {
        enabled: enabled.unwrap_or(certfile.is_some() || keyfile.is_some()),
        certfile,
        keyfile,
        client_cafile: reader.path("prometheus.ssl.client_cafile")?,
        client_capath: reader.path("prometheus.ssl.client_capath")?,
        client_auth_required: reader
            .boolean("prometheus.ssl.client_auth_required")?
            .unwrap_or(false),
    };
    if tls.enabled {
        both(
            ("exporter.prometheus.ssl.certfile", tls.certfile.is_some()),
            ("exporter.prometheus.ssl.keyfile", tls.keyfile.is_some()),
        )?;
        if tls.certfile.is_none() {
            return Err(SettingsError::Pair {
                set: "exporter.prometheus.ssl.enabled",
                missing: "exporter.prometheus.ssl.certfile",
            });
        }
    }
    Ok(tls)
}

fn redis(reader: &mut Reader<'_>) -> Result<RedisSettings, SettingsError> {
    let url = reader
        .parsed(
            "redis.url",
            "redis://, rediss:// or unix:// and an address",
            url,
        )?
        .map(Secret::new);
    let ttl_seconds = reader
        .integer("redis.ttl_seconds", i64::MIN..=i64::from(u32::MAX))?
        .unwrap_or(300);
    let ttl_disabled = reader.boolean("redis.ttl_disabled")?.unwrap_or(false);
    let settings = RedisSettings {
        enabled: reader.boolean("redis.enabled")?.unwrap_or(url.is_some()),
        url,
        host: reader
            .text("redis.host")?
            .unwrap_or_else(|| "127.0.0.1".to_owned()),
        port: reader
            .integer("redis.port", 1..=65_535)?
            .map_or(6_379, |port| port as u16),
        db: small(reader.integer("redis.db", 0..=1_000_000)?).unwrap_or(0),
        username: reader.text("redis.username")?,
        password: reader.secret("redis.password")?,
        key_prefix: reader
            .parsed(
                "redis.key_prefix",
                "1 to 200 characters, none of them a space or a control character",
                key_prefix,
            )?
            .unwrap_or_else(|| "gunicorn".to_owned()),
        ttl_seconds: if ttl_disabled {
            0
        } else {
            u64::try_from(ttl_seconds).unwrap_or(0)
        },
        ssl: redis_tls(reader)?,
        sentinel: sentinel(reader)?,
        cluster: reader.boolean("redis.cluster")?.unwrap_or(false),
        shards: reader
            .integer("redis.shards", 1..=1_024)?
            .map_or(1, |shards| shards as u16),
    };
    if settings.shards > 1 && settings.key_prefix.contains(['{', '}']) {
        return Err(SettingsError::Conflict(format!(
            "exporter.redis.key_prefix is {:?}, allowed with more than one shard is a prefix without braces",
            settings.key_prefix
        )));
    }
    if settings.username.is_some() && settings.password.is_none() {
        return Err(SettingsError::Pair {
            set: "exporter.redis.username",
            missing: "exporter.redis.password",
        });
    }
    Ok(settings)
}

fn redis_tls(reader: &mut Reader<'_>) -> Result<RedisTls, SettingsError> {
    let tls = RedisTls {
        enabled: reader.boolean("redis.ssl.enabled")?.unwrap_or(false),
        ca_file: reader.path("redis.ssl.ca_file")?,
        cert_file: reader.path("redis.ssl.cert_file")?,
        key_file: reader.path("redis.ssl.key_file")?,
        verify: reader.boolean("redis.ssl.verify")?.unwrap_or(true),
    };
    both(
        ("exporter.redis.ssl.cert_file", tls.cert_file.is_some()),
        ("exporter.redis.ssl.key_file", tls.key_file.is_some()),
    )?;
    Ok(tls)
}

fn sentinel(reader: &mut Reader<'_>) -> Result<Option<SentinelSettings>, SettingsError> {
    let hosts = reader
        .list("redis.sentinel.hosts", "a list of host:port", host_and_port)?
        .filter(|hosts| !hosts.is_empty());
    let master = reader.text("redis.sentinel.master")?;
    let username = reader.text("redis.sentinel.username")?;
    let password = reader.secret("redis.sentinel.password")?;
    both(
        ("exporter.redis.sentinel.hosts", hosts.is_some()),
        ("exporter.redis.sentinel.master", master.is_some()),
    )?;
    Ok(hosts.zip(master).map(|(hosts, master)| SentinelSettings {
        hosts,
        master,
        username,
        password,
    }))
}

fn http(reader: &mut Reader<'_>) -> Result<HttpSettings, SettingsError> {
    let defaults = HttpSettings::default();
    let words = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    Ok(HttpSettings {
        endpoint_limit: small(reader.integer("http.endpoint_limit", 0..=100_000)?)
            .unwrap_or(defaults.endpoint_limit),
        skip_paths: reader
            .list(
                "http.skip_paths",
                "a list of paths that begin with /",
                |text| text.starts_with('/').then(|| text.to_owned()),
            )?
            .unwrap_or_default(),
        skip_methods: reader
            .list("http.skip_methods", "a list of methods", words)?
            .unwrap_or_default(),
        group_status: reader.boolean("http.group_status")?.unwrap_or(false),
        buckets: reader.bounds("http.buckets")?.unwrap_or(defaults.buckets),
        size_buckets: reader
            .bounds("http.size_buckets")?
            .unwrap_or(defaults.size_buckets),
        exemplars: reader.boolean("http.exemplars")?.unwrap_or(false),
    })
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            endpoint_limit: 100,
            skip_paths: Vec::new(),
            skip_methods: Vec::new(),
            group_status: false,
            buckets: vec![
                0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
            ],
            size_buckets: vec![
                1_024.0,
                4_096.0,
                16_384.0,
                65_536.0,
                262_144.0,
                1_048_576.0,
                4_194_304.0,
            ],
            exemplars: false,
        }
    }
}

fn auth(reader: &mut Reader<'_>) -> Result<Option<AuthSettings>, SettingsError> {
    let username = reader.text("auth.username")?;
    let hash = reader.parsed(
        "auth.password_hash",
        "a bcrypt hash, which begins with $2",
        |text| text.starts_with("$2").then(|| Secret::new(text)),
    )?;
    both(
        ("exporter.auth.username", username.is_some()),
        ("exporter.auth.password_hash", hash.is_some()),
    )?;
    Ok(username
        .zip(hash)
        .map(|(username, password_hash)| AuthSettings {
            username,
            password_hash,
        }))
}

/// Both are set, or neither.
fn both(left: (&'static str, bool), right: (&'static str, bool)) -> Result<(), SettingsError> {
    let (set, missing) = match (left.1, right.1) {
        (true, false) => (left.0, right.0),
        (false, true) => (right.0, left.0),
        _ => return Ok(()),
    };
    Err(SettingsError::Pair { set, missing })
}

fn url(text: &str) -> Option<String> {
    const SCHEMES: [&str; 4] = ["redis://", "rediss://", "unix://", "redis+unix://"];
    SCHEMES
        .iter()
        .any(|scheme| text.len() > scheme.len() && text.starts_with(scheme))
        .then(|| text.to_owned())
}

fn key_prefix(text: &str) -> Option<String> {
    let fits = (1..=200).contains(&text.len());
    let plain = !text.chars().any(|c| c.is_whitespace() || c.is_control());
    (fits && plain).then(|| text.to_owned())
}

fn host_and_port(text: &str) -> Option<String> {
    let (host, port) = text.rsplit_once(':')?;
    let port: u16 = port.parse().ok()?;
    (!host.is_empty() && port > 0).then(|| text.to_owned())
}

/// Numbers whose range was checked to fit.
fn small(number: Option<i64>) -> Option<u32> {
    number.and_then(|number| u32::try_from(number).ok())
}
