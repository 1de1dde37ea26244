"""Gauges that are made and removed all the time, in every kind of worker, while Redis or the arbiter is replaced."""

import os
import signal
import time

import pytest

from harness import Gunicorn, Load, RedisServer, Venv, eventually, scrape
from harness.cluster import Cluster
from harness.sentinel import SentinelSetup

APP = "apps.removing:app"
COUNT = 20
"""Gauges that each request makes and removes."""
WORKERS = {
    "PrometheusWorker": ("newest", []),
    "PrometheusThreadWorker": ("newest", ["--threads=4"]),
    "PrometheusGeventWorker": ("newest", []),
    "PrometheusTornadoWorker": ("newest", []),
    "PrometheusEventletWorker": ("23.0", []),
}


def assert_exact(url: str, load: Load) -> None:
    """Every round is counted, what stays has its value, and nothing is there that was removed."""
    assert load.statuses() == {200: len(load.outcomes)}

    def shown() -> tuple[float, float, int]:
        page = scrape(url)
        return page.value("rounds_total"), page.value("staying", n=str(COUNT)), len(page.samples("coming"))

    eventually(shown, equals=(float(COUNT * len(load.outcomes)), float(len(load.outcomes)), 0), within=60)


@pytest.mark.parametrize("worker_class", WORKERS)
def test_every_kind_of_worker_and_a_reload(worker_class: str, redis: RedisServer) -> None:
    version, arguments = WORKERS[worker_class]
    with Gunicorn(
        APP,
        redis=redis,
        workers=2,
        venv=Venv.gunicorn(version),
        worker_class=f"gunicorn_prometheus_exporter.{worker_class}",
        arguments=arguments,
    ) as gunicorn:
        before = set(gunicorn.worker_pids())
        with Load([gunicorn.port], [f"/?count={COUNT}"]) as load:
            load.wait_for(100)
            if worker_class != "PrometheusEventletWorker":  # it closes its listener under requests that it has accepted
                gunicorn.send(signal.SIGHUP)
                eventually(lambda: before.isdisjoint(gunicorn.worker_pids()))
            load.wait_for(100)
        assert_exact(gunicorn.metrics_url, load)
        assert scrape(gunicorn.metrics_url).sum("gunicorn_exporter_errors_total") == 0


def test_a_failover_by_sentinels() -> None:
    with SentinelSetup() as watched, Gunicorn(APP, workers=2, environment=watched.environment()) as gunicorn:
        with Load([gunicorn.port], [f"/?count={COUNT}"]) as load:
            load.wait_for(100)
            eventually(lambda: scrape(gunicorn.metrics_url).value("rounds_total") > 0)
            watched.primary.kill()
            eventually(lambda: watched.replica.client.info("replication")["role"], equals="master")
            load.wait_for(100)
            for pid in gunicorn.worker_pids()[:1]:
                os.kill(pid, signal.SIGTERM)
            load.wait_for(50)
        assert_exact(gunicorn.metrics_url, load)


def test_a_failover_in_a_cluster() -> None:
    with Cluster() as cluster, Gunicorn(APP, workers=2, environment=cluster.environment(shards=4)) as gunicorn:
        dying = cluster.primaries[0]
        with Load([gunicorn.port], [f"/?count={COUNT}"]) as load:
            load.wait_for(100)
            eventually(lambda: scrape(gunicorn.metrics_url).value("rounds_total") > 0)
            dying.kill()
            end = time.monotonic() + 5
            eventually(lambda: time.monotonic() > end)
            load.wait_for(100)
        assert_exact(gunicorn.metrics_url, load)
