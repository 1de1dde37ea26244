"""Django: the route that was resolved, and the exceptions that handlers and Django answer."""

from __future__ import annotations

import sys
from typing import Any

from django.core.handlers import base, exception

from ..asgi import REQUEST
from . import name_route, note_error, wrap


def install() -> None:
    """Wraps the places that every request, and every exception, passes."""
    wrap(base.BaseHandler, "resolve_request", _naming)
    wrap(exception, "response_for_exception", _noting)
    wrap(exception, "handle_uncaught_exception", _noting_uncaught)


def _naming(original: Any) -> Any:
    def resolve_request(self: Any, request: Any) -> Any:
        match = original(self, request)
        route = getattr(match, "route", None)
        if route is not None:
            # As it would be written in a browser; patterns of re_path stay what they are.
            _name(request, route if route.startswith(("/", "^")) else f"/{route}")
        return match

    return resolve_request


def _name(request: Any, endpoint: str) -> None:
    environ = getattr(request, "environ", None)
    if environ is not None:
        name_route(environ, endpoint)
    elif (recorded := getattr(request, "scope", {}).get(REQUEST)) is not None:
        recorded.endpoint = endpoint


def _noting(original: Any) -> Any:
    def response_for_exception(request: Any, exc: Any) -> Any:
        _note(request, exc, unexpected=False)
        return original(request, exc)

    return response_for_exception


def _noting_uncaught(original: Any) -> Any:
    def handle_uncaught_exception(request: Any, resolver: Any, exc_info: Any) -> Any:
        _note(request, exc_info[1] or sys.exc_info()[1], unexpected=True)
        return original(request, resolver, exc_info)

    return handle_uncaught_exception


def _note(request: Any, error: BaseException | None, *, unexpected: bool) -> None:
    if error is None:
        return
    environ = getattr(request, "environ", None)
    if environ is not None:
        note_error(environ, error, unexpected=unexpected)
    elif (recorded := getattr(request, "scope", {}).get(REQUEST)) is not None:
        recorded.note_error(error, unexpected=unexpected)
