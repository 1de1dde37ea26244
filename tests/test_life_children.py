"""Processes that are not workers: children of a worker, and programs without Gunicorn."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

from harness import Gunicorn, Scrape, Venv, eventually, scrape
from harness.ports import free_port
from harness.process import clean_environment

APP = "apps.ending:app"


def test_counts_of_a_forked_child_are_on_the_page() -> None:
    """Forked by os.fork and by a pool of multiprocessing. A child begins at zero, so nothing counts twice."""
    with Gunicorn(APP) as gunicorn:
        for _ in range(5):
            assert gunicorn.get("/fork").status == 200
        assert gunicorn.get("/pool").status == 200
        page = eventually(lambda: _with_jobs(gunicorn, parent=6, child=15))
        assert page.value("shop_job_seconds_count") == 15
        assert page.value("shop_job_seconds_sum") == 7.5
        assert page.sum("gunicorn_worker_requests_total") == 6
        assert page.samples("shop_jobs_running") == [] or page.value("shop_jobs_running") == 0


def test_a_childs_live_gauge_is_shown_until_the_child_is_killed() -> None:
    """Its live gauge is shown until then; its counts stay, also when the exporter dies in between."""
    with Gunicorn(APP) as gunicorn:
        child = int(gunicorn.get("/fork?seconds=60").body)
        eventually(lambda: scrape(gunicorn.metrics_url).value("shop_jobs_running"), equals=1)
        os.kill(gunicorn.exporter_pid(), signal.SIGKILL)
        eventually(lambda: scrape(gunicorn.metrics_url).value("shop_jobs_running"), equals=1)
        os.kill(child, signal.SIGKILL)
        eventually(lambda: scrape(gunicorn.metrics_url).sum("shop_jobs_running"), equals=0)
        _with_jobs(gunicorn, parent=1, child=1)


def _with_jobs(gunicorn: Gunicorn, **jobs: int) -> Scrape:
    page = scrape(gunicorn.metrics_url)
    for by, count in jobs.items():
        assert page.sum("shop_jobs_total", by=by) == count, by
    return page


PROGRAM = textwrap.dedent(
    """
    import os, sys, time
    from prometheus_client import Counter
    EARLY = Counter("batch_early", "Made before")
    EARLY.inc()
    from gunicorn_prometheus_exporter import setup_metrics
    setup_metrics()
    setup_metrics()
    ROWS = Counter("batch_rows", "Rows done")
    ROWS.inc(2)
    for _ in range(3):
        if os.fork() == 0:
            ROWS.inc(10)
            os._exit(0)
    for _ in range(3):
        os.wait()
    print("ready", flush=True)
    sys.stdin.read()
    ROWS.inc()
    """
)


def test_a_program_without_gunicorn_has_its_own_exporter(tmp_path: Path) -> None:
    """`setup_metrics()`: the page has the counts of the program and its children, and no process is left over."""
    port = free_port()
    program = subprocess.Popen(
        [Venv.default().bin / "python", "-c", PROGRAM],
        cwd=tmp_path,
        env=clean_environment({"PROMETHEUS_METRICS_PORT": str(port), "PROMETHEUS_BIND_ADDRESS": "127.0.0.1"}),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=sys.stderr,
        text=True,
    )
    try:
        assert program.stdout is not None
        assert program.stdin is not None
        assert program.stdout.readline() == "ready\n"
        url = f"http://127.0.0.1:{port}/metrics"
        eventually(lambda: scrape(url).value("batch_rows_total"), equals=32)
        assert scrape(url).value("batch_early_total") == 1
        program.stdin.close()
        assert program.wait(30) == 0
        eventually(lambda: _is_refused(url))
    finally:
        program.kill()
        program.wait()
        program.stdout.close()  # type: ignore[union-attr]


def _is_refused(url: str) -> bool:
    try:
        scrape(url)
    except ConnectionRefusedError:
        return True
    except OSError as error:
        return isinstance(getattr(error, "reason", None), ConnectionRefusedError)
    return False
