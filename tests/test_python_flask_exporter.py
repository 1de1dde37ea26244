"""prometheus-flask-exporter's classes for Gunicorn work without PROMETHEUS_MULTIPROC_DIR."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from harness import Gunicorn, Venv, eventually, scrape
from harness.ports import free_port

CLASSES = ("GunicornPrometheusMetrics", "GunicornInternalPrometheusMetrics")
COUNT = "flask_http_request_duration_seconds_count"


@pytest.mark.parametrize("name", CLASSES)
def test_the_classes_for_gunicorn_need_no_directory(name: str) -> None:
    """Their own page has each family once, with the sums over all workers; our page has the same."""
    port = free_port()
    config = (
        f"from prometheus_flask_exporter.multiprocess import {name} as Metrics\n"
        "def child_exit(server, worker):\n"
        "    Metrics.mark_process_dead_on_child_exit(worker.pid)\n"
    )
    if name == "GunicornPrometheusMetrics":
        config += f"def when_ready(server):\n    Metrics.start_http_server_when_ready({port}, '127.0.0.1')\n"
    with Gunicorn(
        "apps.flask_gunicorn_metrics:app",
        workers=2,
        venv=Venv.libraries(),
        config=config,
        environment={"METRICS_CLASS": name},
    ) as gunicorn:
        for _ in range(12):
            assert gunicorn.get("/orders").status == 200
        eventually(lambda: scrape(gunicorn.metrics_url).sum(COUNT, path="/orders"), equals=12)
        if name == "GunicornPrometheusMetrics":
            eventually(lambda: scrape(f"http://127.0.0.1:{port}/metrics").sum(COUNT, path="/orders"), equals=12)
        else:
            page = gunicorn.get("/metrics").body.decode()
            families = [family.name for family in text_string_to_metric_families(page)]
            assert len(families) == len(set(families))
            assert families.count("flask_http_request_duration_seconds") == 1
        gunicorn.kill_worker(gunicorn.worker_pids()[0])
        eventually(lambda: scrape(gunicorn.metrics_url).sum("gunicorn_worker_restart_total", reason="kill"), equals=1)
        assert "Traceback" not in gunicorn.log
