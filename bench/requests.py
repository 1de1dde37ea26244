"""CPU time of a worker per request, metered and plain, in short rounds that alternate between the sides."""

import contextlib
import http.client
import random
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from bench.table import Median, Row, median
from harness import Gunicorn, RedisServer, Venv

HERE = Path(__file__).parent
OURS = {
    "sync": "gunicorn_prometheus_exporter.PrometheusWorker",
    "gthread": "gunicorn_prometheus_exporter.PrometheusThreadWorker",
    "gevent": "gunicorn_prometheus_exporter.PrometheusGeventWorker",
    "tornado": "gunicorn_prometheus_exporter.PrometheusTornadoWorker",
    "asgi": "gunicorn_prometheus_exporter.PrometheusASGIWorker",
    "uvicorn_worker.UvicornWorker": "gunicorn_prometheus_exporter.PrometheusUvicornWorker",
}
APPLICATIONS = {"asgi": "hello:asgi_app", "uvicorn_worker.UvicornWorker": "hello:asgi_app"}
BUDGETS = {"tornado": "≥ 0.97", "asgi": "≥ 0.97", "uvicorn_worker.UvicornWorker": "≥ 0.97"}


def measure(quick: bool) -> list[Row]:
    """Measures capacity: the CPU time of a request in a plain worker ÷ that in ours."""
    rounds, requests = (8, 100) if quick else (60, 300)
    rows = []
    for kind in OURS:
        with contextlib.ExitStack() as stack:
            redis = stack.enter_context(RedisServer())
            sides = {
                "plain": stack.enter_context(_gunicorn(kind, kind)),
                "embedded": stack.enter_context(_gunicorn(kind, OURS[kind])),
                "with Redis": stack.enter_context(_gunicorn(kind, OURS[kind], redis)),
            }
            costs = rounds_of(sides, rounds, requests)
        plain = median([cost.cpu for cost in costs["plain"]])
        for name in ("embedded", "with Redis"):
            ratio = capacity(costs["plain"], costs[name])
            ours = median([cost.cpu for cost in costs[name]])
            rows.append(
                Row(
                    f"capacity, {kind}, {name}",
                    f"{ratio}",
                    f"plain {plain.value / 1e3:.0f} µs a request, ours {ours.value / 1e3:.0f} µs",
                    BUDGETS.get(kind, "≥ 1.00"),
                )
            )
    return rows


def _gunicorn(kind: str, worker_class: str, redis: RedisServer | None = None) -> Gunicorn:
    app = APPLICATIONS.get(kind, "hello:app")
    return Gunicorn(app, venv=Venv.frameworks(), worker_class=worker_class, redis=redis, app_directory=HERE)


class Cost(NamedTuple):
    """Cost of one request: nanoseconds of CPU time of the worker, and nanoseconds until the client had its answer."""

    cpu: float
    answer: float


def capacity(plain: Sequence[Cost], other: Sequence[Cost]) -> Median:
    """Returns the number of requests that the other side answers for each one of the plain side, by CPU time alone."""
    return median([one.cpu / two.cpu for one, two in zip(plain, other, strict=True)])


def rounds_of(sides: Mapping[str, Gunicorn], rounds: int, requests: int) -> dict[str, list[Cost]]:
    """Measures the cost of a request on each side, in rounds that alternate between the sides."""
    costs: dict[str, list[Cost]] = {name: [] for name in sides}
    for turn in range(rounds + 2):
        for name in random.sample(list(sides), len(sides)):
            cost = _round(sides[name], requests)
            if turn >= 2:  # the first rounds fill caches
                costs[name].append(cost)
    return costs


def _round(gunicorn: Gunicorn, requests: int) -> Cost:
    (worker,) = gunicorn.worker_pids()
    begin, before = time.perf_counter_ns(), cpu_ns(worker)
    ask(gunicorn.port, requests)
    return Cost((cpu_ns(worker) - before) / requests, (time.perf_counter_ns() - begin) / requests)


def ask(port: int, requests: int, *, patience: float = 30.0) -> None:
    """Sends requests one after the other, each on a new connection; TimeoutError after `patience` seconds."""
    for _ in range(requests):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=patience)
        connection.request("GET", "/")
        connection.getresponse().read()
        connection.close()


def cpu_ns(pid: int) -> int:
    """Returns the CPU time of all threads of a process, in nanoseconds."""
    return sum(int((task / "schedstat").read_text().split()[0]) for task in Path(f"/proc/{pid}/task").iterdir())
