//! The sections of the settings: keys, types and ranges. Defaults are in `defaults.rs`.

use std::net::{IpAddr, Ipv6Addr};

use crate::reader::Reader;
use crate::schema::Kind;
use crate::{
    AuthSettings, GunicornSettings, HttpSettings, InFlight, ListenerTls, MAX_SHARDS,
    PrometheusSettings, RedisSettings, RedisTls, Scope, Secret, SentinelSettings, SettingsError,
};

pub(super) fn prometheus(reader: &mut Reader<'_>) -> Result<PrometheusSettings, SettingsError> {
    let defaults = PrometheusSettings::default();
    let port = reader.integer("prometheus.metrics_port", 1..=65_535)?;
    let address = reader.parsed("prometheus.bind_address", HOST, host)?;
    Ok(PrometheusSettings {
        metrics_port: port.map_or(defaults.metrics_port, |port| port as u16),
        bind_address: address.unwrap_or(defaults.bind_address),
        multiproc_dir: reader.path("prometheus.multiproc_dir")?,
        multiproc_group: reader
            .boolean("prometheus.multiproc_group")?
            .unwrap_or(defaults.multiproc_group),
        scope: reader
            .choice(
                "prometheus.scope",
                &[("shared", Scope::Shared), ("instance", Scope::Instance)],
            )?
            .unwrap_or(defaults.scope),
        ssl: listener_tls(reader)?,
    })
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
            .unwrap_or_default(),
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
    // A listener that should check certificates of clients must not be open to all.
    let (has_tls, has_authorities) = (
        tls.enabled || enabled == Some(false),
        tls.client_cafile.is_some() || tls.client_capath.is_some(),
    );
    if tls.client_auth_required && !(has_tls && has_authorities) {
        return Err(SettingsError::Pair {
            set: "exporter.prometheus.ssl.client_auth_required",
            missing: if has_tls {
                "exporter.prometheus.ssl.client_cafile"
            } else {
                "exporter.prometheus.ssl.certfile"
            },
        });
    }
    Ok(tls)
}

pub(super) fn redis(reader: &mut Reader<'_>) -> Result<RedisSettings, SettingsError> {
    let defaults = RedisSettings::default();
    let url = reader
        .parsed(
            "redis.url",
            "redis://, rediss:// or unix:// and an address",
            url,
        )?
        .map(Secret::new);
    let ttl_seconds = reader
        .parsed_as(
            Kind::Integer(i64::MIN, i64::from(u32::MAX)),
            "redis.ttl_seconds",
            "a whole number up to 4294967295, 0 or less for no end",
            |text| {
                let seconds: i64 = text.parse().ok()?;
                u32::try_from(seconds.max(0)).ok()
            },
        )?
        .map_or(defaults.ttl_seconds, u64::from);
    let ttl_disabled = reader.boolean("redis.ttl_disabled")?.unwrap_or_default();
    let settings = RedisSettings {
        enabled: reader.boolean("redis.enabled")?.unwrap_or(url.is_some()),
        url,
        host: reader
            .parsed("redis.host", HOST, |text| {
                host(text).map(|_| text.to_owned())
            })?
            .unwrap_or(defaults.host),
        port: reader
            .integer("redis.port", 1..=65_535)?
            .map_or(defaults.port, |port| port as u16),
        db: small(reader.integer("redis.db", 0..=1_000_000)?).unwrap_or(defaults.db),
        username: reader.text("redis.username")?,
        password: reader.secret("redis.password")?,
        key_prefix: reader
            .verbatim("redis.key_prefix", "1 to 200 bytes", |text| {
                (1..=200).contains(&text.len())
            })?
            .unwrap_or(defaults.key_prefix),
        ttl_seconds: if ttl_disabled { 0 } else { ttl_seconds },
        ssl: redis_tls(reader)?,
        sentinel: sentinel(reader)?,
        cluster: reader.boolean("redis.cluster")?.unwrap_or(defaults.cluster),
        shards: reader
            .integer("redis.shards", 1..=i64::from(MAX_SHARDS))?
            .map_or(defaults.shards, |shards| shards as u16),
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
    let defaults = RedisTls::default();
    let tls = RedisTls {
        enabled: reader
            .boolean("redis.ssl.enabled")?
            .unwrap_or(defaults.enabled),
        ca_file: reader.path("redis.ssl.ca_file")?,
        cert_file: reader.path("redis.ssl.cert_file")?,
        key_file: reader.path("redis.ssl.key_file")?,
        verify: reader
            .boolean("redis.ssl.verify")?
            .unwrap_or(defaults.verify),
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

/// `outlives`: whether the metrics outlive the instance that has counted them.
pub(super) fn http(reader: &mut Reader<'_>, outlives: bool) -> Result<HttpSettings, SettingsError> {
    let defaults = if outlives {
        HttpSettings::where_metrics_outlive_their_instance()
    } else {
        HttpSettings::default()
    };
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
        group_status: reader
            .boolean("http.group_status")?
            .unwrap_or(defaults.group_status),
        buckets: reader.bounds("http.buckets")?.unwrap_or(defaults.buckets),
        size_buckets: reader
            .bounds("http.size_buckets")?
            .unwrap_or(defaults.size_buckets),
        exemplars: reader
            .boolean("http.exemplars")?
            .unwrap_or(defaults.exemplars),
        in_flight: reader
            .parsed("http.in_flight", "endpoint, path or off", in_flight)?
            .unwrap_or(defaults.in_flight),
        stacks: reader.boolean("http.stacks")?.unwrap_or(defaults.stacks),
    })
}

fn in_flight(text: &str) -> Option<InFlight> {
    match text {
        "endpoint" => Some(InFlight::Endpoint),
        "path" => Some(InFlight::Path),
        // A YAML writer may have made a truth value of the word.
        "off" | "false" | "no" => Some(InFlight::Off),
        _ => None,
    }
}

/// Allowed costs of bcrypt hashes. The highest takes some 3 seconds to compute; with more, the
/// first scrape of an exporter would reach its deadline before the hash.
const COSTS: std::ops::RangeInclusive<u32> = 4..=16;

pub(super) fn auth(reader: &mut Reader<'_>) -> Result<Option<AuthSettings>, SettingsError> {
    // A request contains the name, a colon, and the password.
    reader.parsed("auth.username", "a name without a colon", |text| {
        (!text.contains(':')).then_some(())
    })?;
    let username = reader.text("auth.username")?;
    reader.parsed(
        "auth.password_hash",
        "a bcrypt hash, as htpasswd -nB prints it",
        |text| is_bcrypt(text).then_some(()),
    )?;
    let hash = reader.parsed(
        "auth.password_hash",
        "a bcrypt hash with a cost from 4 to 16, as htpasswd -nB -C 10 prints it",
        |text| {
            let parts: bcrypt::HashParts = text.parse().ok()?;
            COSTS.contains(&parts.get_cost()).then(|| Secret::new(text))
        },
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

/// Returns whether a password can be compared with the hash: tried with the lowest cost in place of
/// its own.
fn is_bcrypt(text: &str) -> bool {
    let parts: Result<bcrypt::HashParts, _> = text.parse();
    let salt_and_hash = text.rsplit('$').next().unwrap_or_default();
    parts.is_ok() && bcrypt::verify("", &format!("$2b$04${salt_and_hash}")).is_ok()
}

pub(super) fn gunicorn(reader: &mut Reader<'_>) -> Result<GunicornSettings, SettingsError> {
    Ok(GunicornSettings {
        workers: small(reader.integer("gunicorn.workers", 1..=4_096)?),
        timeout: small(reader.integer("gunicorn.timeout", 0..=1_000_000)?),
        keepalive: small(reader.integer("gunicorn.keepalive", 0..=1_000_000)?),
    })
}

/// Checks that both are set, or neither.
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

fn host_and_port(text: &str) -> Option<String> {
    let (name, port) = text.rsplit_once(':')?;
    let port: u16 = port.parse().ok()?;
    (host(name).is_some() && port > 0).then(|| text.to_owned())
}

const HOST: &str = "an IP address or a host name, without a port";

/// Returns the host, an IPv6 address without its brackets; `None` for what cannot be one. The system
/// takes numbers with dots for an address, so a name does not end with a number.
fn host(text: &str) -> Option<String> {
    let bare = match text.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').filter(|bare| bare.contains(':'))?,
        None => text,
    };
    let without_zone = bare.split_once('%').map_or(bare, |(address, _)| address);
    let is_address = bare.parse::<IpAddr>().is_ok() || without_zone.parse::<Ipv6Addr>().is_ok();
    (is_address || is_host_name(bare)).then(|| bare.to_owned())
}

/// RFC 1123, and the underscores that names of containers have.
fn is_host_name(text: &str) -> bool {
    let is_label = |label: &str| {
        let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        (1..=63).contains(&label.len())
            && label.bytes().all(is_part)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let text = text.strip_suffix('.').unwrap_or(text);
    let last = text.rsplit('.').next().unwrap_or_default();
    text.len() <= 253
        && text.split('.').all(is_label)
        && !last.bytes().all(|byte| byte.is_ascii_digit())
}

/// Narrows a number whose range was checked.
fn small(number: Option<i64>) -> Option<u32> {
    number.and_then(|number| u32::try_from(number).ok())
}
