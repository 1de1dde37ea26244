"""An orderly life logs no warning and no error of ours, so that every such line means something."""

import contextlib
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_life_upgrade import Upgradable, exporters_of, workers_of

from harness import RedisServer, eventually, scrape
from harness.process import task

PROBLEM = re.compile(r"\[(WARNING|ERROR|CRITICAL)\]| WARN | ERROR |Traceback|panicked")
# Gunicorn logs this for every worker that its arbiter ends.
GUNICORNS_OWN = re.compile(r"Worker \(pid:\d+\) was sent SIG\w+!")
REQUESTS = "gunicorn_worker_requests_total"


@pytest.fixture(
    params=[
        ("memory", signal.SIGTERM),
        ("redis", signal.SIGTERM),
        ("redis", signal.SIGQUIT),
        ("directory", signal.SIGQUIT),
    ],
    ids=lambda param: f"{param[0]}-{param[1].name}",
)
def life(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Upgradable, signal.Signals]]:
    """Two workers that are replaced after a few requests, and the signal that ends them."""
    place, end = request.param
    with contextlib.ExitStack() as stack:
        redis = stack.enter_context(RedisServer()) if place == "redis" else None
        one = Upgradable(workers=2, redis=redis, config="max_requests = 12")
        if place == "directory":
            one.environment["PROMETHEUS_MULTIPROC_DIR"] = str(tmp_path)
        yield stack.enter_context(one), end


def problems(gunicorn: Upgradable) -> list[str]:
    """Returns lines of the log that tell of a problem."""
    lines = gunicorn.log.splitlines()
    return [line for line in lines if PROBLEM.search(line) and not GUNICORNS_OWN.search(line)]


def serve(gunicorn: Upgradable, total: int) -> int:
    """Sends some more requests, all of which must be counted; returns the new total."""
    for _ in range(30):
        assert eventually(gunicorn.get).status == 200
    eventually(lambda: scrape(gunicorn.metrics_url).sum(REQUESTS), equals=total + 30)
    return total + 30


def replaced(arbiter: int, before: list[int], count: int) -> bool:
    """Whether that many other workers are there."""
    now = workers_of(arbiter)
    return len(now) == count and not set(now) & set(before)


def test_an_orderly_life_logs_no_problem(life: tuple[Upgradable, signal.Signals]) -> None:
    gunicorn, end = life
    first = gunicorn.pid
    total = serve(gunicorn, 0)

    before = workers_of(first)
    os.kill(first, signal.SIGHUP)
    eventually(lambda: replaced(first, before, 2))
    total = serve(gunicorn, total)

    os.kill(first, signal.SIGTTIN)
    eventually(lambda: len(workers_of(first)), equals=3)
    os.kill(first, signal.SIGTTOU)
    eventually(lambda: len(workers_of(first)), equals=2)
    total = serve(gunicorn, total)

    # Upgrades, goes back, and upgrades again.
    new = gunicorn.upgrade()
    eventually(lambda: len(exporters_of(new)), equals=1)
    total = serve(gunicorn, total)
    os.kill(new, signal.SIGTERM)
    eventually(lambda: task(new) is None)
    gunicorn.arbiters.remove(new)
    eventually(lambda: len(exporters_of(first)), equals=1)
    total = serve(gunicorn, total)
    new = gunicorn.upgrade()
    eventually(lambda: len(exporters_of(new)), equals=1)
    os.kill(first, signal.SIGTERM)
    eventually(lambda: task(first) is None)
    serve(gunicorn, total)

    assert problems(gunicorn) == []
    os.kill(new, end)
    eventually(lambda: task(new) is None)
    assert problems(gunicorn) == []
