"""The exporter in front of a Redis that wants TLS, and a certificate of its client."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from test_exporter_standalone import ask, declare_some

from harness import Exporter, RedisServer, scrape
from harness.ports import free_port


class Authority(NamedTuple):
    """Who signs, and what was signed: the server's and the client's certificate are the same here."""

    ca: Path
    cert: Path
    key: Path


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Made anew for these tests."""
    directory = tmp_path_factory.mktemp("tls")
    made = Authority(directory / "ca.pem", directory / "cert.pem", directory / "key.pem")
    ca_key = directory / "ca-key.pem"
    new_key: Sequence[str | Path] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    openssl("req", "-x509", *new_key, "-keyout", ca_key, "-out", made.ca, "-subj", "/CN=authority")
    signed: Sequence[str | Path] = ["-CA", made.ca, "-CAkey", ca_key, "-addext", "subjectAltName=DNS:localhost"]
    leaf: Sequence[str | Path] = ["-addext", "basicConstraints=critical,CA:FALSE"]
    openssl("req", "-x509", *new_key, *signed, *leaf, "-keyout", made.key, "-out", made.cert, "-subj", "/CN=localhost")
    return made


def openssl(*arguments: str | Path) -> None:
    """One command of openssl."""
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


class TlsRedis(RedisServer):
    """One that listens for TLS besides its socket."""

    def __init__(self, authority: Authority) -> None:
        self.tls_port = free_port()
        super().__init__(
            settings={
                "tls-port": str(self.tls_port),
                "tls-cert-file": str(authority.cert),
                "tls-key-file": str(authority.key),
                "tls-ca-cert-file": str(authority.ca),
            }
        )

    def exporter(self, settings: Mapping[str, str]) -> Exporter:
        """Connects there, with these settings of `exporter.redis.ssl`."""
        environment = {f"GUNICORN_EXPORTER_REDIS_SSL_{name}": value for name, value in settings.items()}
        return Exporter(
            environment={"REDIS_HOST": "localhost", "REDIS_PORT": str(self.tls_port), **environment},
        )


def test_both_sides_show_their_certificates(authority: Authority) -> None:
    client = {"ENABLED": "true", "CERT_FILE": str(authority.cert), "KEY_FILE": str(authority.key)}
    with TlsRedis(authority) as redis:
        declare_some(redis)
        with redis.exporter({**client, "CA_FILE": str(authority.ca)}) as exporter:
            assert scrape(exporter.metrics_url).value("temperature") == -2.5
        with redis.exporter({**client, "VERIFY": "false"}) as exporter:
            assert scrape(exporter.metrics_url).value("temperature") == -2.5
        with redis.exporter(client) as exporter:
            answer = ask(exporter, "/metrics")
            assert answer.status == 503
            line = answer.body.decode()
            assert line.startswith(f"redis at localhost:{redis.tls_port} cannot be reached: invalid peer certificate")


def test_a_client_without_a_certificate_is_told_so(authority: Authority) -> None:
    with TlsRedis(authority) as redis:
        with redis.exporter({"ENABLED": "true", "CA_FILE": str(authority.ca)}) as exporter:
            answer = ask(exporter, "/metrics")
            assert answer.status == 503
            assert answer.body.decode().startswith(f"redis at localhost:{redis.tls_port} ")
