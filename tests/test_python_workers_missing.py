"""A worker class whose library is missing says so in one line; no worker class imports the library of another."""

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
def test_a_worker_class_without_its_library_is_one_line_at_the_start(worker: str, venv: str, words: str) -> None:
    """The line names the alternatives."""
    environment = Venv(venv)
    environment.refresh()
    words_of_it = [f"--worker-class={PACKAGE}.{worker}", "--bind=127.0.0.1:0", "none:app"]
    command: list[str | Path] = [environment.bin / "gunicorn", *words_of_it]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 1
    (line,) = ended.stderr.strip().splitlines()
    assert line.startswith("Error: ")
    assert words in line


def test_the_package_and_the_wsgi_workers_import_no_library_of_other_workers() -> None:
    code = f"import sys, {PACKAGE}; {PACKAGE}.PrometheusWorker; {PACKAGE}.PrometheusThreadWorker; print(*sys.modules)"
    loaded = set(Venv.frameworks().run("-c", code).split())
    assert not loaded & {"gevent", "eventlet", "tornado", "uvicorn", "uvicorn_worker", "asyncio", "django", "flask"}
