//! `health`: asks a running exporter, as the health check of a container does.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use metrics_settings::PrometheusSettings;

const PATIENCE: Duration = Duration::from_secs(3);
/// Answer of an exporter that requires client certificates, which counts as healthy.
const WANTS_CERTIFICATE: &str = "a certificate is wanted";

/// The exporter is unhealthy, or does not answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotHealthy {
    #[error("no exporter answers at {host}:{port}: {reason}")]
    Silent {
        host: String,
        port: u16,
        reason: io::Error,
    },
    #[error("the exporter at {host}:{port} cannot serve metrics: {answer}")]
    Unwell {
        host: String,
        port: u16,
        answer: String,
    },
}

/// Returns when `/readyz` answers 200, so `/metrics` does too, or when the exporter answers that it
/// requires a client certificate.
pub(crate) fn ask(settings: &PrometheusSettings) -> Result<(), NotHealthy> {
    let port = settings.metrics_port;
    // Loopback stands for an address that means all interfaces.
    let host = match settings.bind_address.as_str() {
        "0.0.0.0" => "127.0.0.1",
        "::" => "::1",
        address => address,
    };
    let is_tls = settings.ssl.enabled;
    let answer = request(host, port, is_tls).map_err(|reason| NotHealthy::Silent {
        host: host.to_owned(),
        port,
        reason,
    })?;
    let status = answer.lines().next().unwrap_or_default();
    if status.starts_with("HTTP/1.1 200 ") || status == WANTS_CERTIFICATE {
        return Ok(());
    }
    // The body says why in one line.
    let reason = answer.split_once("\r\n\r\n").map(|(_, body)| body.trim());
    let answer = reason.filter(|reason| !reason.is_empty()).unwrap_or(status);
    Err(NotHealthy::Unwell {
        host: host.to_owned(),
        port,
        answer: answer.to_owned(),
    })
}

fn request(host: &str, port: u16, is_tls: bool) -> io::Result<String> {
    let mut last = io::ErrorKind::AddrNotAvailable.into();
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => {
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                return if is_tls {
                    tls::ask(stream)
                } else {
                    ask_over(stream)
                };
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn ask_over(mut stream: impl Read + Write) -> io::Result<String> {
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: health\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(4_096).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// The request over TLS. It contains no secret, the answer is one word, and both processes are on
/// the same machine. So any certificate is accepted, whatever address it names.
mod tls {
    use std::io;
    use std::net::TcpStream;
    use std::sync::Arc;

    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::crypto::{CryptoProvider, ring};
    use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
    use rustls::{
        AlertDescription, ClientConfig, ClientConnection, DigitallySignedStruct, Error,
        SignatureScheme, StreamOwned,
    };

    pub(super) fn ask(stream: TcpStream) -> io::Result<String> {
        let provider = Arc::new(ring::default_provider());
        let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
        let connection = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
        match super::ask_over(StreamOwned::new(connection, stream)) {
            Err(error) if wants_certificate(&error) => Ok(super::WANTS_CERTIFICATE.to_owned()),
            answer => answer,
        }
    }

    fn wants_certificate(error: &io::Error) -> bool {
        let tls = error.get_ref().and_then(|error| error.downcast_ref());
        matches!(
            tls,
            Some(Error::AlertReceived(AlertDescription::CertificateRequired))
        )
    }

    /// Trusts any certificate whose private key the server has.
    #[derive(Debug)]
    struct AnyCertificate(Arc<CryptoProvider>);

    impl ServerCertVerifier for AnyCertificate {
        fn verify_server_cert(
            &self,
            _end_entity: &CertificateDer<'_>,
            _intermediates: &[CertificateDer<'_>],
            _server_name: &ServerName<'_>,
            _ocsp_response: &[u8],
            _now: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            let algorithms = &self.0.signature_verification_algorithms;
            rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            let algorithms = &self.0.signature_verification_algorithms;
            rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.0.signature_verification_algorithms.supported_schemes()
        }
    }
}
