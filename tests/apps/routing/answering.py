"""Applications whose handlers answer exceptions: the framework's own 404 and a defect with 200, a refusal with 403.

Of each: ``/missing`` raises what the framework has for a missing page, ``/defect`` a ``KeyError``, ``/refused`` what
the framework has for a refusal.
"""

# mypy: disable-error-code="untyped-decorator"

from typing import Any, NoReturn

import bottle
import falcon
import falcon.asgi
import flask
import pyramid.httpexceptions
import pyramid.response
import quart
import werkzeug.exceptions
from pyramid.config import Configurator
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse
from starlette.routing import Route

OK = "answered\n"


def _defect(*_: Any, **__: Any) -> NoReturn:
    raise KeyError("a defect")


def _werkzeug_views(app: Any) -> Any:
    app.add_url_rule("/missing", "missing", lambda: flask.abort(404))
    app.add_url_rule("/defect", "defect", _defect)
    app.add_url_rule("/refused", "refused", lambda: flask.abort(403))
    app.register_error_handler(werkzeug.exceptions.NotFound, lambda _error: OK)
    app.register_error_handler(KeyError, lambda _error: OK)
    return app


flask_app = _werkzeug_views(flask.Flask(__name__))
quart_app = _werkzeug_views(quart.Quart(__name__))

bottle_app = bottle.Bottle()
bottle_app.get("/missing", callback=lambda: bottle.abort(404))
bottle_app.get("/refused", callback=lambda: bottle.abort(403))


@bottle_app.error(404)
def _bottle_answer(_error: bottle.HTTPError) -> str:
    bottle.response.status = 200
    return OK


class _Raising:
    def __init__(self, error: Exception) -> None:
        self.error = error

    def on_get(self, _req: Any, _resp: Any) -> None:
        """Raises it."""
        raise self.error


class _RaisingAsync:
    def __init__(self, error: Exception) -> None:
        self.error = error

    async def on_get(self, _req: Any, _resp: Any) -> None:
        """Raises it."""
        raise self.error


def _falcon_answer(_req: Any, resp: Any, *_: Any) -> None:
    resp.status, resp.text = 200, OK


async def _falcon_answer_async(_req: Any, resp: Any, *_: Any, **__: Any) -> None:
    resp.status, resp.text = 200, OK


def _falcon(app: Any, raising: Any, answer: Any) -> Any:
    app.add_route("/missing", raising(falcon.HTTPNotFound()))
    app.add_route("/defect", raising(KeyError("a defect")))
    app.add_route("/refused", raising(falcon.HTTPForbidden()))
    app.add_error_handler(falcon.HTTPNotFound, answer)
    app.add_error_handler(KeyError, answer)
    return app


falcon_app = _falcon(falcon.App(), _Raising, _falcon_answer)
falcon_asgi_app = _falcon(falcon.asgi.App(), _RaisingAsync, _falcon_answer_async)


async def _starlette_answer(_request: Any, _error: Exception) -> PlainTextResponse:
    return PlainTextResponse(OK)


async def _missing(_request: Any) -> NoReturn:
    raise HTTPException(404)


async def _refused(_request: Any) -> NoReturn:
    raise HTTPException(403)


async def _starlette_defect(_request: Any) -> NoReturn:
    _defect()


starlette_app = Starlette(
    routes=[Route("/missing", _missing), Route("/defect", _starlette_defect), Route("/refused", _refused)],
    exception_handlers={404: _starlette_answer, KeyError: _starlette_answer},
)


def _pyramid_raising(error: type[Exception]) -> Any:
    def view(_request: Any) -> NoReturn:
        raise error()

    return view


def _pyramid_answer(_request: Any) -> pyramid.response.Response:
    return pyramid.response.Response(OK)


with Configurator() as _config:
    for _name, _error in (
        ("missing", pyramid.httpexceptions.HTTPNotFound),
        ("defect", KeyError),
        ("refused", pyramid.httpexceptions.HTTPForbidden),
    ):
        _config.add_route(_name, f"/{_name}")
        _config.add_view(_pyramid_raising(_error), route_name=_name)
    _config.add_notfound_view(_pyramid_answer)
    _config.add_exception_view(_pyramid_answer, context=KeyError)
    pyramid_app = _config.make_wsgi_app()
