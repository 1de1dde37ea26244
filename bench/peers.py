"""Other ways to run the same application: a plain worker, prometheus_client by hand, and the original package."""

from collections.abc import Mapping
from pathlib import Path

from harness import Gunicorn, RedisServer, Venv

HERE = Path(__file__).parent

# The original has our name on PyPI, so it has an environment into which our wheel is never installed.
ORIGINAL = Venv("original")
# The last Gunicorn on which the original starts.
GUNICORN = "23.0"

OURS = {
    "sync": "gunicorn_prometheus_exporter.PrometheusWorker",
    "gthread": "gunicorn_prometheus_exporter.PrometheusThreadWorker",
    "gevent": "gunicorn_prometheus_exporter.PrometheusGeventWorker",
}

_ORIGINAL_CONFIG = """
from gunicorn_prometheus_exporter import hooks
on_starting = hooks.default_on_starting
when_ready = hooks.{when_ready}
worker_int = hooks.default_worker_int
on_exit = hooks.default_on_exit
"""

# As the documentation of prometheus_client describes it.
_BY_HAND_CONFIG = """
from prometheus_client import multiprocess
def child_exit(server, worker):
    multiprocess.mark_process_dead(worker.pid)
"""


def original(
    kind: str,
    redis: RedisServer | None = None,
    *,
    app: str = "hello:app",
    config: str = "",
    environment: Mapping[str, str] | None = None,
) -> Gunicorn:
    """Configures the original package as its README says, with the variables without which it records no samples.

    It leaves out the hook `post_fork`, which only writes the configuration into the log.
    """
    when_ready = "default_when_ready" if redis is None else "redis_when_ready"
    gunicorn = Gunicorn(
        app,
        venv=ORIGINAL,
        worker_class=OURS[kind],
        config=_ORIGINAL_CONFIG.format(when_ready=when_ready) + config,
        environment={"GUNICORN_WORKERS": "1", **(environment or {})},
        redis=redis,
        app_directory=HERE,
    )
    return with_files(gunicorn)


def by_hand(kind: str) -> Gunicorn:
    """A plain worker with an application that counts its requests by prometheus_client's multiprocess mode."""
    gunicorn = Gunicorn(
        "bench.by_hand:app",
        venv=Venv.gunicorn(GUNICORN),
        worker_class=kind,
        config=_BY_HAND_CONFIG,
        app_directory=HERE.parent,
    )
    return with_files(gunicorn)


def with_files(gunicorn: Gunicorn) -> Gunicorn:
    """Adds a directory for the files of prometheus_client's multiprocess mode."""
    files = gunicorn.directory / "prometheus"
    files.mkdir()
    gunicorn.environment["PROMETHEUS_MULTIPROC_DIR"] = str(files)
    return gunicorn
