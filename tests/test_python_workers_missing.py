"""A worker class whose library is not there says so in one line, and asks for no other's."""

import subprocess
from pathlib import Path

import pytest

from harness import Venv

PACKAGE = "gunicorn_prometheus_exporter"


@pytest.mark.parametrize(
    ("worker", "venv", "words"),
    [
        ("PrometheusEventletWorker", "gunicorn-newest", "has no eventlet worker (25 was the last): use Prometheus"),
        ("PrometheusASGIWorker", "gunicorn-23.0", "PrometheusASGIWorker needs gunicorn 24 or later: "),
        ("PrometheusUvicornWorker", "gunicorn-newest", "needs the package uvicorn-worker: install it"),
    ],
)
def test_a_worker_that_cannot_be_had_is_one_line_at_the_start(worker: str, venv: str, words: str) -> None:
    """It names what to do instead."""
    environment = Venv(venv)
    environment.refresh()
    words_of_it = [f"--worker-class={PACKAGE}.{worker}", "--bind=127.0.0.1:0", "none:app"]
    command: list[str | Path] = [environment.bin / "gunicorn", *words_of_it]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 1
    (line,) = ended.stderr.strip().splitlines()
    assert line.startswith("Error: ")
    assert words in line


def test_the_package_and_the_wsgi_workers_load_nobody_elses_libraries() -> None:
    code = f"import sys, {PACKAGE}; {PACKAGE}.PrometheusWorker; {PACKAGE}.PrometheusThreadWorker; print(*sys.modules)"
    loaded = set(Venv.frameworks().run("-c", code).split())
    assert not loaded & {"gevent", "eventlet", "tornado", "uvicorn", "uvicorn_worker", "asyncio", "django", "flask"}
