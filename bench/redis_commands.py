"""Cost of PUSH and EXPOSE in Redis, beside its own commands in the same run, on one connection."""

import socket
import time
from collections.abc import Callable, Sequence
from typing import Any

import redis

from bench.batch import MOST_ENTRIES, batch, full_state, update
from bench.requests import cpu_ns
from bench.table import Row, median, nanoseconds
from harness import RedisServer
from harness.batch import INCREMENTAL

KEY = "bench:metrics"
WRITER = "bench"
PIPELINED = 20_000


class Side:
    """Work that is done in rounds; each round is a number of units, and the cost of one unit is kept."""

    def __init__(self, command: str, units: int, work: Callable[[], Callable[[], object]]) -> None:
        """`command` is the name in INFO commandstats. `work` prepares a round and returns the function to measure."""
        self.command, self.units, self.work = command, units, work
        self.in_command: list[float] = []
        self.server: list[float] = []
        self.client: list[float] = []

    def round(self, server: RedisServer) -> None:
        """Runs one round; keeps nanoseconds per unit: in the command, of the server's CPU, and of the wall clock."""
        prepared = self.work()
        usec, cpu, begin = server.stats(self.command)["usec"], cpu_ns(server.pid), time.perf_counter_ns()
        prepared()
        end = time.perf_counter_ns()
        self.client.append((end - begin) / self.units)
        self.server.append((cpu_ns(server.pid) - cpu) / self.units)
        self.in_command.append((server.stats(self.command)["usec"] - usec) * 1e3 / self.units)


def measure(quick: bool) -> list[Row]:
    """Measures ten thousand series, a hundred thousand and a million."""
    rows = []
    for series, rounds in ((10_000, 5),) if quick else ((10_000, 30), (100_000, 30), (1_000_000, 7)):
        with RedisServer() as server:
            rows += _measure(server, series, rounds)
    return rows


def _measure(server: RedisServer, series: int, rounds: int) -> list[Row]:
    client = redis.Redis(unix_socket_path=str(server.socket), socket_timeout=60)
    pipe = Pipe(server)
    writer = Writer(client, pipe)
    writer.define(series)
    pages = expose_pages(client)
    samples = sum(page.count(b"\nbench_requests_total{") + page.startswith(b"bench_") for page in pages)
    for number, page in enumerate(pages):
        client.set(f"page:{number}", page)

    starts = [first * MOST_ENTRIES % (series - MOST_ENTRIES) for first in range(max(4, series // MOST_ENTRIES))]
    push = Side("metrics.push", len(starts) * MOST_ENTRIES, lambda: writer.update(starts))
    incr = Side(
        "incr", PIPELINED, lambda: pipe.prepare([("INCR", f"counter:{n % 10_000}") for n in range(PIPELINED)], 1)
    )
    adds = [("HINCRBYFLOAT", "hash", f"field:{n % 10_000}", "1.5") for n in range(PIPELINED)]
    hincr = Side("hincrbyfloat", PIPELINED, lambda: pipe.prepare(adds, 2))
    expose = Side("metrics.expose", samples, lambda: lambda: expose_pages(client))
    protobuf = Side("metrics.expose", samples, lambda: lambda: expose_pages(client, "FORMAT", "PROTOBUF"))
    get = Side("get", samples, lambda: lambda: [client.get(f"page:{number}") for number in range(len(pages))])
    for _ in range(rounds):
        for side in (push, incr, hincr, expose, protobuf, get):
            side.round(server)
    longest = _longest_call(client, expose.command)
    client.close()
    pipe.close()

    def cost(side: Side) -> str:
        return f"{nanoseconds(median(side.in_command).value)} in command, {nanoseconds(median(side.server).value)} CPU"

    def speed(side: Side) -> str:
        return f"{median([theirs / ours for theirs, ours in zip(side.client, push.client, strict=True)])} ×"

    size = f"{series:,} series"
    push_budget = {10_000: "≤ 12 ns", 100_000: "≤ 12 ns", 1_000_000: "≤ 13 ns"}[series]
    expose_budget = {10_000: "≤ 20 ns", 100_000: "≤ 25 ns", 1_000_000: "≤ 30 ns"}[series]
    return [
        Row(f"PUSH per update, {size}", cost(push), f"INCR {cost(incr)}", push_budget),
        Row("", "", f"HINCRBYFLOAT {cost(hincr)}", ""),
        Row(f"PUSH ÷ INCR, updates a second, {size}", speed(incr), "pipelined, one connection", "≥ 25 ×"),
        Row(f"PUSH ÷ HINCRBYFLOAT, {size}", speed(hincr), "pipelined, one connection", "≥ 60 ×"),
        Row(f"EXPOSE per sample, {size}", cost(expose), f"GET of the same pages {cost(get)}", expose_budget),
        Row(f"EXPOSE as protobuf, {size}", cost(protobuf), f"as text {cost(expose)}", "≤ 2 × text"),
        Row(
            f"EXPOSE at the client, {size}",
            nanoseconds(median(expose.client).value * samples),
            f"GET {nanoseconds(median(get.client).value * samples)}, {len(pages)} pages",
            "",
        ),
        Row(f"longest call of EXPOSE, {size}", nanoseconds(longest), f"of {rounds * len(pages):,}", "≤ 0.5 ms"),
    ]


def _longest_call(client: Any, command: str) -> float:
    """Returns nanoseconds, as the server reports them."""
    client.config_set("latency-tracking-info-percentiles", "100")
    every = {name.lower(): found for name, found in client.info("latencystats").items()}
    found = every[f"latency_percentiles_usec_{command}"]
    return float(found["p100"] if isinstance(found, dict) else found.partition("=")[2]) * 1e3


class Pipe:
    """A connection that sends many commands at once and only counts the answers, so that the client costs little."""

    def __init__(self, server: RedisServer) -> None:
        """Connects to the server's unix socket."""
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(60)
        self._socket.connect(str(server.socket))

    def prepare(self, commands: Sequence[tuple[str | bytes, ...]], lines: int) -> Callable[[], None]:
        """Encodes the commands; each answer has this number of lines, and none may be an error."""
        request = b"".join(map(_encode, commands))
        return lambda: self._exchange(request, lines * len(commands))

    def close(self) -> None:
        """Ends the connection."""
        self._socket.close()

    def _exchange(self, request: bytes, lines: int) -> None:
        self._socket.sendall(request)
        while lines > 0:
            reply = self._socket.recv(1 << 20)
            assert reply, "the server has closed the connection"
            assert b"-" not in reply, reply[:200]
            lines -= reply.count(b"\n")


class Writer:
    """One writer of PUSH, whose batches are never lost."""

    def __init__(self, client: Any, pipe: Pipe) -> None:
        """Asks for the registry's epoch, as a new writer does."""
        self.pipe, self.seq, self.value = pipe, 0, 1.0
        status, self.epoch, *_ = client.execute_command("METRICS.PUSH", KEY, WRITER, 1, batch(INCREMENTAL, 0))
        assert status == b"RESYNC", status

    def define(self, series: int) -> None:
        """Sends the full state."""
        self._push(list(full_state("bench_requests", series)))()

    def update(self, starts: list[int]) -> Callable[[], None]:
        """Prepares one batch of new values for each start index."""
        self.value += 1
        return self._push([update(first, self.value) for first in starts])

    def _push(self, batches: list[bytes]) -> Callable[[], None]:
        commands = []
        for data in batches:
            self.seq += 1
            commands.append(("METRICS.PUSH", KEY, WRITER, str(self.seq), data, "EPOCH", self.epoch))
        return self.pipe.prepare(commands, 7)  # an array of two strings and two numbers


def expose_pages(client: Any, *options: str) -> list[bytes]:
    pages, cursor = [], b"0"
    while True:
        cursor, page = client.execute_command("METRICS.EXPOSE", KEY, *options, "CURSOR", cursor)
        pages.append(page)
        if cursor == b"0":
            return pages


def _encode(words: tuple[str | bytes, ...]) -> bytes:
    encoded = [word if isinstance(word, bytes) else word.encode() for word in words]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in encoded)
