"""The first moment of a worker: a signal that arrives then is not lost."""

import pytest

from harness import Gunicorn, Venv, eventually

CONFIG = """
import signal
from gunicorn_prometheus_exporter import recording

def post_fork(server, worker):
    start = recording.start
    def noting(worker):
        # From Gunicorn's point of view: what would happen to a SIGTERM now?
        handler = signal.getsignal(signal.SIGTERM)
        is_arbiters = getattr(handler, "__self__", None) is server
        worker.log.info("recording begins with the handler of the %s", "arbiter" if is_arbiters else "worker")
        return start(worker)
    recording.start = noting
"""
WSGI = ("PrometheusWorker", "PrometheusThreadWorker", "PrometheusGeventWorker", "PrometheusTornadoWorker")
ASGI = ("PrometheusUvicornWorker", "PrometheusASGIWorker")


@pytest.mark.parametrize("worker_class", WSGI + ASGI)
def test_recording_begins_when_the_worker_has_its_own_signal_handlers(worker_class: str) -> None:
    """Before that, the arbiter's handlers, which the fork has copied, would receive a SIGTERM and ignore it."""
    app = "apps.private:app" if worker_class in WSGI else "apps.private_asgi:app"
    with Gunicorn(
        app,
        venv=Venv.frameworks(),
        worker_class=f"gunicorn_prometheus_exporter.{worker_class}",
        config=CONFIG,
    ) as gunicorn:
        eventually(lambda: "recording begins" in gunicorn.log)
        assert "recording begins with the handler of the worker" in gunicorn.log
        assert gunicorn.get("/").status in (200, 204)


@pytest.mark.parametrize("version", ["21.2", "23.0"])
def test_recording_begins_after_the_signal_handlers_on_older_gunicorns(version: str) -> None:
    """The sync worker."""
    with Gunicorn("apps.private:app", venv=Venv.gunicorn(version), config=CONFIG) as gunicorn:
        eventually(lambda: "recording begins" in gunicorn.log)
        assert "recording begins with the handler of the worker" in gunicorn.log
