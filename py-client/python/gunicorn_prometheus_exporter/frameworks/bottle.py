"""Bottle, or an application's copy of it: the matched rule, and the exceptions that it turns into pages."""

from __future__ import annotations

from functools import partial
from typing import Any

from . import ENDPOINT, is_no_error, mounting, name_route, note_error, show_route, wrap


def install(bottle: Any) -> None:
    """Wraps the step that finds a route, calls its handler and catches exceptions."""
    wrap(bottle.Bottle, "_handle", partial(_handling, bottle.HTTPError))
    wrap(bottle.Router, "match", _showing)


def _showing(original: Any) -> Any:
    def match(self: Any, environ: Any) -> Any:
        found = original(self, environ)
        rule = getattr(found[0], "rule", None)
        if rule is not None:
            show_route(environ, rule)
        return found

    return match


def _handling(http_error: Any, original: Any) -> Any:
    def handle(self: Any, environ: Any) -> Any:
        mounting(environ)
        outer = environ.get("bottle.route")
        answer = original(self, environ)
        route = environ.get("bottle.route")
        is_error = isinstance(answer, http_error) and not is_no_error(answer.status_code)
        if (route is None or route is outer) and is_error:
            route = _route_for_another_method(self, environ, answer)
        # A mounted application may have named a route already, and knows it better.
        if route is not None and route is not outer and ENDPOINT not in environ:
            name_route(environ, route.rule)
        # An HTTPError is a response and an exception in one; it knows its cause.
        if is_error:
            cause = getattr(answer, "exception", None)
            note_error(environ, cause or answer, unexpected=cause is not None, is_answer=cause is None)
        return answer

    return handle


def _route_for_another_method(app: Any, environ: Any, answer: Any) -> Any:
    """Returns the route of a path without a handler for the method of the request: 405."""
    allowed = answer.get_header("Allow") if answer.status_code == 405 else None
    if not allowed:
        return None
    try:
        return app.router.match({**environ, "REQUEST_METHOD": allowed.partition(",")[0]})[0]
    except Exception:  # an HTTPError: it is not there either
        return None
