"""prometheus_client is loaded when the application imports it, and not before; then it counts as if it had been."""

import pytest

from harness import Gunicorn, eventually, scrape

CLASSES = ["PrometheusWorker", "PrometheusThreadWorker", "PrometheusGeventWorker"]


@pytest.mark.parametrize("worker_class", CLASSES)
def test_an_application_without_metrics_does_not_load_prometheus_client(worker_class: str) -> None:
    with Gunicorn("apps.late:app", worker_class=f"gunicorn_prometheus_exporter.{worker_class}") as gunicorn:
        assert gunicorn.get("/").body == b"False"
        eventually(lambda: scrape(gunicorn.metrics_url).sum("gunicorn_worker_requests_total"), equals=1)
        assert gunicorn.get("/").body == b"False"


@pytest.mark.parametrize("worker_class", CLASSES)
@pytest.mark.parametrize("arguments", [[], ["--preload"]])
def test_metrics_that_come_with_a_request_are_counted_over_all_workers(worker_class: str, arguments: list[str]) -> None:
    """The function of a gauge is evaluated too."""
    with Gunicorn(
        "apps.late:app",
        workers=2,
        arguments=arguments,
        worker_class=f"gunicorn_prometheus_exporter.{worker_class}",
    ) as gunicorn:
        assert [gunicorn.get("/order").body for _ in range(20)] == [b"True"] * 20
        eventually(lambda: scrape(gunicorn.metrics_url).value("late_orders_total"), equals=20)
        eventually(lambda: scrape(gunicorn.metrics_url).value("late_level") in (3, 6), equals=True)
        gunicorn.kill_worker(gunicorn.worker_pids()[0])
        gunicorn.get("/order")
        eventually(lambda: scrape(gunicorn.metrics_url).value("late_orders_total"), equals=21)
        assert "no page" not in gunicorn.log
