"""Cost of a scrape over HTTP, beside the same pages read directly from Redis, and beside prometheus_client."""

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import redis

from bench import peers
from bench.many import LABEL_SETS
from bench.redis_commands import KEY, Pipe, Writer
from bench.requests import cpu_ns
from bench.table import Row, median, nanoseconds
from harness import Exporter, Gunicorn, RedisServer, eventually, scrape
from harness.process import Guard

ROOT = Path(__file__).resolve().parents[1]
PREFIX = KEY.removesuffix(":metrics")
PROCESSES = 64
DEAD = 500
ENDPOINTS = 5_000


def measure(quick: bool) -> list[Row]:
    """Measures every `/metrics` row of the budgets."""
    rows = []
    for series in (100_000,) if quick else (100_000, 1_000_000):
        rows += _shared(series, rounds=5 if quick else 20 if series <= 100_000 else 5)
    rows += _processes(rounds=3 if quick else 15)
    rows += _endpoints(rounds=3 if quick else 15)
    rows.append(_failed_endpoints(500 if quick else ENDPOINTS, rounds=3 if quick else 9))
    return rows


def _shared(series: int, *, rounds: int) -> list[Row]:
    """Measures the exporter's page of a registry in Redis, beside paged EXPOSE."""
    environment = {"REDIS_KEY_PREFIX": PREFIX}
    with RedisServer() as server, Exporter(redis=server, environment=environment) as exporter:
        client, pipe = redis.Redis(unix_socket_path=str(server.socket)), Pipe(server)
        Writer(client, pipe).define(series)
        client.close()
        pipe.close()
        direct, http_, own_cpu = [], [], []
        with Pages(server) as pages, Page(exporter.port) as page:
            idle = _resident(exporter)
            highest = idle
            for _ in range(rounds):
                direct.append(_timed(pages.read))
                cpu = cpu_ns(exporter.pid)
                http_.append(_timed(page.read))
                own_cpu.append(cpu_ns(exporter.pid) - cpu)
                highest = max(highest, _resident(exporter, peak=True))
        ratio = median([ours / theirs for ours, theirs in zip(http_, direct, strict=True)])
        size = f"{series:,} series"
        return [
            Row(
                f"/metrics over HTTP, {size}",
                f"{nanoseconds(median(http_).value)}, {nanoseconds(median(own_cpu).value)} CPU",
                f"paged EXPOSE {nanoseconds(median(direct).value)}: {ratio} ×",
                "≤ 1.5 ×",
            ),
            Row(
                f"exporter's memory during it, {size}",
                f"{(highest - idle) / 2**20:.1f} MiB more",
                f"idle {idle / 2**20:.1f} MiB",
                "≤ 16 MiB",
            ),
        ]


def _processes(*, rounds: int) -> list[Row]:
    """Measures 64 processes, each with 200 label sets of a counter and a histogram; then also as many dead ones."""
    theirs = _their_collector(PROCESSES, LABEL_SETS, rounds)
    theirs_after = _their_collector(PROCESSES + DEAD, LABEL_SETS, max(3, rounds // 5))
    with _many(workers=PROCESSES) as gunicorn, Page(gunicorn.metrics_port) as page:
        ours = [_timed(page.read) for _ in range(rounds)]
        dead = 0
        while dead < DEAD:
            generation = gunicorn.worker_pids()
            for pid in generation:
                gunicorn.kill_worker(pid)
            dead += len(generation)
            eventually(lambda: _has_counted(gunicorn, PROCESSES + dead), within=120)
        ours_after = [_timed(page.read) for _ in range(rounds)]
    of = f"{PROCESSES} processes × {LABEL_SETS} × (counter + 15 buckets)"
    return [
        Row(f"/metrics, {of}", nanoseconds(median(ours).value), _peer(theirs), "≤ 10 ms"),
        Row(
            f"the same, {DEAD} workers have died",
            nanoseconds(median(ours_after).value),
            _peer(theirs_after),
            "as with none dead",
        ),
    ]


def _many(workers: int) -> Gunicorn:
    config = "def post_worker_init(worker):\n    from bench import many\n    many.work()\n"
    return Gunicorn(
        "bench.hello:app",
        workers=workers,
        config=config,
        app_directory=ROOT,
        arguments=["--preload", "--timeout=300"],
    )


def _has_counted(gunicorn: Gunicorn, processes: int) -> None:
    counted = scrape(gunicorn.metrics_url, timeout=60).sum("bench_work_total")
    assert counted == processes * LABEL_SETS, counted


def _their_collector(processes: int, label_sets: int, rounds: int) -> list[float]:
    """Returns nanoseconds of prometheus_client's collector on the files that this number of processes has left."""
    with tempfile.TemporaryDirectory() as directory:
        words = [sys.executable, "-m", "bench.many", str(processes), str(label_sets), str(rounds)]
        environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": directory}
        done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    figures: list[float] = json.loads(done.stdout)
    return figures


def _peer(figures: list[float]) -> str:
    return f"prometheus_client's collector {nanoseconds(median(figures).value)}"


def _endpoints(*, rounds: int) -> list[Row]:
    """Requests this number of routes; prometheus_client keeps a counter and a histogram for each."""
    theirs = _their_collector(1, ENDPOINTS, rounds)
    with Gunicorn("bench.routes:app", app_directory=ROOT) as gunicorn:
        _ask_each(gunicorn, ENDPOINTS)
        found = scrape(gunicorn.metrics_url, timeout=60)
        endpoints = len(found.values_of("endpoint", "gunicorn_http_requests_total"))
        with Page(gunicorn.metrics_port) as page:
            ours = [_timed(page.read) for _ in range(rounds)]
    return [
        Row(
            f"/metrics with {endpoints:,} endpoints",
            nanoseconds(median(ours).value),
            f"{len(found.all_samples):,} samples; {_peer(theirs)}, {ENDPOINTS:,} × (counter + 15 buckets)",
            "≤ 20 ms",
        )
    ]


def _failed_endpoints(endpoints: int, *, rounds: int) -> Row:
    """The same beside the original package, which records only routes that fail."""
    with Gunicorn("bench.routes:failing", app_directory=ROOT) as gunicorn:
        _ask_each(gunicorn, endpoints)
        samples = len(scrape(gunicorn.metrics_url, timeout=60).all_samples)
        with Page(gunicorn.metrics_port) as page:
            ours = [_timed(page.read) for _ in range(rounds)]
    with peers.original("sync", app="failing:app") as gunicorn:
        files, _ = _original_page(gunicorn, endpoints, rounds)
    with RedisServer(tcp=True, module=None) as server, peers.original("sync", server, app="failing:app") as gunicorn:
        with_redis, lines = _original_page(gunicorn, endpoints, rounds=3)
    beside = f"its files {nanoseconds(median(files).value)}, with Redis {nanoseconds(median(with_redis).value)}"
    return Row(
        f"/metrics, {endpoints:,} endpoints have failed",
        nanoseconds(median(ours).value),
        f"{samples:,} samples; original package with {lines:,}: {beside}",
        "",
    )


def _original_page(gunicorn: Gunicorn, endpoints: int, rounds: int) -> tuple[list[float], int]:
    """Returns nanoseconds of each scrape, and the number of samples of the page."""
    _ask_each(gunicorn, endpoints)
    took, body = [], b""
    for _ in range(rounds):
        begin = time.perf_counter_ns()
        with urllib.request.urlopen(gunicorn.metrics_url, timeout=120) as page:
            body = page.read()
        took.append(float(time.perf_counter_ns() - begin))
    # No parser accepts this page: some of its families appear twice.
    return took, sum(not line.startswith(b"#") for line in body.splitlines())


def _ask_each(gunicorn: Gunicorn, endpoints: int) -> None:
    for number in range(endpoints):
        gunicorn.get(f"/path/{number}")


class Pages:
    """Reads all pages of a registry from Redis, as cheaply as Python can."""

    def __init__(self, server: RedisServer) -> None:
        """Connects to the server's unix socket."""
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(60)
        self._socket.connect(str(server.socket))
        self._buffer = bytearray(4 << 20)

    def read(self) -> None:
        """Reads from the first page to the last."""
        cursor = b"0"
        while True:
            words = (b"METRICS.EXPOSE", KEY.encode(), b"CURSOR", cursor)
            self._socket.sendall(b"*4\r\n" + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words))
            cursor = self._page()
            if cursor == b"0":
                return

    def _page(self) -> bytes:
        received, view = 0, memoryview(self._buffer)
        whole, cursor = None, b""
        while whole is None or received < whole:
            got = self._socket.recv_into(view[received:])
            assert got, "the server has closed the connection"
            received += got
            if whole is None:
                head = bytes(view[: min(received, 4_096)]).split(b"\r\n", 4)
                if len(head) == 5:
                    assert head[0] == b"*2", head[0]
                    cursor = head[2]
                    whole = sum(len(line) + 2 for line in head[:4]) + int(head[3][1:]) + 2
        return cursor

    def __enter__(self) -> "Pages":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()


class Page:
    """Reads /metrics again and again over one connection, as cheaply as Python can."""

    def __init__(self, port: int) -> None:
        """Connects."""
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self._buffer = bytearray(1 << 20)

    def read(self) -> None:
        """Reads one response to its end."""
        self._socket.sendall(b"GET /metrics HTTP/1.1\r\nHost: bench\r\n\r\n")
        head, view = b"", memoryview(self._buffer)
        while b"\r\n\r\n" not in head:
            part = self._socket.recv(1 << 20)
            assert part, "the exporter has closed the connection"
            head += part
        head, _, body = head.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 "), head
        length = re.search(rb"content-length: (\d+)", head)
        if length:
            missing = int(length[1]) - len(body)
            while missing > 0:
                missing -= self._receive(view)
            return
        end = body[-5:]
        while end != b"0\r\n\r\n":
            got = self._receive(view)
            end = (end + bytes(view[max(0, got - 5) : got]))[-5:]

    def _receive(self, view: memoryview) -> int:
        got = self._socket.recv_into(view)
        assert got, "the exporter has closed the connection"
        return got

    def __enter__(self) -> "Page":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()


def _timed(work: Callable[[], None]) -> float:
    begin = time.perf_counter_ns()
    work()
    return time.perf_counter_ns() - begin


def _resident(exporter: Guard, *, peak: bool = False) -> int:
    """Returns the resident bytes of the exporter, at their peak or now."""
    field = "VmHWM:" if peak else "VmRSS:"
    status = Path(f"/proc/{exporter.pid}/status").read_text().split()
    return int(status[status.index(field) + 1]) * 1_024
