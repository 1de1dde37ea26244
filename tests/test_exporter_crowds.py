"""Many scrapes at once, and clients that are slow, silent or hostile: none of them harms another."""

import contextlib
import http.client
import resource
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_exporter_standalone import ask, declare_some, exposed, fill, registry_info

from harness import Exporter, RedisServer, eventually, scrape

CROWD = 10_000
PLACES = 512


@pytest.fixture
def exporter(redis: RedisServer) -> Iterator[Exporter]:
    """An exporter for that Redis."""
    with Exporter(redis=redis) as running:
        yield running


def calls(redis: RedisServer, command: str) -> int:
    """Returns how often a command was called."""
    found = redis.execute("INFO", "commandstats")
    assert isinstance(found, dict)
    lowered = {name.lower(): stats for name, stats in found.items()}
    return int(lowered.get(f"cmdstat_{command.lower()}", {"calls": 0})["calls"])


def opened(exporter: Exporter, request: bytes = b"") -> socket.socket:
    """Returns a connection on which the request was sent."""
    client = socket.create_connection(("127.0.0.1", exporter.port), timeout=30)
    client.sendall(request)
    return client


def whole(client: socket.socket) -> bytes:
    """Returns the body of one response."""
    response = http.client.HTTPResponse(client)
    response.begin()
    assert response.status == 200
    return response.read()


def resident_bytes(exporter: Exporter) -> int:
    """Returns the resident memory of the exporter's process."""
    pages = int(Path(f"/proc/{exporter.pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize()


GET = b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


def test_scrapes_that_come_together_are_rendered_once(redis: RedisServer, exporter: Exporter) -> None:
    fill(redis, series=4_000, label_bytes=500)
    expected = (registry_info(redis) + exposed(redis, "TEXT")).encode()
    before = calls(redis, "METRICS.EXPOSE")
    assert ask(exporter, "/metrics").body == expected
    pages = calls(redis, "METRICS.EXPOSE") - before
    assert pages > 5
    # Redis pauses, so that all requests arrive before the first page is rendered.
    redis.execute("CLIENT", "PAUSE", 1_000)
    clients = [opened(exporter, GET) for _ in range(8)]
    try:
        assert [whole(client) for client in clients] == [expected] * 8
    finally:
        for client in clients:
            client.close()
    assert calls(redis, "METRICS.EXPOSE") - before == 2 * pages


def test_a_slow_scraper_does_not_slow_the_others_down(redis: RedisServer, exporter: Exporter) -> None:
    """The slow scraper falls behind, continues alone, and gets the same page in the end."""
    fill(redis, series=8_000, label_bytes=4_000)
    expected = (registry_info(redis) + exposed(redis, "TEXT")).encode()
    redis.execute("CLIENT", "PAUSE", 1_000)
    with opened(exporter, GET) as slow, opened(exporter, GET) as fast:
        assert whole(fast) == expected
        assert whole(slow) == expected


def test_memory_is_flat_however_large_the_registry(redis: RedisServer, exporter: Exporter) -> None:
    declare_some(redis)
    for encoding in ("identity", "gzip", "zstd"):
        ask(exporter, "/metrics", Accept_Encoding=encoding)
    idle = resident_bytes(exporter)
    fill(redis, series=20_000, label_bytes=4_000)
    highest = idle
    for encoding in ("identity", "gzip", "zstd"):
        with opened(exporter, GET.replace(b"Host", b"Accept-Encoding: " + encoding.encode() + b"\r\nHost")) as client:
            while client.recv(1_000_000):
                highest = max(highest, resident_bytes(exporter))
    assert highest - idle <= 16 * 1024 * 1024


def test_memory_is_flat_for_old_clients_too(redis: RedisServer, exporter: Exporter) -> None:
    """Forty clients request 20 MB by HTTP/1.0, and read nothing; then one reads everything."""
    declare_some(redis)
    ask(exporter, "/metrics")
    idle = resident_bytes(exporter)
    fill(redis, series=5_000, label_bytes=4_000)
    expected = (registry_info(redis) + exposed(redis, "TEXT")).encode()
    request = b"GET /metrics HTTP/1.0\r\n\r\n"
    with contextlib.ExitStack() as crowd:
        for _ in range(40):
            crowd.enter_context(opened(exporter, request))
        with opened(exporter, request) as reader:
            highest = idle
            page = b""
            while part := reader.recv(1_000_000):
                page += part
                highest = max(highest, resident_bytes(exporter))
        assert page.partition(b"\r\n\r\n")[2] == expected
        assert highest - idle <= 64 * 1024 * 1024


def test_an_old_client_can_tell_that_its_page_was_cut_off(redis: RedisServer, exporter: Exporter) -> None:
    fill(redis, series=5_000, label_bytes=4_000)
    with opened(exporter, b"GET /metrics HTTP/1.0\r\n\r\n") as client:
        assert client.recv(1_000).startswith(b"HTTP/1.0 200 ")
        exporter.send(signal.SIGKILL)
        with pytest.raises(ConnectionResetError):
            all(client.recv(1_000_000) for _ in range(1_000))


def test_a_zstd_page_has_the_same_content(redis: RedisServer, exporter: Exporter) -> None:
    fill(redis, series=2_000, label_bytes=100)
    plain = ask(exporter, "/metrics")
    compressed = ask(exporter, "/metrics", Accept_Encoding="gzip;q=0.5, zstd")
    assert compressed.headers["content-encoding"] == "zstd"
    assert len(compressed.body) < len(plain.body) / 5
    done = subprocess.run(["zstd", "-d"], input=compressed.body, capture_output=True, check=True)
    assert done.stdout == plain.body


def test_ten_thousand_silent_connections_do_not_keep_a_scraper_out(redis: RedisServer, exporter: Exporter) -> None:
    """They replace each other: the exporter has 512 places."""
    declare_some(redis)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, CROWD + 1_000), hard))
    with contextlib.ExitStack() as crowd:
        for number in range(min(CROWD, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 500)):
            # Some send nothing, some begin a request, some have requested a page and do not read it.
            request = (b"", b"GET /metrics HTTP/1.1\r\nX-", b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")[number % 3]
            client = crowd.enter_context(socket.socket())
            client.settimeout(30)
            client.connect(("127.0.0.1", exporter.port))
            with contextlib.suppress(ConnectionError):
                client.sendall(request)
            if number % 1_000 == 999:
                assert scrape(exporter.metrics_url).value("temperature") == -2.5
        own = scrape(f"{exporter.url}/-/metrics")
        assert own.value("gunicorn_exporter_connections") <= PLACES
        assert own.value("gunicorn_exporter_connections_evicted_total") > 0
        assert ask(exporter, "/healthz").status == 200
    eventually(lambda: scrape(f"{exporter.url}/-/metrics").value("gunicorn_exporter_connections") < 10)


def test_a_page_that_no_client_reads_is_not_rendered_to_its_end(redis: RedisServer, exporter: Exporter) -> None:
    fill(redis, series=20_000, label_bytes=4_000)
    before = calls(redis, "METRICS.EXPOSE")
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        client.connect(("127.0.0.1", exporter.port))
        client.sendall(GET)
        eventually(lambda: calls(redis, "METRICS.EXPOSE") > before)
        declare_some(redis)
        assert scrape(f"{exporter.metrics_url}?name[]=temperature").value("temperature") == -2.5
        assert calls(redis, "METRICS.EXPOSE") - before < 1_000


@pytest.mark.parametrize(
    "request_text",
    [
        b"GET /metrics HTTP/1.1\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
        b"GET /" + b"m" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\n" + b"X: y\r\n" * 10_000 + b"\r\n",
    ],
    ids=["a long header", "a long path", "many headers"],
)
def test_a_huge_head_is_refused_and_not_kept(exporter: Exporter, request_text: bytes) -> None:
    with opened(exporter) as client:
        with contextlib.suppress(ConnectionError):
            client.sendall(request_text)
        answer = b""
        with contextlib.suppress(ConnectionError):
            answer = client.recv(10_000)
        assert answer == b"" or answer.split()[1] in (b"431", b"414", b"400")
    assert ask(exporter, "/healthz").status == 200


@pytest.mark.parametrize(
    "request_text",
    [b"\x00\xff\xfe\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET /metrics HTTP/1.1\r\nbroken\r\n\r\n"],
)
def test_bytes_that_are_no_request_end_the_connection(exporter: Exporter, request_text: bytes) -> None:
    with opened(exporter, request_text) as client:
        answer = b""
        with contextlib.suppress(ConnectionError):
            while part := client.recv(10_000):
                answer += part
        assert answer == b"" or answer.startswith((b"HTTP/1.1 400", b"HTTP/1.0 400"))
    assert ask(exporter, "/healthz").status == 200


def test_a_body_is_not_read(exporter: Exporter) -> None:
    with opened(exporter, b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n") as client:
        assert client.recv(10_000).startswith(b"HTTP/1.1 405 ")


def test_a_client_that_closes_its_half_gets_its_page(redis: RedisServer, exporter: Exporter) -> None:
    declare_some(redis)
    with opened(exporter, GET) as client:
        client.shutdown(socket.SHUT_WR)
        assert b"\ntemperature -2.5\n" in whole(client)


def test_a_hundred_scrapers_at_once_all_get_the_page(redis: RedisServer, exporter: Exporter) -> None:
    fill(redis, series=1_000, label_bytes=100)
    expected = ask(exporter, "/metrics").body
    pages: list[bytes] = []

    def ask_often() -> None:
        for _ in range(5):
            pages.append(ask(exporter, "/metrics").body)

    threads = [threading.Thread(target=ask_often) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert pages == [expected] * 100


def test_the_deadline_cuts_a_page_off_that_is_read_too_slowly(redis: RedisServer, exporter: Exporter) -> None:
    fill(redis, series=8_000, label_bytes=4_000)
    request = GET.replace(b"Host", b"X-Prometheus-Scrape-Timeout-Seconds: 0.5\r\nHost")
    with opened(exporter, request) as client:
        response = http.client.HTTPResponse(client)
        response.begin()
        response.read(1_000)
        time.sleep(1)
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            response.read()
    eventually(lambda: "was broken off: the deadline of the scrape has passed" in exporter.log)
