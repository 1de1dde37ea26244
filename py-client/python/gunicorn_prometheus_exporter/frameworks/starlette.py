"""Starlette and FastAPI: the path of the route, after those of its mounts, and handled exceptions."""

from __future__ import annotations

import functools
import sys
from typing import Any

import starlette.routing
from starlette import _exception_handler

from . import REQUEST, is_no_error, wrap, wrap_everywhere


def install(_routing: Any) -> None:
    """Wraps the step that every matched request passes, and the place where exceptions are handled."""
    wrap(starlette.routing.Mount, "handle", functools.partial(_naming, joins=True))
    wrap(starlette.routing.Route, "handle", functools.partial(_naming, joins=False))
    fastapi = sys.modules.get("fastapi.routing")
    route = getattr(fastapi, "APIRoute", None)
    if "handle" in vars(route or object):
        wrap(route, "handle", functools.partial(_naming, joins=False))
    # Modules import it by name, and so may those of applications.
    wrap_everywhere(_exception_handler, "wrap_app_handling_exceptions", _noting)


def _naming(original: Any, *, joins: bool) -> Any:
    async def handle(self: Any, scope: Any, receive: Any, send: Any) -> None:
        request = scope.get(REQUEST)
        if request is not None:
            # A mount's path is the beginning of the path of the route in it.
            prefix, request.prefix = request.prefix, ""
            if joins:
                request.endpoint = request.prefix = prefix + self.path
            elif not request.has_route:
                request.has_route = True
                request.endpoint = prefix + _path(self, scope)
        await original(self, scope, receive, send)

    return handle


def _path(route: Any, scope: Any) -> str:
    # A router that FastAPI includes keeps its routes' own paths; the whole path is here.
    context = scope.get("fastapi", {}).get("effective_route_context")
    path = getattr(context, "path", None) if getattr(context, "original_route", None) is route else None
    return str(path or route.path)


def _noting(original: Any) -> Any:
    @functools.wraps(original)
    def wrap_app_handling_exceptions(app: Any, conn: Any) -> Any:
        async def noting(scope: Any, receive: Any, send: Any) -> None:
            try:
                await app(scope, receive, send)
            except Exception as error:
                request = conn.scope.get(REQUEST)
                status = getattr(error, "status_code", None)
                if request is not None and not is_no_error(status):
                    request.note_error(error, is_answer=status is not None)
                raise

        return original(noting, conn)

    return wrap_app_handling_exceptions
