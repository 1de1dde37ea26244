"""Exceptions that frameworks and their extensions answer are counted once, also if they bound functions at import."""

import pytest

from harness import Gunicorn, Venv
from harness.counted import TOTAL, counted
from harness.paths import TESTS

EXCEPTIONS = "gunicorn_http_exceptions_total"
FAILED = "gunicorn_worker_failed_requests_total"
HANDLED = "gunicorn_worker_error_handling_total"
RESPONSES = "gunicorn_http_response_size_bytes_sum"


def started(application: str, **options: object) -> Gunicorn:
    """Returns one worker with an application of `apps/routing`."""
    return Gunicorn(
        application,
        venv=Venv.frameworks(),
        worker_class="gunicorn_prometheus_exporter.PrometheusWorker",
        app_directory=TESTS / "apps" / "routing",
        **options,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    "application", ["cors", "restful", "restx", "paranoid", "everything", "own_handlers", "own_dispatch"]
)
def test_extensions_that_bind_flasks_error_handlers_hide_no_exception(application: str) -> None:
    has_api = application in ("restful", "restx", "everything")
    with started(f"flask_extended:{application}") as gunicorn:
        paths = ["/broken", "/teapot", "/expected", *(["/api/refused", "/api/broken"] if has_api else [])]
        for path in paths:
            assert gunicorn.get(path).status in (400, 403, 418, 500)
        seen = counted(gunicorn, len(paths))
    found = {
        (sample.labels["endpoint"], sample.labels["exception"]): sample.value for sample in seen.samples(EXCEPTIONS)
    }
    wanted = {("/broken", "ZeroDivisionError"): 1, ("/teapot", "ImATeapot"): 1, ("/expected", "LookupError"): 1}
    if has_api:
        wanted |= {("/api/<what>", "ZeroDivisionError"): 1, ("/api/<what>", "Forbidden"): 1}
    assert found == wanted
    assert seen.values_of("handled_by", EXCEPTIONS) == {"framework"}
    if application != "own_handlers":
        assert {sample.labels["error_type"]: sample.value for sample in seen.samples(FAILED, endpoint="/broken")} == {
            "ZeroDivisionError": 1
        }


def test_a_redirect_that_is_raised_is_not_counted_as_an_exception() -> None:
    with started("flask_extended:everything") as gunicorn:
        assert gunicorn.get("/moved").status == 302
        seen = counted(gunicorn, 1)
    assert seen.samples(EXCEPTIONS) == []


def test_an_exception_that_reaches_the_server_is_counted_once() -> None:
    """The page with which Gunicorn answers is part of the sent bytes."""
    with started("flask_extended:propagated") as gunicorn:
        answer = gunicorn.get("/broken")
        assert answer.status == 500
        seen = counted(gunicorn, 1)
    assert seen.sum(FAILED) == seen.sum(HANDLED) == seen.sum(EXCEPTIONS) == 1
    assert seen.value(EXCEPTIONS, endpoint="/broken", exception="ZeroDivisionError", handled_by="server") == 1
    assert seen.value(RESPONSES, endpoint="/broken") == len(answer.body) > 100
    assert seen.sum("gunicorn_worker_response_size_bytes_sum") == len(answer.body)


def test_exceptions_of_a_vendored_bottle_are_counted() -> None:
    with started("bottle_vendored:app") as gunicorn:
        assert gunicorn.get("/broken").status == 500
        seen = counted(gunicorn, 1)
    assert seen.value(EXCEPTIONS, endpoint="/broken", exception="ZeroDivisionError", handled_by="framework") == 1


def test_exceptions_that_djangos_rest_framework_answers_are_counted() -> None:
    with started("django_parts:app") as gunicorn:
        assert gunicorn.get("/api/things/0/").status == 429
        seen = counted(gunicorn, 1)
    assert seen.value(EXCEPTIONS, endpoint="/api/things/<pk>/", exception="Throttled", handled_by="framework") == 1
    assert seen.samples(FAILED) == []


def test_methods_of_webdav_and_caldav_are_labels() -> None:
    with started("flask_extended:cors") as gunicorn:
        for method in ("PROPFIND", "MKCALENDAR", "REPORT", "LOCK", "BREW"):
            assert gunicorn.request(method, "/teapot").status == 405
        seen = counted(gunicorn, 5)
    assert seen.values_of("method", TOTAL) == {"PROPFIND", "MKCALENDAR", "REPORT", "LOCK", "<other>"}
