"""Many instances against one Redis, and against a cluster of three nodes, as the fleet grows: `make bench-fleet`.

Each writer sends one batch to each shard every second. All of its 200 series have changed: 150 that it shares with all
other writers (routes), and 50 of its own (`worker_id`). Meanwhile a client reads pages. The generator runs on the same
machine, so the figures are the server's own: the CPU time of its main thread, not the wall clock.
"""

import argparse
import socket
import statistics
import struct
import sys
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from harness.batch import Batch, counter  # noqa: E402
from harness.cluster import Cluster  # noqa: E402
from harness.redis import RedisServer  # noqa: E402

FLEETS = (100, 300, 1000, 3000)
SECONDS = 8
SHARED_FAMILIES = [f"http_requests_{part}" for part in ("get", "post", "put", "head", "patch")]
OWN_FAMILIES = [f"worker_{part}" for part in ("requests", "errors", "bytes", "seconds", "items")]
SHARED_ROUTES, OWN_SERIES = 30, 10
IN_FLIGHT = 50


@dataclass
class Shard:
    """A connection to the server that holds a part of the families, and the batches that each writer sends there."""

    server: RedisServer
    key: str
    families: Sequence[str]
    connection: socket.socket = field(init=False)
    epoch: bytes = b""
    seqs: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Connects."""
        self.connection = socket.create_connection(("127.0.0.1", self.server.port))
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @property
    def series(self) -> int:
        """The number of series that one writer has here."""
        return sum(SHARED_ROUTES if name in SHARED_FAMILIES else OWN_SERIES for name in self.families)

    def full(self, worker: str) -> bytes:
        """Returns a writer's first batch: its full state."""
        batch = Batch.full()
        for name in self.families:
            for number in range(SHARED_ROUTES if name in SHARED_FAMILIES else OWN_SERIES):
                labels = {"route": f"/api/v1/things/{number}", "status": "200"}
                own = {"worker_id": worker, "kind": f"kind-{number}"}
                batch.define(counter(name), labels if name in SHARED_FAMILIES else own, 1.0)
        return batch.encode()

    def changed(self, tick: int) -> bytes:
        """Returns a batch that changes every value of a writer. It is the same for all writers; totals still differ."""
        n = self.series
        values = [number for index in range(n) for number in (index, float(tick))]
        column = b"\4" + _varint(n) + struct.pack("<" + "Id" * n, *values)
        return b"\1\0\0\0" + _varint(n) + column

    def command(self, writer: str, seq: int, batch: bytes) -> bytes:
        """Returns METRICS.PUSH as bytes."""
        words = [b"METRICS.PUSH", self.key.encode(), writer.encode(), str(seq).encode(), batch]
        if self.epoch:
            words += [b"EPOCH", self.epoch]
        return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)

    def send(self, commands: Sequence[bytes]) -> list[float]:
        """Sends the commands in lots, and returns the duration of each lot divided by its size."""
        took = []
        for at in range(0, len(commands), IN_FLIGHT):
            lot = commands[at : at + IN_FLIGHT]
            began = time.perf_counter()
            self.connection.sendall(b"".join(lot))
            self._read(len(lot))
            took.append((time.perf_counter() - began) / len(lot))
        return took

    def _read(self, replies: int) -> None:
        got = b""
        # Each reply is an array of a status, an epoch of 16 digits, and two integers.
        while got.count(b"*4\r\n") < replies or not got.endswith(b":0\r\n"):
            got += self.connection.recv(1 << 20)
            if got.startswith(b"-"):
                raise RuntimeError(got.decode())
        if not self.epoch:
            self.epoch = next(line for line in got.split(b"\r\n") if len(line) == 16)
        elif b"RESYNC" in got:
            raise RuntimeError("a writer was asked for its full state")


def _varint(number: int) -> bytes:
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def cpu_seconds(server: RedisServer) -> float:
    """Returns the CPU time that the main thread of a server has used."""
    pid = int(str(server.client.info("server")["process_id"]))
    return int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[0]) / 1e9


def scrape(shards: Sequence[Shard]) -> tuple[int, float, float]:
    """Reads all pages of all shards; returns bytes, seconds, and the longest page."""
    size, began, longest = 0, time.perf_counter(), 0.0
    for shard in shards:
        cursor = b"0"
        while True:
            asked = time.perf_counter()
            reply = shard.server.execute("METRICS.EXPOSE", shard.key, "CURSOR", cursor)
            cursor, page = cast("tuple[bytes, bytes]", reply)
            longest = max(longest, time.perf_counter() - asked)
            size += len(page)
            if cursor in (b"0", "0"):
                break
    return size, time.perf_counter() - began, longest


@contextmanager
def one_redis() -> Iterator[list[Shard]]:
    """Starts one server that holds everything."""
    with RedisServer(tcp=True) as server:
        yield [Shard(server, "gunicorn:metrics", [*SHARED_FAMILIES, *OWN_FAMILIES])]


@contextmanager
def cluster_of_three() -> Iterator[list[Shard]]:
    """Starts three nodes; the CRC-32 of a family's name selects its node."""
    with Cluster() as cluster:
        shards = []
        for number in range(3):
            key = f"gunicorn:metrics:{{{number}}}"
            names = [name for name in [*SHARED_FAMILIES, *OWN_FAMILIES] if zlib.crc32(name.encode()) % 3 == number]
            if names:
                shards.append(Shard(cluster.owner(key), key, names))
        yield shards


def grow(name: str, shards: Sequence[Shard], fleets: Sequence[int], seconds: int) -> Iterator[str]:
    """Returns one line for each size of the fleet."""
    writers = 0
    for shard in shards:
        shard.send([shard.command("first", 1, b"\1\0\0\0\0")])
    tick = 1
    for fleet in fleets:
        for shard in shards:
            shard.send([shard.command(f"w{n}", 1, shard.full(f"host:{n}")) for n in range(writers, fleet)])
        writers, pushes = fleet, list[float]()
        used = sum(cpu_seconds(shard.server) for shard in shards)
        scrape_took, longest_page, size = list[float](), 0.0, 0
        for second in range(seconds):
            tick += 1
            for shard in shards:
                batch = shard.changed(tick)
                commands = []
                for n in range(fleet):
                    shard.seqs[n] = shard.seqs.get(n, 1) + 1
                    commands.append(shard.command(f"w{n}", shard.seqs[n], batch))
                pushes += shard.send(commands)
            if second % 4 == 1:
                size, took, longest = scrape(shards)
                scrape_took.append(took)
                longest_page = max(longest_page, longest)
        used = sum(cpu_seconds(shard.server) for shard in shards) - used
        memory = sum(int(shard.server.client.info("memory")["used_memory"]) for shard in shards)
        series = SHARED_ROUTES * len(SHARED_FAMILIES) + fleet * OWN_SERIES * len(OWN_FAMILIES)
        share = used / seconds / len(shards)
        yield (
            f"| {name} | {fleet} | {series} | {share:.1%} | {memory / 1e6:.0f} MB "
            f"| {statistics.median(pushes) * 1e6:.0f} µs "
            f"| {size / 1e6:.1f} MB in {statistics.median(scrape_took):.2f} s | {longest_page * 1e3:.1f} ms |"
        )


def main() -> None:
    """Prints one table, and writes it to bench/fleet.md."""
    parser = argparse.ArgumentParser(prog="make bench-fleet")
    parser.add_argument("--quick", action="store_true", help="a small fleet: only to see that it runs")
    quick = parser.parse_args().quick
    fleets, seconds = ((20, 40), 2) if quick else (FLEETS, SECONDS)
    lines = [
        "| servers | writers | series | main thread | memory | a PUSH of 200 series | a scrape | longest page |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, servers in (("one Redis", one_redis), ("three nodes, each", cluster_of_three)):
        with servers() as shards:
            for line in grow(name, shards, fleets, seconds):
                print(line, file=sys.stderr, flush=True)
                lines.append(line)
    page = "\n".join(["# A fleet", "", *(__doc__ or "").splitlines(), "", *lines, ""])
    print(page)
    if not quick:
        (ROOT / "bench" / "fleet.md").write_text(page)


if __name__ == "__main__":
    main()
