"""Systems that lack something: the application runs as without us, one line says why, and what is lost is counted."""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from harness import Gunicorn, Load, Venv, eventually, scrape
from harness.ports import free_port

APP = "apps.strange:app"
REQUESTS = "gunicorn_worker_requests_total"


class Started(Gunicorn):
    """By another program, which gives it less than it has."""

    by: Sequence[str] = ()

    def command(self) -> Sequence[str | Path]:
        """As a user would type it, behind that program."""
        return [*self.by, *super().command()]


@pytest.mark.parametrize("limit", [14, 40, 80, 110])
def test_few_descriptors_cost_metrics_and_no_request(limit: int) -> None:
    """From so few that plain Gunicorn just runs, to enough for metrics, and then for too few dead workers."""
    gunicorn = Started(APP, workers=2)
    gunicorn.by = ["prlimit", f"--nofile={limit}:{limit}"]
    is_metered = limit >= 80
    with gunicorn:
        with Load([gunicorn.port], clients=1) as load:
            load.wait_for(50)
        assert load.statuses() == {200: len(load.outcomes)}
        for _ in range(3):
            gunicorn.kill_worker(gunicorn.worker_pids()[0])
            eventually(lambda: len(gunicorn.worker_pids()), equals=2)
        assert gunicorn.get("/").status == 200
        told = [line for line in gunicorn.log.splitlines() if "raise the limit (ulimit -n, LimitNOFILE)" in line]
        if is_metered:
            eventually(lambda: scrape(gunicorn.metrics_url).sum(REQUESTS), equals=float(len(load.outcomes) + 1))
            assert told == []
        else:
            assert len(told) == 1, gunicorn.log
            assert f"nothing is metered: at most {limit} files may be open" in told[0]
            assert not _has_page(gunicorn)


def test_stores_of_dead_workers_never_take_gunicorns_last_descriptors() -> None:
    """Redis is away, so dead workers wait with their stores: then a worker is not metered, and Gunicorn runs on."""
    environment = {"REDIS_ENABLED": "true", "REDIS_HOST": "127.0.0.1", "REDIS_PORT": str(free_port())}
    gunicorn = Started(APP, workers=4, environment=environment)
    gunicorn.by = ["prlimit", "--nofile=80:80"]
    with gunicorn:
        for _ in range(20):
            before = set(gunicorn.worker_pids())
            for pid in before:
                gunicorn.kill_worker(pid)
            eventually(lambda b=before: len(set(gunicorn.worker_pids()) - b) == 4)  # type: ignore[misc]
            assert gunicorn.get("/").status == 200
        told = [line for line in gunicorn.log.splitlines() if "a worker is not metered: at most 80 files" in line]
        assert len(told) == 1, gunicorn.log
        assert "Too many open files" not in gunicorn.log


def _has_page(gunicorn: Gunicorn) -> bool:
    try:
        scrape(gunicorn.metrics_url)
    except OSError:
        return False
    return True


@pytest.mark.skipif(os.getuid() != 0, reason="only root can hide /proc")
def test_without_proc_everything_is_counted() -> None:
    """A worker that is killed, too: the system says that it ended without /proc."""
    gunicorn = Started(APP, workers=2)
    gunicorn.by = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /proc && exec "$@"', "sh"]
    if subprocess.run([*gunicorn.by, "true"], check=False, capture_output=True).returncode != 0:
        pytest.skip("/proc cannot be hidden on this machine")
    with gunicorn:
        with Load([gunicorn.port]) as load:
            load.wait_for(50)
        assert load.statuses() == {200: len(load.outcomes)}
        eventually(lambda: scrape(gunicorn.metrics_url).sum(REQUESTS), equals=float(len(load.outcomes)))
        gunicorn.kill_worker(gunicorn.worker_pids()[0])
        eventually(lambda: len(gunicorn.worker_pids()), equals=2)
        eventually(lambda: scrape(gunicorn.metrics_url).sum("gunicorn_worker_restart_total"), equals=1.0)
        assert scrape(gunicorn.metrics_url).sum(REQUESTS) == len(load.outcomes)
        assert gunicorn.get("/pool?fork").status == 200
        eventually(lambda: scrape(gunicorn.metrics_url).sum("strange_jobs_total"), equals=3.0)


def test_a_child_that_can_make_no_store_is_counted_as_lost_and_logged_once() -> None:
    """Its values stay in it; the arbiter counts it, because it has no place to count itself in."""
    with Gunicorn(APP) as gunicorn:
        for number in range(1, 4):
            assert gunicorn.get("/poor").body == b"2.0", "the child's own values are as without us"
            eventually(
                lambda n=number: (
                    scrape(gunicorn.metrics_url).sum("gunicorn_exporter_errors_total", where="children") == n
                )  # type: ignore[misc]
            )
        assert gunicorn.log.count("counts is on no page") == 3, "once for each child"
        assert scrape(gunicorn.metrics_url).sum("strange_jobs_total", by="poor") == 0


def test_a_child_whose_arbiter_is_gone_works_and_says_so_once() -> None:
    """One by spawn, that has only a name to go by."""
    program = (
        "import logging, sys\n"
        "logging.basicConfig(stream=sys.stdout, format='LOG %(message)s')\n"
        "from gunicorn_prometheus_exporter import children\n"
        "children.begin(b'gunicorn-metrics-children-of-nobody', None)\n"
        "from prometheus_client import Counter, Gauge\n"
        "jobs, level = Counter('jobs', 'Jobs'), Gauge('level', 'Level')\n"
        "for _ in range(3): jobs.inc(); level.set(7)\n"
        "print(jobs._value.get(), level._value.get())\n"
    )
    *told, values = Venv.default().run("-c", program).splitlines()
    assert values == "3.0 7.0"
    assert len(told) == 1, told
    assert "counts is on no page" in told[0]
    assert told[0].startswith("LOG ")
