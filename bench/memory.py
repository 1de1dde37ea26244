"""Memory of a worker, less that of a plain one, and memory of the exporter's process.

Private memory is memory that only this process maps (Private_Clean and Private_Dirty of smaps_rollup). The exporter
reads a worker's store, so the store is shared memory: the table shows it separately.
"""

import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from bench.requests import ask
from bench.table import Row, median
from harness import Gunicorn, RedisServer, eventually, scrape

ROOT = Path(__file__).resolve().parents[1]
# One series of a counter, and one of a histogram with 15 buckets, for each.
LABEL_SETS = 500
REQUESTS = 500
# Every side imports prometheus_client before the fork, ours with the rest of its code for it: memory that was filled
# before the fork is shared with the arbiter, and becomes private only when it is written to.
CONFIG = f"""
import prometheus_client
def post_worker_init(worker):
    from bench import many
    many.work({LABEL_SETS})
"""
OURS = "gunicorn_prometheus_exporter.PrometheusWorker"


class Process(NamedTuple):
    """Memory of one process, in bytes."""

    resident: int
    private: int


class Server(NamedTuple):
    """Memory of one worker, its store, and its exporter (a plain worker has neither)."""

    worker: Process
    store: int
    exporter: Process = Process(0, 0)


def measure(quick: bool) -> list[Row]:
    """Measures workers in turn: plain, with prometheus_client's files, ours, and ours with Redis."""
    sides: dict[str, list[Server]] = {"plain": [], "files": [], "embedded": [], "with Redis": []}
    for _ in range(2 if quick else 5):
        sides["plain"].append(_measured("sync"))
        with tempfile.TemporaryDirectory(prefix="bench-") as directory:
            sides["files"].append(_measured("sync", directory))
        sides["embedded"].append(_measured(OURS))
        with RedisServer() as redis:
            sides["with Redis"].append(_measured(OURS, redis=redis))

    def mib(side: str, figure: Callable[[Server], int]) -> float:
        return median([figure(server) for server in sides[side]]).value / 2**20

    def beyond_plain(side: str) -> str:
        private, plain = (mib(one, lambda server: server.worker.private) for one in (side, "plain"))
        return f"{private - plain:+.2f} MiB"

    plain = mib("plain", lambda server: server.worker.private)
    rows = []
    for side in ("embedded", "with Redis"):
        store = mib(side, lambda server: server.store)
        resident = mib(side, lambda server: server.exporter.resident)
        private = mib(side, lambda server: server.exporter.private)
        rows += [
            Row(
                f"private memory of a worker with {2 * LABEL_SETS:,} series beyond the plain one's, {side}",
                f"{beyond_plain(side)}; its store {store:.2f} MiB",
                f"plain {plain:.1f} MiB, with prometheus_client's files {beyond_plain('files')}",
                "≤ 1 MiB",
            ),
            Row(
                f"the exporter's process, {side}",
                f"{resident:.1f} MiB resident",
                f"{private:.1f} MiB of it private; the rest is code and the stores",
                "≤ 16 MiB",
            ),
        ]
    return rows


def _measured(worker_class: str, files: str | None = None, redis: RedisServer | None = None) -> Server:
    """Measures a server whose worker has made the series and has answered the requests."""
    gunicorn = Gunicorn(
        "bench.hello:app",
        worker_class=worker_class,
        config=CONFIG,
        environment={"PROMETHEUS_MULTIPROC_DIR": files} if files else {},
        redis=redis,
        app_directory=ROOT,
    )
    with gunicorn:
        ask(gunicorn.port, REQUESTS)
        (worker,) = gunicorn.worker_pids()
        if worker_class != OURS:
            return Server(_process(worker), 0)
        eventually(lambda: _has_counted(gunicorn))
        return Server(_process(worker), _store(worker), _process(gunicorn.exporter_pid()))


def _process(pid: int) -> Process:
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return Process(_field(rollup, "Rss"), _field(rollup, "Private_Clean") + _field(rollup, "Private_Dirty"))


def _has_counted(gunicorn: Gunicorn) -> None:
    counted = scrape(gunicorn.metrics_url)
    assert counted.sum("bench_work_total") == LABEL_SETS
    assert counted.sum("gunicorn_http_requests_total") == REQUESTS


def _store(pid: int) -> int:
    """Returns the resident bytes of the stores that a process has mapped."""
    total, of_store = 0, False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            of_store = "/memfd:" in line
        elif of_store and line.startswith("Rss:"):
            total += _field(line, "Rss")
    return total


def _field(text: str, name: str) -> int:
    found = re.search(rf"^{name}: +(\d+) kB$", text, re.MULTILINE)
    assert found is not None, name
    return int(found[1]) * 1_024
