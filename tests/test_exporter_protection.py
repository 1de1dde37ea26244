"""TLS, client certificates and a password, for a standalone exporter and for an instance."""

import base64
import contextlib
import http.client
import os
import shutil
import signal
import socket
import ssl
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
from test_exporter_command_line import refused, run
from test_exporter_standalone import Answer, ask, declare_some, fill

from harness import Exporter, Gunicorn, Prometheus, RedisServer, eventually
from harness.tls import Authority, Pair

# Hashes of the passwords `s3cret` and `other`, at a low cost so that the tests are fast.
HASH = "$2b$05$abcdefghijklmnopqrstuuLK7U1u6pVRmL7L1BBM2aS35PSZnDXlK"
OTHER_HASH = "$2b$05$abcdefghijklmnopqrstuuVQd15VhR/oN1H3pzUR5lME0fZO6.qRW"


class Certificates(NamedTuple):
    """The certificates of the tests, all of one authority."""

    authority: Authority
    server: Pair
    client: Pair
    stranger: Pair


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """New certificates for these tests."""
    authority = Authority(tmp_path_factory.mktemp("tls"))
    stranger = Authority(tmp_path_factory.mktemp("strangers"), "strangers").sign("stranger")
    return Certificates(authority, authority.sign("server"), authority.sign("client"), stranger)


def tls(pair: Pair, **more: object) -> dict[str, str]:
    """Returns the environment of an exporter that serves with this pair."""
    variables = {"certfile": pair.cert, "keyfile": pair.key, **more}
    return {f"PROMETHEUS_SSL_{name.upper()}": str(value) for name, value in variables.items()}


def password(password_hash: str = HASH) -> dict[str, str]:
    """Returns the environment of an exporter that requires user and password."""
    return {"GUNICORN_EXPORTER_AUTH_USERNAME": "prom", "GUNICORN_EXPORTER_AUTH_PASSWORD_HASH": password_hash}


def basic(credentials: str) -> dict[str, str]:
    """Returns the header with the credentials."""
    return {"Authorization": f"Basic {base64.b64encode(credentials.encode()).decode()}"}


def connect(port: int, certificates: Certificates, client: Pair | None = None) -> http.client.HTTPSConnection:
    """Returns a connection that verifies the server's certificate."""
    context = ssl.create_default_context(cafile=str(certificates.authority.ca))
    if client is not None:
        context.load_cert_chain(client.cert, client.key)
    return http.client.HTTPSConnection("localhost", port, timeout=30, context=context)


def get(connection: http.client.HTTPConnection, path: str, headers: Mapping[str, str] | None = None) -> Answer:
    """Sends one request on an open connection."""
    connection.request("GET", path, headers=dict(headers or {}))
    response = connection.getresponse()
    return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())


def subject(port: int, certificates: Certificates) -> str:
    """Returns the subject of the certificate that a new connection gets."""
    connection = connect(port, certificates)
    try:
        connection.connect()
        shown = connection.sock.getpeercert()
        assert shown is not None
        return str(shown["subject"][0][0][1])
    finally:
        connection.close()


def test_the_page_is_served_over_tls(redis: RedisServer, certificates: Certificates) -> None:
    with Exporter(redis=redis, environment=tls(certificates.server)) as exporter:
        fill(redis, series=3_000, label_bytes=500)
        connection = connect(exporter.port, certificates)
        try:
            for _ in range(2):
                page = get(connection, "/metrics")
                assert page.status == 200
                assert page.body.count(b"\nbig_total{") == 3_000
        finally:
            connection.close()
        healthy = run("health", environment=exporter.environment)
        assert (healthy.returncode, healthy.stderr) == (0, "")
        assert f"https://127.0.0.1:{exporter.port}/metrics" in exporter.log


def test_half_a_tls_request_after_an_answer_does_not_delay_an_orderly_end(
    redis: RedisServer, certificates: Certificates
) -> None:
    with Exporter(redis=redis, environment=tls(certificates.server)) as exporter:
        begun, other = connect(exporter.port, certificates), connect(exporter.port, certificates)
        try:
            assert get(begun, "/-/healthy").status == 200
            begun.send(b"GET /metrics HTTP/1.1\r\nX-")
            # When another request is answered after it, the exporter has read this one.
            assert get(other, "/-/healthy").status == 200
            assert exporter.stop() == 0
        finally:
            begun.close()
            other.close()
        assert "broken off" not in exporter.log


def test_plain_http_to_a_tls_port_gets_a_clear_answer(redis: RedisServer, certificates: Certificates) -> None:
    with Exporter(redis=redis, environment=tls(certificates.server)) as exporter:
        answer = ask(exporter, "/metrics")
        assert (answer.status, answer.body) == (400, b"this port speaks HTTPS: ask for https:// instead\n")


@pytest.mark.parametrize("place", ["client_cafile", "client_capath"])
def test_a_client_shows_its_certificate(
    redis: RedisServer, certificates: Certificates, place: str, tmp_path: Path
) -> None:
    authorities = certificates.authority.ca
    if place == "client_capath":
        authorities = tmp_path
        shutil.copy(certificates.authority.ca, tmp_path / "0123abcd.0")
    settings = tls(certificates.server, **{place: authorities}, client_auth_required="true")
    with Exporter(redis=redis, environment=settings) as exporter:
        connection = connect(exporter.port, certificates, certificates.client)
        assert get(connection, "/metrics").status == 200
        connection.close()
        for stranger in (None, certificates.stranger):
            connection = connect(exporter.port, certificates, stranger)
            with pytest.raises((ssl.SSLError, ConnectionError)):
                get(connection, "/metrics")
            connection.close()
        # A container checks its own health without a certificate.
        assert run("health", environment=exporter.environment).returncode == 0


def test_a_certificate_may_be_optional(redis: RedisServer, certificates: Certificates) -> None:
    settings = tls(certificates.server, client_cafile=certificates.authority.ca)
    with Exporter(redis=redis, environment=settings) as exporter:
        for client in (None, certificates.client):
            connection = connect(exporter.port, certificates, client)
            assert get(connection, "/metrics").status == 200
            connection.close()
        connection = connect(exporter.port, certificates, certificates.stranger)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            get(connection, "/metrics")
        connection.close()


def test_every_path_but_health_needs_the_password(redis: RedisServer) -> None:
    with Exporter(redis=redis, environment=password()) as exporter:
        declare_some(redis)
        for path in ("/metrics", "/metrics/instance", "/-/metrics", "/", "/nothing"):
            for headers in ({}, basic("prom:wrong"), basic("root:s3cret"), {"Authorization": "Bearer s3cret"}):
                refusal = ask(exporter, path, **headers)
                assert refusal.status == 401, (path, headers)
                assert refusal.headers["www-authenticate"].startswith("Basic realm=")
                assert b"temperature" not in refusal.body
        for path in ("/healthz", "/readyz", "/-/healthy", "/-/ready"):
            assert ask(exporter, path).status == 200
        assert b"\ntemperature -2.5\n" in ask(exporter, "/metrics", **basic("prom:s3cret")).body
        assert ask(exporter, "/nothing", **basic("prom:s3cret")).status == 404
        assert "s3cret" not in exporter.log


def test_clients_that_guess_passwords_do_not_delay_the_scraper(redis: RedisServer) -> None:
    """The scraper's password was checked before. Guesses are checked one at a time, outside the thread that serves."""
    hard = HASH.replace("$05$", "$13$")
    with Exporter(redis=redis, environment=password(hard)) as exporter:
        guesses = [http.client.HTTPConnection("127.0.0.1", exporter.port, timeout=60) for _ in range(20)]
        try:
            for number, guess in enumerate(guesses):
                guess.request("GET", "/metrics", headers=basic(f"prom:{number}"))
            started = time.monotonic()
            assert ask(exporter, "/healthz").status == 200
            # Twenty hashes of this cost take ten seconds and more.
            assert time.monotonic() - started < 5
        finally:
            for guess in guesses:
                guess.close()


def test_certificate_and_password_are_exchanged_without_dropping_connections(
    redis: RedisServer, certificates: Certificates, tmp_path: Path
) -> None:
    served = Pair(tmp_path / "cert.pem", tmp_path / "key.pem")
    for source, target in zip(certificates.server, served, strict=True):
        shutil.copy(source, target)
    config = tmp_path / "exporter.yml"
    write_config(config, HASH)
    arguments = ["--config", str(config)]
    with Exporter(redis=redis, environment=tls(served), arguments=arguments) as exporter:
        connection = connect(exporter.port, certificates)
        assert get(connection, "/metrics", basic("prom:s3cret")).status == 200
        assert subject(exporter.port, certificates) == "server"

        renewed = certificates.authority.sign("renewed")
        for source, target in zip(renewed, served, strict=True):
            shutil.copy(source, target)
        write_config(config, OTHER_HASH)
        exporter.send(signal.SIGHUP)
        eventually(lambda: subject(exporter.port, certificates), equals="renewed")
        # The old connection continues; each request needs the password.
        assert get(connection, "/metrics", basic("prom:s3cret")).status == 401
        assert get(connection, "/metrics", basic("prom:other")).status == 200

        served.key.write_text("-----BEGIN PRIVATE KEY-----\n")
        exporter.send(signal.SIGHUP)
        eventually(lambda: "SIGHUP: certificates and password stay what they were" in exporter.log)
        assert subject(exporter.port, certificates) == "renewed"
        assert get(connection, "/metrics", basic("prom:other")).status == 200
        connection.close()


def write_config(path: Path, password_hash: str) -> None:
    """Writes a configuration file with a password."""
    path.write_text(f"exporter:\n  auth:\n    username: prom\n    password_hash: '{password_hash}'\n")


def test_an_instance_renews_its_certificate_at_hup(certificates: Certificates, tmp_path: Path) -> None:
    served = Pair(tmp_path / "cert.pem", tmp_path / "key.pem")
    for source, target in zip(certificates.server, served, strict=True):
        shutil.copy(source, target)
    served.key.chmod(0o600)
    # The exporter gives up its privileges; the arbiter has read the key before, and loads what a Python in root's
    # directory would not give the worker.
    with Gunicorn(
        environment={**tls(served), **password()}, arguments=["--user=nobody"], config="import prometheus_client"
    ) as gunicorn:
        exporter = eventually(gunicorn.exporter_pid)
        connection = eventually(lambda: opened(gunicorn.metrics_port, certificates))
        assert get(connection, "/metrics").status == 401
        assert get(connection, "/metrics", basic("prom:s3cret")).status == 200
        renewed = certificates.authority.sign("renewed")
        for source, target in zip(renewed, served, strict=True):
            shutil.copy(source, target)
        gunicorn.send(signal.SIGHUP)
        eventually(lambda: subject(gunicorn.metrics_port, certificates), equals="renewed")
        assert get(connection, "/metrics", basic("prom:s3cret")).status == 200
        assert gunicorn.exporter_pid() == exporter
        connection.close()
        # A key file that no longer exists changes nothing.
        served.key.unlink()
        gunicorn.send(signal.SIGHUP)
        eventually(lambda: "the metrics settings stay what they were" in gunicorn.log)
        assert subject(gunicorn.metrics_port, certificates) == "renewed"
        # The next exporter gets the key that the arbiter has read.
        gunicorn_exporter = gunicorn.exporter_pid()
        os.kill(gunicorn_exporter, signal.SIGKILL)
        eventually(lambda: gunicorn.exporter_pid() != gunicorn_exporter)
        assert eventually(lambda: subject(gunicorn.metrics_port, certificates)) == "renewed"


def opened(port: int, certificates: Certificates) -> http.client.HTTPSConnection:
    """Returns a connection, as soon as the exporter accepts one."""
    connection = connect(port, certificates)
    connection.connect()
    return connection


def test_an_instance_without_its_key_does_not_start(certificates: Certificates) -> None:
    pair = Pair(certificates.server.cert, Path("/nonexistent/key.pem"))
    gunicorn = Gunicorn(environment=tls(pair))
    with pytest.raises(RuntimeError, match=r"keyfile is /nonexistent/key\.pem, which cannot be read"):
        gunicorn.start()


def test_unusable_certificates_and_hashes_are_one_line(certificates: Certificates, tmp_path: Path) -> None:
    setting = "exporter.prometheus.ssl"
    nothing = tmp_path / "nothing.pem"
    nothing.write_text("")
    other = certificates.client
    missing = tmp_path / "none.pem"
    server = certificates.server
    for settings, line in [
        (tls(Pair(missing, server.key)), f"{setting}.certfile is {missing}, which cannot be read: No such file"),
        (tls(Pair(nothing, server.key)), f"{setting}.certfile holds no certificate in PEM"),
        (tls(Pair(server.cert, nothing)), f"{setting}.keyfile holds no private key in PEM"),
        (tls(Pair(server.cert, other.key)), f"{setting}.keyfile is wrong: "),
        (tls(server, client_cafile=nothing), f"{setting}.client_cafile holds no certificate in PEM"),
        (tls(server, client_auth_required="yes"), f"{setting}.client_auth_required is set and "),
    ]:
        assert refused("check-config", environment=settings).startswith(line)


def test_prometheus_scrapes_over_tls_with_its_certificate_and_a_password(
    redis: RedisServer, certificates: Certificates
) -> None:
    settings = tls(certificates.server, client_cafile=certificates.authority.ca, client_auth_required="true")
    client = f"""
    scheme: https
    basic_auth: {{username: prom, password: s3cret}}
    tls_config:
      ca_file: {certificates.authority.ca}
      cert_file: {certificates.client.cert}
      key_file: {certificates.client.key}
"""
    with Exporter(redis=redis, environment={**settings, **password()}) as exporter:
        declare_some(redis)
        with Prometheus({"exporter": [f"localhost:{exporter.port}"]}, more=client) as prometheus:
            eventually(lambda: prometheus.value('up{job="exporter"}'), equals=1.0)
            eventually(lambda: prometheus.value("temperature"), equals=-2.5)
            assert [target["lastError"] for target in prometheus.targets()] == [""]


@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01\x02\x00\x01"], ids=["nothing", "half a hello"])
def test_unfinished_handshakes_neither_keep_clients_out_nor_delay_the_end(
    redis: RedisServer, certificates: Certificates, said: bytes
) -> None:
    """There are more of them than places; and at SIGTERM the exporter does not wait for them."""
    declare_some(redis)
    with Exporter(redis=redis, environment=tls(certificates.server)) as exporter, contextlib.ExitStack() as crowd:
        for _ in range(600):
            client = crowd.enter_context(socket.create_connection(("127.0.0.1", exporter.port), timeout=30))
            with contextlib.suppress(ConnectionError):
                client.sendall(said)
        scraper = crowd.enter_context(contextlib.closing(connect(exporter.port, certificates)))
        assert b"temperature -2.5" in get(scraper, "/metrics").body
        assert exporter.stop() == 0
        assert "broken off" not in exporter.log


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"USERNAME": "pro:m"}, "a name without a colon"),
        ({"PASSWORD_HASH": HASH.replace("$05$", "$03$")}, "a bcrypt hash"),
        ({"PASSWORD_HASH": HASH.replace("$05$", "$99$")}, "a cost from 4 to 16"),
        ({"PASSWORD_HASH": HASH.replace("$05$", "$17$")}, "a cost from 4 to 16"),
        ({"PASSWORD_HASH": HASH[:-1] + "!"}, "a bcrypt hash, as htpasswd -nB prints it"),
    ],
)
def test_a_user_or_a_hash_that_cannot_work_is_refused(variables: dict[str, str], words: str) -> None:
    """check-config refuses it, and so does the exporter at its start."""
    environment = password() | {f"GUNICORN_EXPORTER_AUTH_{name}": value for name, value in variables.items()}
    for word in ("check-config", "standalone"):
        done = run(word, environment=environment | {"REDIS_ENABLED": "true"})
        assert done.returncode == 64, done.stderr
        assert words in done.stderr, done.stderr


def guessing(exporter: Exporter, number: int) -> socket.socket:
    """Returns a client that has sent a wrong password."""
    client = socket.create_connection(("127.0.0.1", exporter.port), timeout=30)
    words = basic(f"prom:guess {number}")["Authorization"]
    client.sendall(f"GET /metrics HTTP/1.1\r\nHost: x\r\nAuthorization: {words}\r\n\r\n".encode())
    return client


def test_a_crowd_of_password_guessers_does_not_keep_a_scraper_out(redis: RedisServer) -> None:
    """This holds before the exporter has checked its first password, and later."""
    declare_some(redis)
    # Hashes of `s3cret` at a usual cost: the crowd's passwords take half a minute.
    usual = "$2b$11$abcdefghijklmnopqrstuuUCnuixm4ngvxv5GQ9LK1yFHBonHULYe"
    with Exporter(redis=redis, environment=password(usual)) as exporter, contextlib.ExitStack() as crowd:
        for number in range(300):
            crowd.enter_context(guessing(exporter, number))
        for _ in range(2):
            connection = http.client.HTTPConnection("127.0.0.1", exporter.port, timeout=10)
            try:
                assert get(connection, "/metrics", basic("prom:s3cret")).status == 200
            finally:
                connection.close()


def test_an_orderly_end_does_not_wait_for_password_checks(redis: RedisServer) -> None:
    slow = "$2b$16$abcdefghijklmnopqrstuunj/2DZCJ/hzvOhDAfLPb4N/bFjyUNZ."
    with Exporter(redis=redis, environment=password(slow)) as exporter, contextlib.ExitStack() as crowd:
        for number in range(20):
            crowd.enter_context(guessing(exporter, number))
        time.sleep(0.2)
        started = time.monotonic()
        assert exporter.stop() == 0
        assert time.monotonic() - started < 3, "it takes a minute to hash what waits, and seconds to hash one"
