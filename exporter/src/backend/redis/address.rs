//! Makes a client from settings: host and port, URL or unix socket, with or without TLS.

use std::fmt;
use std::path::Path;

use redis::{
    Client, ClientTlsConfig, Cmd, ConnectionAddr, ConnectionInfo, IntoConnectionInfo,
    RedisConnectionInfo, TlsCertificates,
};

use super::super::BackendError;
use metrics_settings::{RedisSettings, RedisTls, SentinelSettings};

/// The address and login of a server. The login is the same for all nodes of a cluster, and for
/// every primary that a sentinel names.
#[derive(Clone)]
pub(super) struct Address {
    info: ConnectionInfo,
    certificates: Option<TlsCertificates>,
}

impl Address {
    /// Returns the address of the server in the settings.
    pub(super) fn new(settings: &RedisSettings) -> Result<Self, BackendError> {
        let info = with_tls(connection_info(settings)?, settings)?;
        let is_tls = matches!(info.addr(), ConnectionAddr::TcpTls { .. });
        let certificates = is_tls.then(|| certificates(&settings.ssl)).transpose()?;
        let address = Self { info, certificates };
        // Makes a client at once, so that wrong settings fail before anything starts.
        address.client()?;
        Ok(address)
    }

    /// Returns the addresses of the sentinels in the settings, with their own login.
    pub(super) fn sentinels(
        settings: &RedisSettings,
        sentinels: &SentinelSettings,
    ) -> Result<Vec<Self>, BackendError> {
        let mut login = RedisConnectionInfo::default();
        if let Some(username) = &sentinels.username {
            login = login.set_username(username);
        }
        if let Some(password) = &sentinels.password {
            login = login.set_password(password.reveal());
        }
        let template = Self::new(settings)?;
        let address = |host: &String| {
            let (host, port) = host
                .rsplit_once(':')
                .and_then(|(host, port)| Some((host.trim_matches(['[', ']']), port.parse().ok()?)))
                .ok_or_else(|| wrong("a sentinel's address cannot be understood"))?;
            let mut address = template
                .at(host, port)
                .ok_or_else(|| wrong("sentinels are set and the URL names a unix socket"))?;
            address.info = address.info.set_redis_settings(login.clone());
            Ok(address)
        };
        sentinels.hosts.iter().map(address).collect()
    }

    /// Returns the address of another node with the same login; an empty host stands for this
    /// one's. `None` for a unix socket, which has no other nodes.
    pub(super) fn at(&self, host: &str, port: u16) -> Option<Self> {
        let or_own = |own: &String| {
            if host.is_empty() {
                own.clone()
            } else {
                host.to_owned()
            }
        };
        let addr = match self.info.addr().clone() {
            ConnectionAddr::Tcp(own, _) => ConnectionAddr::Tcp(or_own(&own), port),
            ConnectionAddr::TcpTls {
                host: own,
                insecure,
                tls_params,
                ..
            } => ConnectionAddr::TcpTls {
                host: or_own(&own),
                port,
                insecure,
                tls_params,
            },
            _ => return None,
        };
        Some(Self {
            info: self.info.clone().set_addr(addr),
            certificates: self.certificates.clone(),
        })
    }

    /// Returns host and port, or the path of the socket.
    pub(super) fn place(&self) -> &ConnectionAddr {
        self.info.addr()
    }

    /// Returns the commands that log in and select the database; their answer is `+OK`.
    pub(super) fn login(&self) -> Vec<Cmd> {
        let settings = self.info.redis_settings();
        let mut commands = Vec::new();
        if let Some(password) = settings.password() {
            let mut command = redis::cmd("AUTH");
            if let Some(username) = settings.username() {
                command.arg(username);
            }
            command.arg(password);
            commands.push(command);
        }
        if settings.db() != 0 {
            let mut command = redis::cmd("SELECT");
            command.arg(settings.db());
            commands.push(command);
        }
        commands
    }

    /// Returns whether it uses TLS.
    pub(super) fn is_tls(&self) -> bool {
        matches!(self.info.addr(), ConnectionAddr::TcpTls { .. })
    }

    /// Returns a client, which connects on demand.
    pub(super) fn client(&self) -> Result<Client, BackendError> {
        let info = self.info.clone();
        let client = match &self.certificates {
            Some(certificates) => Client::build_with_tls(info, certificates.clone()),
            None => Client::open(info),
        };
        // The library's message may quote the URL, and with it the password.
        client.map_err(|_| wrong("the address or the certificates cannot be used"))
    }
}

/// The form for messages, never with a password.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.info.addr() {
            ConnectionAddr::Unix(path) => write!(f, "{}", path.display()),
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
                if host.contains(':') {
                    write!(f, "[{host}]:{port}")
                } else {
                    write!(f, "{host}:{port}")
                }
            }
            other => write!(f, "{other}"),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

fn connection_info(settings: &RedisSettings) -> Result<ConnectionInfo, BackendError> {
    let unusable = |_| wrong("the URL cannot be understood");
    let Some(url) = &settings.url else {
        let mut login = RedisConnectionInfo::default().set_db(i64::from(settings.db));
        if let Some(username) = &settings.username {
            login = login.set_username(username);
        }
        if let Some(password) = &settings.password {
            login = login.set_password(password.reveal());
        }
        let address = (settings.host.as_str(), settings.port);
        let info = address.into_connection_info().map_err(unusable)?;
        return Ok(info.set_redis_settings(login));
    };
    url.reveal().into_connection_info().map_err(unusable)
}

/// Applies TLS: `ssl.enabled` and a `rediss://` URL have the same effect.
fn with_tls(
    info: ConnectionInfo,
    settings: &RedisSettings,
) -> Result<ConnectionInfo, BackendError> {
    let (host, port) = match info.addr().clone() {
        ConnectionAddr::Tcp(host, port) if settings.ssl.enabled => (host, port),
        ConnectionAddr::TcpTls { host, port, .. } => (host, port),
        ConnectionAddr::Unix(_) if settings.ssl.enabled => {
            return Err(wrong("ssl.enabled is set and the URL names a unix socket"));
        }
        _ => return Ok(info),
    };
    Ok(info.set_addr(ConnectionAddr::TcpTls {
        host,
        port,
        insecure: !settings.ssl.verify,
        tls_params: None,
    }))
}

fn certificates(tls: &RedisTls) -> Result<TlsCertificates, BackendError> {
    let client_tls = match (&tls.cert_file, &tls.key_file) {
        (Some(cert), Some(key)) => Some(ClientTlsConfig {
            client_cert: read(cert)?,
            client_key: read(key)?,
        }),
        _ => None,
    };
    let root_cert = tls.ca_file.as_deref().map(read).transpose()?;
    Ok(TlsCertificates {
        client_tls,
        root_cert,
    })
}

fn read(path: &Path) -> Result<Vec<u8>, BackendError> {
    std::fs::read(path)
        .map_err(|error| wrong(&format!("{} cannot be read: {error}", path.display())))
}

fn wrong(message: &str) -> BackendError {
    BackendError::Settings(message.to_owned())
}

#[cfg(test)]
mod tests {
    use crate::backend::RedisBackend;
    use metrics_settings::Settings;

    fn address(variables: &[(&str, &str)]) -> String {
        let env = |name: &str| {
            let found = variables.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let settings = Settings::load(None, &env).unwrap().settings;
        match RedisBackend::new(&settings) {
            Ok(backend) => backend.address().to_owned(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn an_address_is_shown_without_its_password() {
        let url = "GUNICORN_EXPORTER_REDIS_URL";
        for (value, expected) in [
            ("redis://user:secret@cache:6380/2", "cache:6380"),
            ("redis://:secret@[::1]", "[::1]:6379"),
            ("unix:///run/redis.sock?db=1&pass=secret", "/run/redis.sock"),
            ("redis+unix:///run/redis.sock", "/run/redis.sock"),
            (
                "redis://:secret@cache:99999",
                "exporter.redis: the URL cannot be understood",
            ),
        ] {
            assert_eq!(address(&[(url, value)]), expected);
        }
        assert_eq!(address(&[]), "127.0.0.1:6379");
        assert_eq!(
            address(&[("REDIS_HOST", "cache"), ("REDIS_PORT", "1")]),
            "cache:1"
        );
    }

    #[test]
    fn tls_on_a_unix_socket_is_a_mistake() {
        assert_eq!(
            address(&[
                ("GUNICORN_EXPORTER_REDIS_URL", "unix:///run/redis.sock"),
                ("GUNICORN_EXPORTER_REDIS_SSL_ENABLED", "true"),
            ]),
            "exporter.redis: ssl.enabled is set and the URL names a unix socket"
        );
        assert_eq!(
            address(&[
                ("GUNICORN_EXPORTER_REDIS_SSL_ENABLED", "true"),
                ("GUNICORN_EXPORTER_REDIS_SSL_CA_FILE", "/nowhere.pem"),
            ]),
            "exporter.redis: /nowhere.pem cannot be read: No such file or directory (os error 2)"
        );
    }
}
