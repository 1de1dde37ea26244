"""Stores in a directory, without Redis: the instance itself reads them, or a sidecar."""

import os
import shutil
import signal
import socket
from pathlib import Path

import pytest

from harness import Exporter, Gunicorn, Load, eventually, scrape
from harness.process import task

REQUESTS = "gunicorn_worker_requests_total"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """The directory need not exist before."""
    return tmp_path / "metrics"


def stores(directory: Path) -> list[str]:
    """Returns the stores in the directory."""
    return sorted(path.name for path in directory.glob("*.store"))


def test_the_next_instance_continues_the_counts_of_the_directory(directory: Path) -> None:
    directory.mkdir()
    environment = {"PROMETHEUS_MULTIPROC_DIR": str(directory)}
    with Gunicorn(workers=2, environment=environment) as gunicorn:
        with Load([gunicorn.port]) as load:
            load.wait_for(100)
        eventually(lambda: scrape(gunicorn.metrics_url).sum(REQUESTS), equals=float(len(load.outcomes)))
        assert len(stores(directory)) == 4, "arbiter, exporter and two workers"
        gunicorn.kill_worker(gunicorn.worker_pids()[0])
        eventually(lambda: len(gunicorn.worker_pids()), equals=2)
        os.kill(gunicorn.exporter_pid(), signal.SIGKILL)
        eventually(lambda: scrape(gunicorn.metrics_url).sum(REQUESTS), equals=float(len(load.outcomes)))
    assert stores(directory) == []
    with Gunicorn(workers=1, environment=environment) as gunicorn:
        assert gunicorn.get("/").status == 200
        name = "gunicorn_http_requests_total"
        eventually(lambda: scrape(gunicorn.metrics_url).sum(name), equals=float(len(load.outcomes) + 1))


def test_the_stores_of_a_killed_instance_count_once(directory: Path) -> None:
    directory.mkdir()
    environment = {"PROMETHEUS_MULTIPROC_DIR": str(directory)}
    name = "gunicorn_http_requests_total"
    with Gunicorn(workers=2, environment=environment) as gunicorn:
        with Load([gunicorn.port]) as load:
            load.wait_for(50)
        eventually(lambda: scrape(gunicorn.metrics_url).sum(name), equals=float(len(load.outcomes)))
        os.kill(gunicorn.exporter_pid(), signal.SIGSTOP)
        for pid in gunicorn.worker_pids():
            gunicorn.kill_worker(pid)
        exporter = gunicorn.exporter_pid()
        gunicorn.kill()
        assert task(exporter) is None
    assert len(stores(directory)) >= 3
    with Exporter("sidecar", environment=environment) as sidecar:
        eventually(lambda: scrape(sidecar.metrics_url).sum(name), equals=float(len(load.outcomes)))


def test_a_sidecar_serves_an_application_in_sidecar_mode(directory: Path) -> None:
    """Workers die, the sidecar dies: counts stay exact, and live values of dead workers end."""
    directory.mkdir()
    environment = {"PROMETHEUS_MULTIPROC_DIR": str(directory)}
    with (
        Exporter("sidecar", environment=environment) as sidecar,
        Gunicorn(workers=2, environment={**environment, "SIDECAR_MODE": "true"}) as gunicorn,
    ):
        assert not listens(gunicorn.metrics_port)
        with Load([gunicorn.port]) as load:
            load.wait_for(100)
            eventually(lambda: scrape(sidecar.metrics_url).sum(REQUESTS) > 0)
        eventually(lambda: scrape(sidecar.metrics_url).sum(REQUESTS), equals=float(len(load.outcomes)))
        before = gunicorn.worker_pids()
        for pid in before:
            gunicorn.kill_worker(pid)
        eventually(lambda: len(gunicorn.worker_pids()) == 2 and set(before).isdisjoint(gunicorn.worker_pids()))
        eventually(lambda: len(stores(directory)), equals=4)
        assert scrape(sidecar.metrics_url).sum(REQUESTS) == len(load.outcomes)
        sidecar.kill()
        with Load([gunicorn.port]) as more:
            more.wait_for(20)
            for pid in gunicorn.worker_pids():
                gunicorn.send(signal.SIGHUP)
                eventually(lambda pid=pid: pid not in gunicorn.worker_pids())  # type: ignore[misc]
        sidecar.start()
        total = len(load.outcomes) + len(more.outcomes)
        eventually(lambda: scrape(sidecar.metrics_url).sum(REQUESTS), equals=float(total))
        eventually(lambda: len(stores(directory)), equals=4)


def test_two_instances_in_one_directory_are_one_page(directory: Path) -> None:
    """The first one's page shows both; when it ends, the other's page does."""
    directory.mkdir()
    environment = {"PROMETHEUS_MULTIPROC_DIR": str(directory)}
    with Gunicorn(environment=environment) as first:
        eventually(lambda: scrape(first.metrics_url))
        with Gunicorn(environment=environment) as second:
            with Load([first.port, second.port]) as load:
                load.wait_for(40)
            eventually(lambda: scrape(first.metrics_url).sum(REQUESTS), equals=float(len(load.outcomes)))
            first.stop()
            eventually(lambda: scrape(second.metrics_url).sum(REQUESTS), equals=float(len(load.outcomes)))
            with Load([second.port]) as more:
                more.wait_for(20)
            total = float(len(load.outcomes) + len(more.outcomes))
            eventually(lambda: scrape(second.metrics_url).sum(REQUESTS), equals=total)


def test_with_redis_there_are_no_files(directory: Path) -> None:
    directory.mkdir()
    environment = {"PROMETHEUS_MULTIPROC_DIR": str(directory), "REDIS_ENABLED": "true", "REDIS_PORT": "1"}
    with Gunicorn(environment=environment) as gunicorn:
        assert gunicorn.get("/").status == 200
        assert list(directory.iterdir()) == []


def test_a_missing_directory_is_one_line(directory: Path) -> None:
    directory.mkdir()
    environment = {"PROMETHEUS_MULTIPROC_DIR": str(directory)}
    with Gunicorn(environment=environment) as gunicorn:
        eventually(lambda: scrape(gunicorn.metrics_url))
        shutil.rmtree(directory)
        assert gunicorn.get("/").status == 200
        eventually(lambda: scrape(gunicorn.metrics_url).sum(REQUESTS), equals=1.0)


def listens(port: int) -> bool:
    """Whether a process listens there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
