"""The exporter with one Redis: what a scraper gets from it."""

import gzip
import http.client
import signal
import socket
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from harness import Exporter, RedisServer, eventually, scrape
from harness.scrape import OPENMETRICS

KEY = "gunicorn:metrics"
PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


class Answer(NamedTuple):
    """One response as it arrived."""

    status: int
    headers: dict[str, str]
    body: bytes


@pytest.fixture
def exporter(redis: RedisServer) -> Iterator[Exporter]:
    """An exporter for that Redis."""
    with Exporter(redis=redis) as running:
        yield running


def ask(exporter: Exporter, path: str, *, method: str = "GET", **headers: str) -> Answer:
    """Sends one request; header names are written with `_`."""
    connection = http.client.HTTPConnection("127.0.0.1", exporter.port, timeout=30)
    try:
        connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
    finally:
        connection.close()


def declare_some(redis: RedisServer) -> None:
    """Declares a family of each type."""
    redis.execute("METRICS.DECLARE", KEY, "jobs", "COUNTER", "HELP", "Jobs\nof all \\kinds")
    redis.execute("METRICS.INC", KEY, "jobs", "BY", 3, "LABELS", 1, "queue", 'a "b"\\\n')
    redis.execute("METRICS.SET", KEY, "temperature", "-2.5")
    redis.execute("METRICS.OBSERVE", KEY, "wait_seconds", "0.3", "LABELS", 1, "queue", "mail")


def fill(redis: RedisServer, *, series: int, label_bytes: int) -> None:
    """Makes a registry that is far larger than a page."""
    padding = "x" * label_bytes
    pipeline = redis.client.pipeline(transaction=False)
    for number in range(series):
        pipeline.execute_command("METRICS.INC", KEY, "big", "LABELS", 1, "number", f"{number}{padding}")  # type: ignore[no-untyped-call]
    pipeline.execute()


def exposed(redis: RedisServer, form: str) -> str:
    """Returns the registry as Redis renders it: all pages, joined."""
    cursor, pages = "0", ""
    while True:
        reply = redis.execute("METRICS.EXPOSE", KEY, "FORMAT", form, "CURSOR", cursor)
        assert isinstance(reply, list)
        cursor, pages = str(reply[0]), pages + str(reply[1])
        if cursor == "0":
            return pages


def registry_info(redis: RedisServer) -> str:
    """Returns the lines that name the shared registry."""
    facts = redis.execute("METRICS.INFO", KEY)
    assert isinstance(facts, dict)
    name = "gunicorn_exporter_registry_info"
    return (
        f"# HELP {name} The shared registry that this page comes from\n# TYPE {name} gauge\n"
        f'{name}{{registry="{facts["epoch"]}"}} 1\n'
    )


@pytest.mark.parametrize(
    ("accept", "form", "content_type"),
    [
        (None, "TEXT", "text/plain; version=0.0.4; charset=utf-8"),
        ("text/plain", "TEXT", "text/plain; version=0.0.4; charset=utf-8"),
        (PROMETHEUS_2, "OPENMETRICS", f"{OPENMETRICS}; charset=utf-8; escaping=underscores"),
        (PROMETHEUS_3, "OPENMETRICS", f"{OPENMETRICS}; charset=utf-8; escaping=allow-utf-8"),
    ],
)
def test_the_page_is_what_redis_renders(
    redis: RedisServer, exporter: Exporter, accept: str | None, form: str, content_type: str
) -> None:
    declare_some(redis)
    answer = ask(exporter, "/metrics", **({"Accept": accept} if accept else {}))
    assert (answer.status, answer.headers["content-type"]) == (200, content_type)
    assert answer.body.decode() == registry_info(redis) + exposed(redis, form)
    page = scrape(exporter.metrics_url, accept=accept)
    assert page.value("jobs_total", queue='a "b"\\\n') == 3
    assert page.value("temperature") == -2.5
    assert page.value("wait_seconds_bucket", le="0.5") == 1


def test_a_large_registry_is_streamed_whole(redis: RedisServer, exporter: Exporter) -> None:
    fill(redis, series=5_000, label_bytes=500)
    answer = ask(exporter, "/metrics")
    assert answer.headers["transfer-encoding"] == "chunked"
    assert answer.body.decode() == registry_info(redis) + exposed(redis, "TEXT")


def test_an_old_client_gets_a_page_of_known_length(redis: RedisServer, exporter: Exporter) -> None:
    """Without a length, an HTTP/1.0 client takes every end of the connection for the end of the page."""
    fill(redis, series=2_000, label_bytes=500)
    with socket.create_connection(("127.0.0.1", exporter.port), timeout=30) as client:
        client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        response = http.client.HTTPResponse(client)
        response.begin()
        assert response.length == len(response.read())


def test_pages_are_gzip_only_for_clients_that_ask_for_it(redis: RedisServer, exporter: Exporter) -> None:
    fill(redis, series=2_000, label_bytes=100)
    plain = ask(exporter, "/metrics", Accept_Encoding="gzip;q=0, identity")
    assert "content-encoding" not in plain.headers
    compressed = ask(exporter, "/metrics", Accept_Encoding="gzip")
    assert compressed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(compressed.body) == plain.body
    assert len(compressed.body) < len(plain.body) / 5


def test_name_parameters_select_families(redis: RedisServer, exporter: Exporter) -> None:
    declare_some(redis)
    page = scrape(f"{exporter.metrics_url}?name[]=wait_seconds_count&name%5B%5D=temperature")
    assert set(page.families) == {"wait_seconds", "temperature"}


def test_a_missing_registry_differs_from_an_empty_one(redis: RedisServer, exporter: Exporter) -> None:
    page = scrape(exporter.metrics_url, accept=OPENMETRICS)
    assert page.value("gunicorn_exporter_registry_missing", key=KEY) == 1
    assert "exporter.redis.key_prefix" in page.body
    assert redis.execute("EXISTS", KEY) == 0
    declare_some(redis)
    for family in ("jobs", "temperature", "wait_seconds"):
        redis.execute("METRICS.DEL", KEY, family)
    answer = ask(exporter, "/metrics")
    assert (answer.status, answer.body.decode()) == (200, registry_info(redis))


NO_HOSTS = [
    b"",
    b"   ",
    b"a b",
    b"a\tb",
    b"user@x",
    b"user:secret@x",
    b"x/metrics",
    b"http://x",
    b"x:http",
    b"x:65536",
    b":9091",
    b"::1",
    b"[::1",
    b"[fe80::1%25eth0]",
    b"x\x01",
    b"x\x7f",
    b"x\xff",
    b"%zz",
    b"x, y",
]


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /healthz HTTP/1.1\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\nHost: y\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\nHost: x\r\n", 400),
        (b"GET http://u:p@x/healthz HTTP/1.1\r\nHost: x\r\n", 400),
        *((b"GET /healthz HTTP/1.1\r\nHost: " + host + b"\r\n", 400) for host in NO_HOSTS),
        *((b"GET /healthz HTTP/1.0\r\nHost: " + host + b"\r\n", 400) for host in NO_HOSTS),
        (b"GET /healthz HTTP/1.0\r\nHost: x\r\nHost: y\r\n", 400),
        (b"GET /healthz HTTP/1.0\r\n", 200),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\n", 200),
        (b"GET /healthz HTTP/1.1\r\nhost:   metrics_1.internal.:9091  \r\n", 200),
        (b"GET /healthz HTTP/1.1\r\nHost: 10.0.0.7:9091\r\n", 200),
        (b"GET /healthz HTTP/1.1\r\nHost: [2001:db8::7]:9091\r\n", 200),
        (b"GET http://y:9091/healthz HTTP/1.1\r\nHost: x\r\n", 200),
    ],
)
def test_a_request_names_one_host_by_rfc_9112(exporter: Exporter, head: bytes, status: int) -> None:
    with socket.create_connection(("127.0.0.1", exporter.port), timeout=30) as client:
        client.sendall(head + b"\r\n")
        assert client.recv(1_000).split()[1] == str(status).encode(), head


def test_the_answer_to_a_wrong_host_names_it(exporter: Exporter) -> None:
    with socket.create_connection(("127.0.0.1", exporter.port), timeout=30) as client:
        client.sendall(b"GET /metrics HTTP/1.1\r\nHost: user@x\r\nConnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: client.recv(1_000), b""))
    assert answer.endswith(b'the host "user@x" is wrong, expected a name or an address, and perhaps a port\n')


def test_each_path_answers_and_allows_only_reading_methods(redis: RedisServer, exporter: Exporter) -> None:
    declare_some(redis)
    whole = ask(exporter, "/metrics")
    head = ask(exporter, "/metrics", method="HEAD")
    assert (head.status, head.body) == (200, b"")
    for header in ("content-type", "content-length"):
        assert head.headers[header] == whole.headers[header]
    options = ask(exporter, "/metrics", method="OPTIONS")
    assert (options.status, options.headers["allow"]) == (204, "GET, HEAD, OPTIONS")
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        refused = ask(exporter, "/metrics", method=method)
        assert (refused.status, refused.headers["allow"]) == (405, "GET, HEAD, OPTIONS")
        assert refused.body == f"{method} is not allowed here: GET, HEAD, OPTIONS\n".encode()
    for path in ("/favicon.ico", "/metrics/", "/metric"):
        missing = ask(exporter, path)
        assert (missing.status, missing.body) == (404, b"not found: the metrics are at /metrics\n")
    assert ask(exporter, "/metrics/instance").status == 404
    for path in ("/healthz", "/-/healthy", "/readyz", "/-/ready"):
        assert ask(exporter, path).status == 200


def test_one_connection_serves_many_scrapes(redis: RedisServer, exporter: Exporter) -> None:
    declare_some(redis)
    connection = http.client.HTTPConnection("127.0.0.1", exporter.port, timeout=30)
    try:
        connection.connect()
        first = connection.sock
        for _ in range(3):
            connection.request("GET", "/metrics")
            assert connection.getresponse().read().endswith(b'wait_seconds_count{queue="mail"} 1\n')
            assert connection.sock is first
    finally:
        connection.close()


def test_its_own_metrics_count_scrapes(redis: RedisServer, exporter: Exporter) -> None:
    declare_some(redis)
    for _ in range(2):
        ask(exporter, "/metrics")
    page = scrape(f"{exporter.url}/-/metrics")
    assert page.value("gunicorn_exporter_scrapes_total", path="/metrics", result="complete") == 2
    assert page.value("gunicorn_exporter_scrape_duration_seconds_count") == 2
    assert page.value("gunicorn_exporter_listening") == 1


def test_at_sigterm_the_exporter_finishes_the_page_in_progress(redis: RedisServer, exporter: Exporter) -> None:
    fill(redis, series=5_000, label_bytes=4_000)
    expected = (registry_info(redis) + exposed(redis, "TEXT")).encode()
    with socket.create_connection(("127.0.0.1", exporter.port), timeout=30) as client:
        client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        response = http.client.HTTPResponse(client)
        response.begin()
        first = response.read(1_000)
        exporter.send(signal.SIGTERM)
        eventually(lambda: "SIGTERM" in exporter.log)
        eventually(lambda: refuses(exporter.port))
        assert first + response.read() == expected
    assert exporter.process is not None
    assert exporter.process.wait(15) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_exporter_ends_at_once(exporter: Exporter, number: signal.Signals) -> None:
    with socket.create_connection(("127.0.0.1", exporter.port), timeout=30) as idle:
        idle.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert idle.recv(1_000).startswith(b"HTTP/1.1 200 ")
        exporter.send(number)
        assert exporter.process is not None
        assert exporter.process.wait(5) == 0


def refuses(port: int) -> bool:
    """Whether no process listens there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0
