"""Libraries that declare their metrics with prometheus_client work on top, unchanged, over all workers."""

from harness import Gunicorn, Scrape, Venv, eventually, scrape

TEXT = "text/plain"


def test_prometheus_flask_exporter() -> None:
    """Its own /metrics, in whichever worker, and our page say the same."""
    with Gunicorn("apps.flask_exported:app", workers=3, venv=Venv.libraries()) as gunicorn:
        for number in range(20):
            gunicorn.get(f"/orders/{number}")
        for _ in range(3):
            own = Scrape(gunicorn.get("/metrics").body.decode(), TEXT)
            assert own.value("flask_http_request_total", method="GET", status="200") >= 20
        ours = scrape(gunicorn.metrics_url)
        assert ours.sum("flask_http_request_duration_seconds_count", path="/orders/3") == 1
        assert ours.value("app_info", version="1.0") == 1


def test_django_prometheus() -> None:
    """Its own /metrics, in whichever worker, and our page say the same."""
    with Gunicorn("apps.django_exported:app", workers=3, venv=Venv.libraries()) as gunicorn:
        for number in range(20):
            gunicorn.get(f"/orders/{number}")
        name = "django_http_responses_total_by_status_view_method_total"
        for _ in range(3):
            own = Scrape(gunicorn.get("/metrics").body.decode(), TEXT)
            assert own.value(name, status="200", view="order", method="GET") == 20
        eventually(
            lambda: scrape(gunicorn.metrics_url).value(name, status="200", view="order", method="GET"), equals=20
        )
