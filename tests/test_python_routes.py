"""Route templates of applications with parts: mounted, included, prefixed, nested."""

from typing import NamedTuple

import pytest

from harness import Gunicorn, Venv
from harness.counted import EXCEPTIONS, TOTAL, counted
from harness.paths import TESTS

UNMATCHED = "<unmatched>"
REDIRECT = "<redirect>"


class Step(NamedTuple):
    """A request, and its expected labels."""

    request: str
    status: int
    endpoint: str
    host: str = "localhost"


APPLICATIONS: dict[str, list[Step]] = {
    "PrometheusWorker flask_parts:app": [
        Step("GET /outer/one/x", 200, "/outer/one/<name>"),
        Step("GET /outer/inner/de/7", 200, "/outer/inner/<lang>/<int:number>"),
        Step("GET /again/inner/de/7", 200, "/again/inner/<lang>/<int:number>"),
        Step("GET /users/7", 200, "/users/<int:number>"),
        Step("POST /users/8", 405, "/users/<int:number>"),
        Step("GET /users/x", 404, UNMATCHED),
        Step("GET /admin/users/7", 200, "/admin/users/<int:number>"),
        Step("GET /deep/admin/users/7", 200, "/deep/admin/users/<int:number>"),
        Step("GET /admin/none", 404, UNMATCHED),
        Step("GET /plain/x", 200, "/plain/*"),
        Step("GET /plain/y", 200, "/plain/*"),
        Step("GET /folder", 308, REDIRECT),
        Step("GET /files/a/b", 200, "/files/<path:name>"),
        Step("GET /assets/flask_parts.py", 200, "/assets/<path:filename>"),
        Step("GET /assets/none", 404, "/assets/<path:filename>"),
        Step("OPTIONS /users/9", 200, "/users/<int:number>"),
    ],
    "PrometheusWorker flask_extended:around": [
        Step("GET /early/17", 200, UNMATCHED),
        Step("GET /moved/17", 301, REDIRECT),
        Step("GET /users/7", 200, "/users/<int:number>"),
    ],
    "PrometheusWorker bottle_vendored:app": [
        Step("GET /own/x", 200, "/own/<name>"),
        Step("GET /own/y", 200, "/own/<name>"),
        Step("POST /own/y", 405, "/own/<name>"),
        Step("GET /none", 404, UNMATCHED),
        Step("GET /moved/17", 303, REDIRECT),
    ],
    "PrometheusWorker bottle_renamed:app": [
        Step("GET /own/x", 200, "/own/<name>"),
        Step("GET /own/y", 200, "/own/<name>"),
        Step("GET /none", 404, UNMATCHED),
    ],
    "PrometheusWorker django_parts:app": [],
    "PrometheusUvicornWorker django_parts:asgi_app": [],
    "PrometheusWorker pyramid_parts:app": [
        Step("GET /prefix/t1/part/7", 200, "/prefix/{tenant}/part/{number:\\d+}"),
        Step("GET /hybrid/me/a", 200, "/hybrid/{user}/*traverse"),
        Step("POST /only/posts", 200, "/only/posts"),
        Step("GET /assets/none.txt", 404, "/assets/*subpath"),
        Step("GET /assets/pyramid_parts.py", 200, "/assets/*subpath"),
        Step("GET /a/b/edit", 200, "Node.edit"),
        Step("GET /a/b", 200, "Node"),
        Step("GET /a/b/leaf", 200, "Leaf"),
        Step("GET /a/b/nowhere", 404, UNMATCHED),
        Step("GET /nowhere/moved/17", 307, REDIRECT),
        Step("GET /early/17", 200, UNMATCHED),
    ],
    "PrometheusWorker bottle_parts:app": [
        Step("GET /own/x", 200, "/own/<name>"),
        Step("GET /only/posts", 405, "/only/posts"),
        Step("GET /none", 404, UNMATCHED),
        Step("GET /files/a/b", 404, "/files/<name:path>"),
        Step("GET /merged/one/7", 200, "/merged/one/<number:int>"),
        Step("GET /flask/users/7", 200, "/flask/users/<int:number>"),
        Step("GET /flask/none", 404, "/flask/<:re:.*>"),
        Step("GET /wrapped/one/7", 200, "/wrapped/one/<number:int>"),
        Step("GET /wrapped/none", 404, "/wrapped/<:re:.*>"),
        Step("GET /plain/x", 200, "/plain/<:re:.*>"),
        Step("GET /early/17", 200, UNMATCHED),
        Step("GET /moved/17", 302, REDIRECT),
    ],
    "PrometheusWorker falcon_parts:app": [
        Step("GET /things/7", 200, "/things/{number:int(min=1)}"),
        Step("GET /things", 200, "/things"),
        Step("POST /things", 405, "/things"),
        Step("GET /early/17", 200, UNMATCHED),
        Step("GET /moved/17", 301, REDIRECT),
        Step("GET /path/a/b", 200, "/path/{rest:path}"),
        Step("GET /sink/abc/d", 200, "/sink/(?P<name>[a-z]+)/*"),
        Step("GET /assets/falcon_parts.py", 200, "/assets/*"),
        Step("GET /assets/none", 404, "/assets/*"),
        Step("GET /none", 404, UNMATCHED),
    ],
    "PrometheusUvicornWorker falcon_parts:asgi_app": [
        Step("GET /things/7", 200, "/things/{number:int(min=1)}"),
        Step("POST /things", 405, "/things"),
        Step("GET /none", 404, UNMATCHED),
    ],
    "PrometheusWorker cherrypy_parts:app": [
        Step("GET /", 200, "Root.index"),
        Step("GET /part/", 200, "Part.index"),
        Step("GET /part/a/b", 200, "Part.default"),
        Step("GET /resource/7", 200, "Resource.GET"),
        Step("POST /resource", 200, "Resource.POST"),
        Step("PUT /resource", 405, "Resource"),
        Step("GET /mounted/x", 200, "Part.default"),
        Step("GET /flask/users/7", 200, "/flask/users/<int:number>"),
        Step("GET /part", 301, "Part.index"),
        Step("GET /assets/cherrypy_parts.py", 200, "/assets/*"),
        Step("GET /assets/none", 404, "/assets/*"),
        Step("GET /grafted/x", 200, "/grafted/*"),
        Step("GET /none", 404, UNMATCHED),
    ],
    "PrometheusASGIWorker starlette_parts:app": [],
    "PrometheusUvicornWorker fastapi_parts:app": [
        Step("GET /users/7", 200, "/users/{number}"),
        Step("GET /blocking/7", 200, "/blocking/{number}"),
        Step("GET /users/x", 422, "/users/{number}"),
        Step("POST /users/7", 405, "/users/{number}"),
        Step("GET /refused/7", 401, "/refused/{number}"),
        Step("GET /v1/outer/t/one", 200, "/v1/outer/{tenant}/one"),
        Step("GET /v2/outer/t/inner/7", 200, "/v2/outer/{tenant}/inner/{number}"),
        Step("GET /part/users/7", 200, "/part/users/{number}"),
        Step("GET /part/none", 404, "/part"),
        Step("GET /users/7/", 307, REDIRECT),
        Step("GET /part/users/7/", 307, "/part"),
        Step("GET /early/17", 200, UNMATCHED),
        Step("GET /moved/17", 301, REDIRECT),
        Step("GET /assets/none", 404, "/assets"),
        Step("GET /assets/fastapi_parts.py", 200, "/assets"),
        Step("GET /openapi.json", 200, "/openapi.json"),
        Step("GET /docs", 200, "/docs"),
        Step("GET /none", 404, UNMATCHED),
    ],
}
APPLICATIONS["PrometheusTornadoWorker tornado_parts:app"] = [
    Step("GET /text/x", 200, r"/text/(?P<name>\w+)"),
    Step("GET /part/one/7", 200, "/part/one/(?P<number>[0-9]+)"),
    Step("GET /part/none/7", 404, UNMATCHED),
    Step("GET /plain/x", 200, "/plain/.*"),
    Step("GET /assets/tornado_parts.py", 200, "/assets/(.*)"),
    Step("GET /assets/none", 404, "/assets/(.*)"),
    Step("GET /hosted/x", 200, r"/hosted/(?P<name>\w+)", host="api.example.org"),
    Step("GET /hosted/x", 404, UNMATCHED),
    Step("POST /text/x", 405, r"/text/(?P<name>\w+)"),
]
_DJANGO = [
    Step("GET /", 200, "/"),
    Step("GET /v1/leaf/x", 301, REDIRECT),
    Step("GET /v1/leaf/x/", 200, "/v1/leaf/<slug:name>/"),
    Step("GET /v1/old/2024/", 200, "/v1/old/<number>/"),
    Step("GET /tenants/7/leaf/x/", 200, "/tenants/<int:tenant>/leaf/<slug:name>/"),
    Step("GET /patterns/7", 200, "/patterns/<number>"),
    Step("GET /users/7", 200, "/users/<int:number>"),
    Step("POST /users/7", 405, "/users/<int:number>"),
    Step("GET /gone/7", 404, "/gone/<int:number>"),
    Step("GET /api/things/", 200, "/api/things/"),
    Step("GET /api/things/7/", 200, "/api/things/<pk>/"),
    Step("GET /api/things/0/", 429, "/api/things/<pk>/"),
    Step("DELETE /api/things/7/", 405, "/api/things/<pk>/"),
    Step("GET /api/things.json", 200, "/api/things.<format>"),
    Step("GET /de/greet/x", 200, "/de/greet/<str:name>"),
    Step("GET /en/greet/x", 200, "/en/greet/<str:name>"),
    Step("GET /greet/x", 302, REDIRECT),
    Step("GET /early/17", 200, UNMATCHED),
    Step("GET /none", 404, UNMATCHED),
]
APPLICATIONS["PrometheusWorker django_parts:app"] = _DJANGO
APPLICATIONS["PrometheusUvicornWorker django_parts:asgi_app"] = _DJANGO
_STARLETTE = [
    Step("GET /one/two/t/leaf/7", 200, "/one/two/{tenant}/leaf/{number:int}"),
    Step("GET /one/two/t/", 200, "/one/two/{tenant}/"),
    Step("GET /one/leaf", 200, "/one/leaf"),
    Step("GET /one/none", 404, "/one"),
    Step("GET /app/leaf/7", 200, "/app/leaf/{number:int}"),
    Step("POST /app/leaf/7", 405, "/app/leaf/{number:int}"),
    Step("GET /assets/starlette_parts.py", 200, "/assets"),
    Step("GET /assets/none", 404, "/assets"),
    Step("GET /leaf/7", 200, "/leaf/{number:int}", host="api.example.org"),
    Step("GET /leaf/7", 404, UNMATCHED),
    Step("GET /things/7", 200, "/things/{number}"),
    Step("PATCH /things/7", 405, "/things/{number}"),
    Step("GET /files/a/b", 200, "/files/{name:path}"),
    Step("GET /things/7/", 307, REDIRECT),
]
APPLICATIONS["PrometheusASGIWorker starlette_parts:app"] = _STARLETTE
_ADAPTED = [
    Step("GET /users/7", 200, "/users/<int:number>"),
    Step("POST /users/7", 405, "/users/<int:number>"),
    Step("GET /slash/7", 308, REDIRECT),
    Step("GET /slash/7/", 200, "/slash/<int:number>/"),
    Step("GET /broken/7", 500, "/broken/<int:number>"),
    Step("GET /none/7", 404, UNMATCHED),
]
for _adapter in ("asgiref", "a2wsgi", "uvicorn", "starlette"):
    APPLICATIONS[f"PrometheusUvicornWorker adapted:by_{_adapter}"] = _ADAPTED
APPLICATIONS["PrometheusASGIWorker adapted:by_a2wsgi"] = _ADAPTED
APPLICATIONS["PrometheusUvicornWorker adapted:mounted"] = [
    Step("GET /shop/t/users/7", 200, "/shop/{tenant}/users/<int:number>"),
    Step("GET /shop/t/broken/7", 500, "/shop/{tenant}/broken/<int:number>"),
    Step("GET /shop/t/none/7", 404, "/shop/{tenant}"),
    Step("GET /plain/users/7", 200, "/plain/users/<int:number>"),
    Step("GET /none/7", 404, UNMATCHED),
]
_QUART = [
    Step("GET /users/7", 200, "/users/<int:number>"),
    Step("POST /users/7", 405, "/users/<int:number>"),
    Step("GET /slash/7", 308, REDIRECT),
    Step("GET /slash/7/", 200, "/slash/<int:number>/"),
    Step("GET /parts/leaf/x", 200, "/parts/leaf/<name>"),
    Step("GET /parts/gone/x", 404, "/parts/gone/<name>"),
    Step("GET /parts/broken/x", 500, "/parts/broken/<name>"),
    Step("GET /none/7", 404, UNMATCHED),
]
APPLICATIONS["PrometheusUvicornWorker quart_parts:app"] = _QUART
APPLICATIONS["PrometheusASGIWorker quart_parts:app"] = _QUART


# The class of each framework for a refusal; bottle answers a defect with status 500, whatever handlers there are.
ANSWERING = {
    "PrometheusWorker flask_app": "Forbidden",
    "PrometheusWorker bottle_app": "HTTPError",
    "PrometheusWorker falcon_app": "HTTPForbidden",
    "PrometheusWorker pyramid_app": "HTTPForbidden",
    "PrometheusUvicornWorker falcon_asgi_app": "HTTPForbidden",
    "PrometheusUvicornWorker starlette_app": "HTTPException",
    "PrometheusASGIWorker quart_app": "Forbidden",
}


@pytest.mark.parametrize("application", ANSWERING)
def test_the_frameworks_own_exceptions_count_if_the_answer_is_an_error_and_others_always(application: str) -> None:
    worker, app = application.split()
    with Gunicorn(
        f"answering:{app}",
        venv=Venv.frameworks(),
        worker_class=f"gunicorn_prometheus_exporter.{worker}",
        app_directory=TESTS / "apps" / "routing",
    ) as gunicorn:
        paths = {"/missing": 200, "/refused": 403} | ({} if app == "bottle_app" else {"/defect": 200})
        assert {path: gunicorn.get(path).status for path in paths} == paths
        seen = counted(gunicorn, len(paths))
    found = {
        (sample.labels["endpoint"], sample.labels["exception"]): sample.value for sample in seen.samples(EXCEPTIONS)
    }
    wanted = {("/refused", ANSWERING[application]): 1.0} | (
        {("/defect", "KeyError"): 1.0} if "/defect" in paths else {}
    )
    assert found == wanted
    handled = seen.samples("gunicorn_worker_error_handling_total")
    assert {(sample.labels["endpoint"], sample.labels["error_type"]): sample.value for sample in handled} == wanted


@pytest.mark.parametrize("application", APPLICATIONS)
def test_parts_of_an_application_make_one_template(application: str) -> None:
    """The template contains the whole path, as a client sees it."""
    worker, app = application.split()
    steps = APPLICATIONS[application]
    wanted: dict[tuple[str, str, str], float] = {}
    with Gunicorn(
        app,
        venv=Venv.frameworks(),
        worker_class=f"gunicorn_prometheus_exporter.{worker}",
        app_directory=TESTS / "apps" / "routing",
    ) as gunicorn:
        for step in steps:
            method, path = step.request.split()
            body = b"" if method == "POST" else None
            assert gunicorn.request(method, path, body, {"Host": step.host}).status == step.status, step
            key = (method, step.endpoint, str(step.status))
            wanted[key] = wanted.get(key, 0) + 1
        seen = counted(gunicorn, len(steps))
    found = {
        (sample.labels["method"], sample.labels["endpoint"], sample.labels["status"]): sample.value
        for sample in seen.samples(TOTAL)
    }
    different = sorted((key, found.get(key), wanted.get(key)) for key in found.keys() | wanted.keys())
    assert [one for one in different if one[1] != one[2]] == [], "labels, found, wanted"
    # A redirect, and every other answer below 400, is no exception, whatever the framework raises on the way.
    failed = {step.endpoint for step in steps if step.status >= 400}
    exceptions = [sample.labels for sample in seen.samples(EXCEPTIONS)]
    assert [labels for labels in exceptions if labels["endpoint"] not in failed] == []
    assert seen.sum("gunicorn_exporter_errors_total") == 0
