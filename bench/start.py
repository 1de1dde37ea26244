"""Time from the start of Gunicorn to its first answer, and CPU time for each worker that replaces another.

The sides alternate: plain, ours, and plain with ``prometheus_client``, which an application with metrics loads anyway.
"""

import contextlib
import http.client
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from bench.table import Median, Row, median
from harness import Gunicorn, eventually

HERE = Path(__file__).parent
OURS = "gunicorn_prometheus_exporter.PrometheusWorker"
RECYCLED = 20
TICKS = os.sysconf("SC_CLK_TCK")


class Side(NamedTuple):
    """A configuration of Gunicorn."""

    worker_class: str
    config: str


SIDES = {
    "plain": Side("sync", ""),
    "ours": Side(OURS, ""),
    "plain with prometheus_client": Side("sync", "import prometheus_client"),
}


def measure(quick: bool) -> list[Row]:
    """Measures rounds of one start on each side, and of some workers that end after their first request."""
    rounds = 5 if quick else 25
    firsts: dict[str, list[float]] = {name: [] for name in SIDES}
    recycles: dict[str, list[float]] = {name: [] for name in SIDES}
    for turn in range(rounds + 1):
        for name in random.sample(list(SIDES), len(SIDES)):
            first, recycle = _first_answer_ms(SIDES[name]), _recycle_cpu_ms(SIDES[name])
            if turn > 0:  # the first round fills the caches of the file system
                firsts[name].append(first)
                recycles[name].append(recycle)
    return [
        _row("first answer after the start", firsts, "≤ +10 ms"),
        _row("CPU of Gunicorn for each recycled worker", recycles, "≤ +5 ms"),
    ]


def _row(what: str, figures: dict[str, list[float]], budget: str) -> Row:
    plain = figures["plain"]
    more = {name: median([b - a for a, b in zip(plain, other, strict=True)]) for name, other in figures.items()}
    beside = f"plain {_ms(median(plain))}, with prometheus_client {_more(more['plain with prometheus_client'])}"
    return Row(what, _more(more["ours"]), beside, budget)


def _ms(value: Median) -> str:
    return f"{value.value:.1f} ms [{value.low:.1f}, {value.high:.1f}]"


def _more(value: Median) -> str:
    return f"{value.value:+.1f} ms [{value.low:+.1f}, {value.high:+.1f}]"


def _first_answer_ms(side: Side) -> float:
    with _started(side) as (gunicorn, began):
        _wait_for_answer(gunicorn.port)
        return (time.perf_counter() - began) * 1000


def _recycle_cpu_ms(side: Side) -> float:
    """Each answer ends its worker, and the arbiter collects the CPU time of ended workers."""
    with _started(side, "--max-requests=1", "--log-level=warning") as (gunicorn, _):
        _wait_for_answer(gunicorn.port)
        before = _cpu_seconds(gunicorn.pid)
        for _ in range(RECYCLED):
            _wait_for_answer(gunicorn.port)
        eventually(lambda: len(gunicorn.worker_pids()) == 1)
        return (_cpu_seconds(gunicorn.pid) - before) / RECYCLED * 1000


def _cpu_seconds(pid: int) -> float:
    """Returns the CPU time of a process and of its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:15]) / TICKS


@contextlib.contextmanager
def _started(side: Side, *arguments: str) -> Iterator[tuple[Gunicorn, float]]:
    gunicorn = Gunicorn(
        "hello:app", worker_class=side.worker_class, config=side.config, arguments=arguments, app_directory=HERE
    )
    began = time.perf_counter()
    gunicorn.launch()
    try:
        yield gunicorn, began
    finally:
        gunicorn.stop()


def _wait_for_answer(port: int) -> None:
    deadline = time.monotonic() + 30
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            connection.request("GET", "/")
            connection.getresponse().read()
            return
        except (OSError, http.client.HTTPException):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.001)
        finally:
            connection.close()
