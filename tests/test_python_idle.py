"""Workers without requests still evaluate gauges with functions and custom collectors."""

import time

import pytest

from harness import Gunicorn, Venv, eventually, scrape

WORKERS = {
    "sync": ("gunicorn_prometheus_exporter.PrometheusWorker", "apps.private:app"),
    "gthread": ("gunicorn_prometheus_exporter.PrometheusThreadWorker", "apps.private:app"),
    "gevent": ("gunicorn_prometheus_exporter.PrometheusGeventWorker", "apps.private:app"),
    "uvicorn": ("gunicorn_prometheus_exporter.PrometheusUvicornWorker", "apps.private_asgi:app"),
    "asgi": ("gunicorn_prometheus_exporter.PrometheusASGIWorker", "apps.private_asgi:app"),
    "tornado": ("gunicorn_prometheus_exporter.PrometheusTornadoWorker", "apps.private:app"),
}


@pytest.mark.parametrize("kind", WORKERS)
def test_a_gauge_with_a_function_is_never_older_than_a_second_and_a_half(kind: str) -> None:
    """This holds for any `--timeout`, from the second scrape on."""
    worker_class, app = WORKERS[kind]
    venv = Venv.frameworks() if kind not in ("sync", "gthread") else None
    with Gunicorn(app, worker_class=worker_class, venv=venv, arguments=["--timeout=600"]) as gunicorn:
        eventually(lambda: time.time() - scrape(gunicorn.metrics_url).value("clock_seconds") < 1.5)
        oldest = 0.0
        for pause in (0.3, 1.7, 2.9, 0.1):
            time.sleep(pause)
            oldest = max(oldest, time.time() - scrape(gunicorn.metrics_url).value("clock_seconds"))
        assert oldest < 1.5 + 0.5, "half a second for a machine that is busy"
