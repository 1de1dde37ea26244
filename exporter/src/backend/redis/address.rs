//! From settings to a client: host and port, URL or unix socket, with or without TLS.

use std::path::Path;

use redis::{
    Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, IntoConnectionInfo,
    RedisConnectionInfo, TlsCertificates,
};

use super::super::BackendError;
use crate::settings::{RedisSettings, RedisTls};

/// The client, which connects when asked to, and the address as messages name it.
pub(super) fn client(settings: &RedisSettings) -> Result<(Client, String), BackendError> {
    let info = with_tls(connection_info(settings)?, settings)?;
    let address = match info.addr() {
        ConnectionAddr::Unix(path) => path.display().to_string(),
        ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
            let host = if host.contains(':') {
                format!("[{host}]")
            } else {
                host.clone()
            };
            format!("{host}:{port}")
        }
        _ => return Err(wrong("the URL names no address that can be used here")),
    };
    let is_tls = matches!(info.addr(), ConnectionAddr::TcpTls { .. });
    let client = if is_tls {
        Client::build_with_tls(info, certificates(&settings.ssl)?)
    } else {
        Client::open(info)
    };
    // What the library says may quote the URL, and with it the password.
    let client = client.map_err(|_| wrong("the address or the certificates cannot be used"))?;
    Ok((client, address))
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

/// `ssl.enabled` and a `rediss://` URL mean the same.
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
    use crate::Settings;
    use crate::backend::RedisBackend;

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
