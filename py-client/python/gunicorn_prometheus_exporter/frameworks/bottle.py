"""Bottle: the rule that was matched, and the exceptions that it makes pages of."""

from __future__ import annotations

from typing import Any

import bottle

from . import ENDPOINT, mounting, name_route, note_error, wrap


def install() -> None:
    """Wraps the step that finds a route, calls its handler and catches what is raised."""
    wrap(bottle.Bottle, "_handle", _handling)


def _handling(original: Any) -> Any:
    def handle(self: Any, environ: Any) -> Any:
        mounting(environ)
        outer = environ.get("bottle.route")
        answer = original(self, environ)
        route = environ.get("bottle.route")
        # What is mounted here may have named a route already, and knows better.
        if route is not None and route is not outer and ENDPOINT not in environ:
            name_route(environ, route.rule)
        # An HTTPError is an answer and an exception in one; it knows what it was made of.
        if isinstance(answer, bottle.HTTPError):
            cause = getattr(answer, "exception", None)
            note_error(environ, cause or answer, unexpected=cause is not None)
        return answer

    return handle
