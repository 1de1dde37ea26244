"""Routes, sizes and exceptions that frameworks handle by themselves, of the applications in examples/frameworks."""

from typing import NamedTuple

import pytest

from harness import Gunicorn, Venv
from harness.counted import counted
from harness.paths import ROOT

EXAMPLES = ROOT / "examples" / "frameworks"
PACKAGE = "gunicorn_prometheus_exporter"


class Framework(NamedTuple):
    """The names of one framework for the same things."""

    module: str
    worker: str
    item: str
    forbidden: tuple[str, str]
    broken: str
    old: str | None = None
    # Whether the framework answers a defect, or the exception reaches the server.
    broken_by: str = "framework"

    def __str__(self) -> str:
        return f"{self.module}-{self.worker}"


FRAMEWORKS = [
    Framework(
        "django_app", "PrometheusWorker", "/item/<int:number>", ("/forbidden", "PermissionDenied"), "/broken",
        old="/v1/old/<number>/",
    ),
    Framework(
        "pyramid_app", "PrometheusWorker", "/item/{number}", ("/forbidden", "HTTPForbidden"), "/broken",
        broken_by="server",
    ),
    Framework("bottle_app", "PrometheusWorker", "/item/<number:int>", ("/forbidden", "HTTPError"), "/broken"),
    Framework("falcon_app", "PrometheusWorker", "/item/{number:int}", ("/forbidden", "HTTPForbidden"), "/broken"),
    Framework("cherrypy_app", "PrometheusThreadWorker", "Shop.item", ("Shop.forbidden", "HTTPError"), "Shop.broken"),
    Framework(
        "starlette_app", "PrometheusASGIWorker", "/item/{number:int}", ("/forbidden", "HTTPException"), "/broken",
        old="/old/item/{number:int}", broken_by="server",
    ),
    Framework(
        "starlette_app", "PrometheusUvicornWorker", "/item/{number:int}", ("/forbidden", "HTTPException"), "/broken",
        old="/old/item/{number:int}", broken_by="server",
    ),
    Framework(
        "fastapi_app", "PrometheusUvicornWorker", "/item/{number}", ("/forbidden", "HTTPException"), "/broken",
        old="/old/item/{number}", broken_by="server",
    ),
    Framework(
        "fastapi_app", "PrometheusASGIWorker", "/item/{number}", ("/forbidden", "HTTPException"), "/broken",
        old="/old/item/{number}", broken_by="server",
    ),
    Framework("quart_app", "PrometheusUvicornWorker", "/item/<int:number>", ("/forbidden", "Forbidden"), "/broken"),
    Framework("quart_app", "PrometheusASGIWorker", "/item/<int:number>", ("/forbidden", "Forbidden"), "/broken"),
    Framework("tornado_app", "PrometheusTornadoWorker", "/item/([0-9]+)", ("/forbidden", "HTTPError"), "/broken"),
]  # fmt: skip
# Integrations of extensions and adapters, which have no application of their own.
EXTENSIONS = {"adapters", "rest_framework", "werkzeug"}


def test_every_integration_and_every_example_is_tested() -> None:
    """Flask's example is examples/flask_app; FastAPI is covered by the integration of Starlette."""
    package = ROOT / "py-client" / "python" / PACKAGE / "frameworks"
    integrations = {path.stem for path in package.glob("*.py")} - {"__init__", *EXTENSIONS}
    examples = {path.stem for path in EXAMPLES.glob("*_app.py")}
    tested = {framework.module for framework in FRAMEWORKS}
    assert tested == examples
    assert integrations | {"fastapi"} == {module.removesuffix("_app") for module in tested} | {"flask"}


@pytest.mark.parametrize("framework", FRAMEWORKS, ids=str)
def test_routes_sizes_and_errors_of_a_framework_are_on_the_page(framework: Framework) -> None:
    """Nothing of the application changes."""
    with Gunicorn(
        f"{framework.module}:app",
        venv=Venv.frameworks(),
        worker_class=f"{PACKAGE}.{framework.worker}",
        app_directory=EXAMPLES,
    ) as gunicorn:
        answers = [gunicorn.get("/item/1"), gunicorn.get("/item/22")]
        assert [answer.body for answer in answers] == [b"item 1\n", b"item 22\n"]
        upload = gunicorn.request("POST", "/upload", b"x" * 5000, {"Content-Type": "application/octet-stream"})
        assert upload.body == b"5000"
        statuses = [gunicorn.get(path).status for path in ("/forbidden", "/broken", "/nowhere")]
        assert statuses == [403, 500, 404]
        old = "/v1/old/7/" if framework.module == "django_app" else "/old/item/7"
        requests = 6
        if framework.old is not None:
            assert gunicorn.get(old).body == b"item 7\n"
            requests = 7
        seen = counted(gunicorn, requests)

    total, sent = "gunicorn_http_requests_total", "gunicorn_http_response_size_bytes_sum"
    received = "gunicorn_http_request_size_bytes_sum"
    assert seen.value(total, method="GET", endpoint=framework.item, status="200") == 2
    assert seen.value(sent, method="GET", endpoint=framework.item) == 15
    upload_endpoint = framework.item.replace("/item/", "/upload/").split("/upload/")[0] + "/upload"
    if "." in framework.item:
        upload_endpoint = "Shop.upload"
    assert seen.value(received, method="POST", endpoint=upload_endpoint) == 5000
    assert seen.value(total, endpoint="<unmatched>", status="404") == 1
    if framework.old is not None:
        assert seen.value(total, endpoint=framework.old, status="200") == 1

    exceptions = "gunicorn_http_exceptions_total"
    endpoint, name = framework.forbidden
    assert seen.value(total, endpoint=endpoint, status="403") == 1
    assert seen.value(exceptions, endpoint=endpoint, exception=name, method="GET", handled_by="framework") == 1
    assert seen.value(total, endpoint=framework.broken, status="500") == 1
    broken = seen.samples(exceptions, endpoint=framework.broken)
    assert [(sample.labels["exception"], sample.labels["handled_by"], sample.value) for sample in broken] == [
        ("KeyError", framework.broken_by, 1)
    ]
    failed = "gunicorn_worker_failed_requests_total"
    assert seen.values_of("error_type", failed) == {"KeyError"}
    assert seen.sum("gunicorn_exporter_errors_total") == 0
