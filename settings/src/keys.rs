//! The keys of settings: their environment variables, their sections, and which of them are secrets.

/// Environment variables with names of their own. The variable of any other key is
/// `GUNICORN_EXPORTER_` and its path.
const DOCUMENTED: &[(&str, &str)] = &[
    ("prometheus.metrics_port", "PROMETHEUS_METRICS_PORT"),
    ("prometheus.bind_address", "PROMETHEUS_BIND_ADDRESS"),
    ("prometheus.multiproc_dir", "PROMETHEUS_MULTIPROC_DIR"),
    ("prometheus.ssl.enabled", "PROMETHEUS_SSL_ENABLED"),
    ("prometheus.ssl.certfile", "PROMETHEUS_SSL_CERTFILE"),
    ("prometheus.ssl.keyfile", "PROMETHEUS_SSL_KEYFILE"),
    (
        "prometheus.ssl.client_cafile",
        "PROMETHEUS_SSL_CLIENT_CAFILE",
    ),
    (
        "prometheus.ssl.client_capath",
        "PROMETHEUS_SSL_CLIENT_CAPATH",
    ),
    (
        "prometheus.ssl.client_auth_required",
        "PROMETHEUS_SSL_CLIENT_AUTH_REQUIRED",
    ),
    ("gunicorn.workers", "GUNICORN_WORKERS"),
    ("gunicorn.timeout", "GUNICORN_TIMEOUT"),
    ("gunicorn.keepalive", "GUNICORN_KEEPALIVE"),
    ("redis.enabled", "REDIS_ENABLED"),
    ("redis.host", "REDIS_HOST"),
    ("redis.port", "REDIS_PORT"),
    ("redis.db", "REDIS_DB"),
    ("redis.password", "REDIS_PASSWORD"),
    ("redis.key_prefix", "REDIS_KEY_PREFIX"),
    ("redis.ttl_seconds", "REDIS_TTL_SECONDS"),
    ("redis.ttl_disabled", "REDIS_TTL_DISABLED"),
    ("cleanup.db_files", "CLEANUP_DB_FILES"),
];

/// Sections: each contains keys and no value.
pub(super) const SECTIONS: &[&str] = &[
    "prometheus",
    "prometheus.ssl",
    "gunicorn",
    "redis",
    "redis.ssl",
    "redis.sentinel",
    "ssl",
    "cleanup",
    "http",
    "auth",
];

/// Returns the environment variable of a key (without its leading `exporter.`).
pub(super) fn variable_of(key: &str) -> String {
    DOCUMENTED
        .iter()
        .find(|(known, _)| *known == key)
        .map_or_else(
            || format!("GUNICORN_EXPORTER_{}", key.to_uppercase().replace('.', "_")),
            |(_, variable)| (*variable).to_owned(),
        )
}

/// Returns whether messages must not repeat the value.
pub(super) fn is_secret(key: &str) -> bool {
    key.contains("password") || key == "redis.url"
}
