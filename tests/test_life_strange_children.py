"""Children that were started in other ways than by fork, and children that close all inherited descriptors."""

import json
from pathlib import Path

import pytest

from harness import Gunicorn, Venv, eventually, scrape

APP = "apps.strange:app"


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_children_of_multiprocessing_are_counted(method: str) -> None:
    """Children of a pool, of an executor, and children that those fork; without any code in the application."""
    with Gunicorn(APP) as gunicorn:
        for way in ("pool", "futures", "forking"):
            assert gunicorn.get(f"/{way}?{method}").status == 200
        jobs = {"pool": 3, "futures": 3, "forking": 6}
        for way, count in jobs.items():
            eventually(
                lambda: scrape(gunicorn.metrics_url).sum("strange_jobs_total", by=f"{way}-{method}"), equals=count
            )
        assert scrape(gunicorn.metrics_url).sum("gunicorn_exporter_errors_total") == 0
        assert "on no page" not in gunicorn.log


def test_children_by_spawn_are_counted_in_file_mode_too(tmp_path: Path) -> None:
    """Their stores are copied into files, as the others are."""
    environment = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    with Gunicorn(APP, environment=environment) as gunicorn:
        assert gunicorn.get("/pool?spawn").status == 200
        eventually(lambda: scrape(gunicorn.metrics_url).sum("strange_jobs_total", by="pool-spawn"), equals=3)


@pytest.mark.parametrize("version", ["21.2", "23.0", "newest"])
def test_nothing_is_written_into_the_sockets_of_a_child_that_closes_all_descriptors(version: str) -> None:
    """It is counted: with a store that it hands over by its own socket."""
    with Gunicorn(APP, venv=Venv.gunicorn(version)) as gunicorn:
        for number in range(1, 4):
            assert json.loads(gunicorn.get("/closing").body) == []
            eventually(lambda: scrape(gunicorn.metrics_url).sum("strange_jobs_total", by="closing"), equals=number)
        assert scrape(gunicorn.metrics_url).value("strange_jobs_total", by="closing-2999") == 3


def test_a_worker_that_closes_all_descriptors_continues() -> None:
    """Counts for which it has no store are counted as lost, with one line; nothing is written to another descriptor."""
    config = (
        "import os\n"
        "def post_worker_init(worker):\n"
        "    kept = {0, 1, 2, worker.tmp.fileno(), *worker.PIPE, *(s.fileno() for s in worker.sockets)}\n"
        "    for number in range(3, 1024):\n"
        "        if number not in kept:\n"
        "            try: os.close(number)\n"
        "            except OSError: pass\n"
        "    worker.files = [open(os.devnull) for _ in range(60)]\n"
    )
    with Gunicorn(APP, config=config) as gunicorn:
        for _ in range(3):
            assert json.loads(gunicorn.get("/closing").body) == []
        eventually(lambda: scrape(gunicorn.metrics_url).sum("strange_jobs_total", by="closing"), equals=3)
