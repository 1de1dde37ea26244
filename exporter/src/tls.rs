//! The listener's certificates: reads the files, passes them on in memory, and builds a
//! configuration.
//!
//! # How it works
//!
//! The process that may read the private key need not be the one that serves. Gunicorn's arbiter
//! reads the files before its exporter gives up its privileges, and passes their content on, in
//! memory that can only be reached through a descriptor. A standalone exporter does both itself.
//! Unusable files are refused when they are read, in one line that names the setting.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};
use serde::{Deserialize, Serialize};

use metrics_settings::ListenerTls;

/// Maximum size of one file, in bytes: a bundle of all public authorities is a quarter of it.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// The content of the files in `exporter.prometheus.ssl`, all of them PEM.
#[derive(Clone, Serialize, Deserialize)]
pub struct TlsFiles {
    certificates: String,
    key: String,
    /// The authorities that may sign certificates of clients.
    authorities: Option<String>,
    /// Whether a client without a certificate is refused.
    is_client_required: bool,
}

/// The reason why TLS cannot be served.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum TlsError {
    #[error("{setting} is {}, which cannot be read: {reason}", .path.display())]
    Unreadable {
        setting: &'static str,
        path: PathBuf,
        reason: String,
    },
    #[error("{setting} holds no {expected} in PEM")]
    Empty {
        setting: &'static str,
        expected: &'static str,
    },
    #[error("{setting} is wrong: {reason}")]
    Wrong {
        setting: &'static str,
        reason: String,
    },
    #[error("the certificates cannot be passed on: {0}")]
    Passing(String),
}

const CERTIFICATE: &str = "exporter.prometheus.ssl.certfile";
const KEY: &str = "exporter.prometheus.ssl.keyfile";
const CLIENT_FILE: &str = "exporter.prometheus.ssl.client_cafile";
const CLIENT_DIRECTORY: &str = "exporter.prometheus.ssl.client_capath";

impl TlsFiles {
    /// Reads the files of the settings, and checks that they can be used; `None` if TLS is off.
    pub fn read(settings: &ListenerTls) -> Result<Option<Self>, TlsError> {
        let (Some(certificates), Some(key)) = (&settings.certfile, &settings.keyfile) else {
            return Ok(None);
        };
        if !settings.enabled {
            return Ok(None);
        }
        let mut authorities = Vec::new();
        if let Some(path) = &settings.client_cafile {
            authorities.push(read(CLIENT_FILE, path)?);
        }
        if let Some(path) = &settings.client_capath {
            authorities.push(read_directory(CLIENT_DIRECTORY, path)?);
        }
        let files = Self {
            certificates: read(CERTIFICATE, certificates)?,
            key: read(KEY, key)?,
            authorities: (!authorities.is_empty()).then(|| authorities.join("\n")),
            is_client_required: settings.client_auth_required,
        };
        files.server_config()?;
        Ok(Some(files))
    }

    /// Copies it into memory that can only be reached through this descriptor.
    pub fn to_memory(&self) -> Result<OwnedFd, TlsError> {
        let passing = |error: &dyn std::fmt::Display| TlsError::Passing(error.to_string());
        let flags = rustix::fs::MemfdFlags::CLOEXEC;
        let memory = rustix::fs::memfd_create("gunicorn-metrics-tls", flags)
            .map_err(|error| passing(&error))?;
        let mut file = File::from(memory);
        let bytes = serde_json::to_vec(self).map_err(|error| passing(&error))?;
        file.write_all(&bytes).map_err(|error| passing(&error))?;
        Ok(file.into())
    }

    /// Reads what [`to_memory`](Self::to_memory) has written.
    pub(crate) fn from_memory(memory: OwnedFd) -> Result<Self, TlsError> {
        let passing = |error: &dyn std::fmt::Display| TlsError::Passing(error.to_string());
        let mut file = File::from(memory);
        file.rewind().map_err(|error| passing(&error))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)
            .map_err(|error| passing(&error))?;
        serde_json::from_slice(&bytes).map_err(|error| passing(&error))
    }

    /// Returns the server's configuration: TLS 1.2 and 1.3, HTTP/1.1.
    pub(crate) fn server_config(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let certificates = certificates(CERTIFICATE, &self.certificates)?;
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes())
            .map_err(|_| empty(KEY, "private key"))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| wrong(CERTIFICATE, &error))?;
        let builder = match self.client_verifier(provider)? {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder
            .with_single_cert(certificates, key)
            .map_err(|error| wrong(KEY, &error))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    fn client_verifier(
        &self,
        provider: Arc<rustls::crypto::CryptoProvider>,
    ) -> Result<Option<Arc<dyn ClientCertVerifier>>, TlsError> {
        let Some(authorities) = &self.authorities else {
            return Ok(None);
        };
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(certificates(CLIENT_FILE, authorities)?);
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        let builder = if self.is_client_required {
            builder
        } else {
            // A certificate that a client does show must be valid all the same.
            builder.allow_unauthenticated()
        };
        let verifier = builder
            .build()
            .map_err(|error| wrong(CLIENT_FILE, &error))?;
        Ok(Some(verifier))
    }
}

fn certificates(
    setting: &'static str,
    pem: &str,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| wrong(setting, &error))?;
    if certificates.is_empty() {
        return Err(empty(setting, "certificate"));
    }
    Ok(certificates)
}

fn read(setting: &'static str, path: &Path) -> Result<String, TlsError> {
    let text = File::open(path).and_then(|file| {
        let mut text = String::new();
        file.take(MAX_FILE_BYTES).read_to_string(&mut text)?;
        Ok(text)
    });
    text.map_err(|error| unreadable(setting, path, &error))
}

/// Reads all files of a directory, as OpenSSL does, whatever their names.
fn read_directory(setting: &'static str, path: &Path) -> Result<String, TlsError> {
    let failed = |error: std::io::Error| unreadable(setting, path, &error);
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(path).map_err(failed)? {
        paths.push(entry.map_err(failed)?.path());
    }
    // The same order each time, whatever the directory's.
    paths.sort_unstable();
    let mut texts = Vec::new();
    for path in paths.iter().filter(|path| path.is_file()) {
        texts.push(read(setting, path)?);
    }
    Ok(texts.join("\n"))
}

fn unreadable(setting: &'static str, path: &Path, error: &std::io::Error) -> TlsError {
    TlsError::Unreadable {
        setting,
        path: path.to_owned(),
        reason: error.to_string(),
    }
}

fn empty(setting: &'static str, expected: &'static str) -> TlsError {
    TlsError::Empty { setting, expected }
}

fn wrong(setting: &'static str, error: &dyn std::fmt::Display) -> TlsError {
    TlsError::Wrong {
        setting,
        reason: error.to_string(),
    }
}
