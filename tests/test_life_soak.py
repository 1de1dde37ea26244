"""Nothing grows with restarts of workers or with requests. `make soak` runs many, `make test` a few."""

import os
import random
import string
from pathlib import Path
from typing import NamedTuple

from harness import Gunicorn, Load, eventually, scrape
from harness.wire import Wire, spell

RESTARTS = int(os.environ.get("SOAK_RESTARTS", "48"))
REQUESTS = int(os.environ.get("SOAK_REQUESTS", "2000"))
SCANNED = int(os.environ.get("SOAK_SCANNED", "4000"))
WORKERS = 4
MIB = 1 << 20


class Size(NamedTuple):
    """Memory and files of a process."""

    memory: int
    files: int


def size(pid: int) -> Size:
    """Returns private and shared memory in bytes, and the number of open files."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    memory = next(int(line.split()[1]) << 10 for line in rollup.splitlines() if line.startswith("Pss:"))
    return Size(memory, sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir()))


def series(gunicorn: Gunicorn) -> set[str]:
    """Returns the page's series, by their text, without the time at which a worker entered its state."""
    body = scrape(gunicorn.metrics_url).body
    names = [line.rpartition(" ")[0] for line in body.splitlines() if not line.startswith("#")]
    return {"gunicorn_worker_state" if name.startswith("gunicorn_worker_state{") else name for name in names}


def restart_all(gunicorn: Gunicorn) -> int:
    """Kills every worker while it is idle, and waits for the next ones; returns the number of killed workers."""
    victims = gunicorn.worker_pids()
    for pid in victims:
        gunicorn.kill_worker(pid)
    eventually(lambda: len(gunicorn.worker_pids()) == WORKERS and not set(victims) & set(gunicorn.worker_pids()))
    return len(victims)


def test_restarts_make_no_series_and_keep_no_memory() -> None:
    """Every worker is killed again and again: afterwards there are as many series, files and bytes as before."""
    with Gunicorn(workers=WORKERS) as gunicorn:
        killed = 0
        for _ in range(2):
            killed += restart_all(gunicorn)
            gunicorn.get()
        restarts = "gunicorn_worker_restart_total"
        eventually(lambda: scrape(gunicorn.metrics_url).sum(restarts), equals=killed)
        eventually(lambda: len(scrape(gunicorn.metrics_url).samples("gunicorn_worker_state")), equals=WORKERS)
        before = series(gunicorn)
        arbiter, exporter = size(gunicorn.pid), size(gunicorn.exporter_pid())
        goal = killed + RESTARTS
        while killed < goal:
            killed += restart_all(gunicorn)
        # As before: the live gauge of a method exists while a worker lives that has answered such a request.
        gunicorn.get()
        eventually(lambda: scrape(gunicorn.metrics_url).sum(restarts), equals=killed)
        eventually(lambda: scrape(gunicorn.metrics_url).value("gunicorn_workers", state="idle"), equals=WORKERS)
        eventually(lambda: series(gunicorn) ^ before, equals=set())
        eventually(lambda: size(gunicorn.pid).files <= arbiter.files + 2)
        eventually(lambda: size(gunicorn.exporter_pid()).files <= exporter.files + 2)
        assert size(gunicorn.pid).memory < arbiter.memory + 4 * MIB
        assert size(gunicorn.exporter_pid()).memory < exporter.memory + 4 * MIB


def test_requests_keep_no_memory_and_no_descriptor() -> None:
    """Checks the worker, the arbiter and the exporter."""
    with Gunicorn() as gunicorn:
        with Load([gunicorn.port], ["/", "/order"]) as load:
            load.wait_for(200)
        worker = gunicorn.worker_pids()[0]
        pids = {"worker": worker, "arbiter": gunicorn.pid, "exporter": gunicorn.exporter_pid()}
        before = {name: size(pid) for name, pid in pids.items()}
        with Load([gunicorn.port], ["/", "/order"]) as more:
            goal = REQUESTS
            while goal > 0:
                more.wait_for(min(goal, 1000))
                goal -= 1000
        expected = len(load.outcomes) + len(more.outcomes)
        eventually(lambda: scrape(gunicorn.metrics_url).sum("gunicorn_worker_requests_total"), equals=expected)
        assert gunicorn.worker_pids() == [worker]
        for name, pid in pids.items():
            eventually(lambda name=name, pid=pid: size(pid).files <= before[name].files + 2)  # type: ignore[misc]
            assert size(pid).memory < before[name].memory + 2 * MIB, name


def test_a_scan_of_random_paths_methods_and_exceptions_is_bounded() -> None:
    """Half of the paths are answered, a tenth raises an exception of a new class."""
    total, exceptions = "gunicorn_http_requests_total", "gunicorn_http_exceptions_total"
    worker_class = "gunicorn_prometheus_exporter.PrometheusThreadWorker"
    with Gunicorn("apps.shapes:app", worker_class=worker_class, arguments=["--keep-alive=20"]) as gunicorn:
        warm = min(2000, SCANNED // 2)
        scan(gunicorn, warm, seed=1)
        eventually(lambda: scrape(gunicorn.metrics_url).sum(total), equals=warm)
        pids = {"worker": gunicorn.worker_pids()[0], "arbiter": gunicorn.pid, "exporter": gunicorn.exporter_pid()}
        before = {name: size(pid) for name, pid in pids.items()}
        labels = series(gunicorn)
        scan(gunicorn, SCANNED - warm, seed=2)
        eventually(lambda: scrape(gunicorn.metrics_url).sum(total), equals=SCANNED)
        seen = scrape(gunicorn.metrics_url)
        assert seen.values_of("method", total) == {"GET", "<other>"}
        # A hundred paths that were answered, and a hundred classes; <other>, <unmatched>.
        assert len(seen.values_of("endpoint", total)) == 102
        assert len(seen.values_of("exception", exceptions)) == 101
        assert len(series(gunicorn)) < len(labels) * 1.1
        for name, pid in pids.items():
            assert size(pid).memory < before[name].memory + 4 * MIB, name


def scan(gunicorn: Gunicorn, requests: int, *, seed: int) -> None:
    """Sends requests as a scanner does: on connections that stay open until the server closes them."""
    chance = random.Random(seed)

    def word() -> str:
        return "".join(chance.choices(string.ascii_letters, k=12))

    wire = Wire(gunicorn.port)
    for number in range(requests):
        if number % 10 == 0:
            with Wire(gunicorn.port) as broken:
                assert broken.request("GET", f"/raise-any/{word()}").status == 500
            continue
        path = f"/missing/{word()}" if number % 2 else f"/{word()}"
        method = word().upper() if number % 3 == 0 else "GET"
        wire.send(spell(method, path))
        assert wire.response(method).is_complete
    wire.close()
