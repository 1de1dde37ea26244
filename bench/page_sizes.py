"""Pages of several sizes: how fast a client reads them, and how long the GET of another client waits meanwhile."""

import math
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis

from bench.redis_commands import KEY, Pipe, Writer
from bench.table import Row, median, nanoseconds
from harness import RedisServer

SIZES = (64, 128, 256, 512)
DEFAULT = 256


def measure(quick: bool) -> list[Row]:
    """Returns two rows for each size of a page."""
    series, rounds, gets = (10_000, 3, 500) if quick else (100_000, 15, 10_000)
    rows = []
    with RedisServer() as server:
        client, pipe = redis.Redis(unix_socket_path=str(server.socket)), Pipe(server)
        Writer(client, pipe).define(series)
        client.set("small", "x" * 100)
        for size in SIZES:
            _store(client, size)
        for size in SIZES:
            rows += _size(server, size, rounds, gets)
        client.close()
        pipe.close()
    return rows


def _size(server: RedisServer, kib: int, rounds: int, gets: int) -> list[Row]:
    with Reader(server.socket) as reader:
        ways: dict[str, Callable[[], object]] = {
            "ahead": lambda: reader.pages(kib),
            "one by one": lambda: reader.pages(kib, ahead=False),
            "get": lambda: reader.copies(kib),
        }
        took: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name, read in ways.items():
                begin = time.perf_counter_ns()
                read()
                took[name].append(float(time.perf_counter_ns() - begin))
    throughput = median([get / ours for get, ours in zip(took["get"], took["ahead"], strict=True)])
    waits = {}
    for load in ("none", "get", "pages"):
        with _load(server.socket, load, kib), Reader(server.socket) as reader:
            waits[load] = sorted(reader.wait() for _ in range(gets))
    p99 = {load: found[math.ceil(len(found) * 0.99) - 1] for load, found in waits.items()}
    is_default = kib == DEFAULT
    return [
        Row(
            f"EXPOSE at the client, pages of {kib} KiB",
            f"{nanoseconds(median(took['ahead']).value)}, one by one {nanoseconds(median(took['one by one']).value)}",
            f"GET {nanoseconds(median(took['get']).value)}: throughput {throughput} of it",
            "≤ 6 ms; ≥ 0.85" if is_default else "",
        ),
        Row(
            f"p99 of a GET beside scrapes, pages of {kib} KiB",
            nanoseconds(p99["pages"]),
            f"beside GETs of equal pages {nanoseconds(p99['get'])}, alone {nanoseconds(p99['none'])}",
            f"≤ 1.3 ×: {p99['pages'] / p99['get']:.2f} ×" if is_default else f"{p99['pages'] / p99['get']:.2f} ×",
        ),
    ]


def _store(client: Any, kib: int) -> None:
    """Stores the pages of one size as strings."""
    cursor, number = b"0", 0
    while number == 0 or cursor != b"0":
        cursor, page = client.execute_command("METRICS.EXPOSE", KEY, "CURSOR", cursor, "BYTES", kib * 1024)
        client.set(f"page:{kib}:{number}", page)
        number += 1
    client.set(f"pages:{kib}", number)


@contextmanager
def _load(path: Path, what: str, kib: int) -> Iterator[None]:
    """Lets another process read pages all the time."""
    if what == "none":
        yield
        return
    process = subprocess.Popen([sys.executable, "-m", "bench.page_sizes", str(path), what, str(kib)])
    try:
        time.sleep(0.5)
        yield
    finally:
        process.kill()
        process.wait()


class Reader:
    """Reads pages from Redis, as cheaply as Python can."""

    def __init__(self, path: Path) -> None:
        """Connects to the server's unix socket."""
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(60)
        self._socket.connect(str(path))
        self._buffer = bytearray(2 << 20)

    def pages(self, kib: int, *, ahead: bool = True) -> None:
        """Reads a registry from the first page to the last; asks for a page before it has read the one before."""
        size = str(kib * 1024).encode()

        def ask(cursor: bytes) -> None:
            self._send(b"METRICS.EXPOSE", KEY.encode(), b"CURSOR", cursor, b"BYTES", size)

        ask(b"0")
        cursor = b""
        while cursor != b"0":
            head = self._head(4)
            cursor = head[2]
            if ahead and cursor != b"0":
                ask(cursor)
            self._rest(int(head[3][1:]) + 2)
            if not ahead and cursor != b"0":
                ask(cursor)

    def copies(self, kib: int) -> None:
        """Reads the same pages with GET; asks for each before it has read the one before."""
        self._send(b"GET", b"pages:%d" % kib)
        count = int(self._string())
        self._send(b"GET", b"page:%d:0" % kib)
        for number in range(count):
            head = self._head(1)
            if number + 1 < count:
                self._send(b"GET", b"page:%d:%d" % (kib, number + 1))
            self._rest(int(head[0][1:]) + 2)

    def wait(self) -> float:
        """Returns how many nanoseconds a small GET takes."""
        begin = time.perf_counter_ns()
        self._send(b"GET", b"small")
        self._string()
        return float(time.perf_counter_ns() - begin)

    def _send(self, *words: bytes) -> None:
        self._socket.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words))

    def _string(self) -> bytes:
        head = self._head(1)
        length = int(head[0][1:]) + 2
        self._rest(length)
        return bytes(self._buffer[: length - 2])

    def _head(self, lines: int) -> list[bytes]:
        """Reads the lines before a string; what was read of the string stays at the beginning of the buffer."""
        received = self._socket.recv(1_024)
        while len(parts := received.split(b"\r\n", lines)) <= lines:
            more = self._socket.recv(1_024)
            assert more, "the server has closed the connection"
            received += more
        self._read = len(parts[-1])
        self._buffer[: self._read] = parts[-1]
        return parts[:-1]

    def _rest(self, length: int) -> None:
        view = memoryview(self._buffer)
        while self._read < length:
            got = self._socket.recv_into(view[self._read : length])
            assert got, "the server has closed the connection"
            self._read += got

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()


if __name__ == "__main__":
    with Reader(Path(sys.argv[1])) as endless:
        while True:
            (endless.pages if sys.argv[2] == "pages" else endless.copies)(int(sys.argv[3]))
