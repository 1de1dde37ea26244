"""The exporter with a Redis that requires TLS and a client certificate."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
from test_exporter_standalone import ask, declare_some

from harness import Exporter, RedisServer, scrape
from harness.ports import free_port
from harness.tls import Authority


class Certificates(NamedTuple):
    """The authority, and a certificate that it signed: server and client use the same one here."""

    ca: Path
    cert: Path
    key: Path


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """New certificates for these tests."""
    made = Authority(tmp_path_factory.mktemp("tls"))
    return Certificates(made.ca, *made.sign("localhost"))


class TlsRedis(RedisServer):
    """A server that listens for TLS besides its socket."""

    def __init__(self, authority: Certificates) -> None:
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
        """Returns an exporter for this server, with these settings of `exporter.redis.ssl`."""
        environment = {f"GUNICORN_EXPORTER_REDIS_SSL_{name}": value for name, value in settings.items()}
        return Exporter(
            environment={"REDIS_HOST": "localhost", "REDIS_PORT": str(self.tls_port), **environment},
        )


def test_exporter_and_redis_verify_each_other(authority: Certificates) -> None:
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


def test_a_client_that_speaks_no_tls_is_told_that_the_port_does(authority: Certificates) -> None:
    with TlsRedis(authority) as redis:
        with redis.exporter({}) as exporter:
            answer = ask(exporter, "/metrics")
            assert answer.status == 503
            assert answer.body.decode().strip() == (
                f"redis at localhost:{redis.tls_port} speaks TLS at this port: "
                "set exporter.redis.ssl.enabled, or a URL of rediss://"
            )


def test_a_client_without_a_certificate_is_told_so(authority: Certificates) -> None:
    with TlsRedis(authority) as redis:
        with redis.exporter({"ENABLED": "true", "CA_FILE": str(authority.ca)}) as exporter:
            answer = ask(exporter, "/metrics")
            assert answer.status == 503
            assert answer.body.decode().startswith(f"redis at localhost:{redis.tls_port} ")
