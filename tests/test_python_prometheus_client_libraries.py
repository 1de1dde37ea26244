"""Libraries that declare metrics with prometheus_client work unchanged, over all workers."""

import pytest

from harness import Gunicorn, Scrape, Venv, eventually, scrape
from harness.paths import ROOT

EXAMPLES = ROOT / "examples" / "libraries"
WSGI = "gunicorn_prometheus_exporter.PrometheusWorker"
UVICORN = "gunicorn_prometheus_exporter.PrometheusUvicornWorker"
ASGI = "gunicorn_prometheus_exporter.PrometheusASGIWorker"
TEXT = "text/plain"
# For each: application, worker class, its counter of requests, and the labels of the requested route.
LIBRARIES = {
    "prometheus-flask-exporter": (
        "flask_exporter_app:app",
        WSGI,
        "flask_http_request_duration_seconds_count",
        {"method": "GET", "status": "200", "path": "/orders/3"},
    ),
    "django-prometheus": (
        "django_prometheus_app:app",
        WSGI,
        "django_http_responses_total_by_status_view_method_total",
        {"method": "GET", "status": "200", "view": "order"},
    ),
    "starlette_exporter on uvicorn": (
        "starlette_exporter_app:app",
        UVICORN,
        "starlette_requests_total",
        {"method": "GET", "status_code": "200", "path": "/orders/{number}"},
    ),
    "starlette_exporter on gunicorn": (
        "starlette_exporter_app:app",
        ASGI,
        "starlette_requests_total",
        {"method": "GET", "status_code": "200", "path": "/orders/{number}"},
    ),
    "prometheus-fastapi-instrumentator on uvicorn": (
        "fastapi_instrumentator_app:app",
        UVICORN,
        "http_requests_total",
        {"method": "GET", "status": "2xx", "handler": "/orders/{number}"},
    ),
    "prometheus-fastapi-instrumentator on gunicorn": (
        "fastapi_instrumentator_app:app",
        ASGI,
        "http_requests_total",
        {"method": "GET", "status": "2xx", "handler": "/orders/{number}"},
    ),
}
REQUESTS = 20


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_librarys_page_and_ours_show_the_counts_of_all_workers(library: str) -> None:
    """The counts are exact, whichever worker answers the library's page."""
    app, worker_class, name, labels = LIBRARIES[library]
    with Gunicorn(app, workers=3, worker_class=worker_class, venv=Venv.libraries(), app_directory=EXAMPLES) as gunicorn:
        assert {gunicorn.get("/orders/3").status for _ in range(REQUESTS)} == {200}
        # A client gets the response before the worker has counted it.
        eventually(lambda: scrape(gunicorn.metrics_url).value(name, **labels), equals=REQUESTS)
        for _ in range(6):
            own = gunicorn.get("/metrics")
            assert own.status == 200
            assert Scrape(own.body.decode(), TEXT).value(name, **labels) == REQUESTS


def test_an_info_that_several_workers_set_is_shown_once() -> None:
    """An info is shown once, although several workers set it."""
    with Gunicorn("flask_exporter_app:app", workers=3, venv=Venv.libraries(), app_directory=EXAMPLES) as gunicorn:
        eventually(lambda: scrape(gunicorn.metrics_url).value("app_info", version="1.0"), equals=1)
