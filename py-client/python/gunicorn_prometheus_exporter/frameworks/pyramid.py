"""Pyramid: the pattern of the matched route, or the class that traversal found; exceptions that views answer."""

from __future__ import annotations

import sys
from typing import Any

import pyramid.router
import pyramid.urldispatch
import pyramid.view
from pyramid.exceptions import PredicateMismatch

from . import is_no_error, name_handler, name_route, note_error, show_route, wrap


def install(_router: Any) -> None:
    """Wraps the step around all tweens, and the one that calls an exception view."""
    # Tweens are made earlier, with the application; the wrapped functions are looked up at each call.
    wrap(pyramid.router.Router, "invoke_request", _naming)
    wrap(pyramid.router, "_call_view", _naming_view)
    wrap(pyramid.urldispatch.RoutesMapper, "__call__", _showing)
    # Pyramid's own tween calls it, and those of applications that answer exceptions themselves.
    wrap(pyramid.view.ViewMethodsMixin, "invoke_exception_view", _noting)


def _showing(original: Any) -> Any:
    def call(self: Any, request: Any) -> Any:
        found = original(self, request)
        route = found.get("route")
        if route is not None:
            show_route(request.environ, _template(route))
        return found

    return call


def _template(route: Any) -> str:
    pattern: str = route.pattern
    return pattern if pattern.startswith("/") else f"/{pattern}"


def _naming(original: Any) -> Any:
    def invoke_request(self: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return original(self, request, *args, **kwargs)
        finally:
            route = getattr(request, "matched_route", None)
            if route is not None:
                name_route(request.environ, _template(route))

    return invoke_request


def _naming_view(original: Any) -> Any:
    def call_view(registry: Any, request: Any, context: Any, context_iface: Any, view_name: str, **more: Any) -> Any:
        def name() -> None:
            if getattr(request, "matched_route", None) is None:
                found = type(context).__qualname__
                name_handler(request.environ, f"{found}.{view_name}" if view_name else found)

        try:
            response = original(registry, request, context, context_iface, view_name, **more)
        except PredicateMismatch:
            raise  # there is no such view, so its name may be anything
        except Exception:
            name()
            raise
        if response is not None:
            name()
        return response

    return call_view


def _noting(original: Any) -> Any:
    def invoke_exception_view(self: Any, exc_info: Any = None, request: Any = None, *args: Any, **kwargs: Any) -> Any:
        error = (exc_info or sys.exc_info())[1]
        # Raises if there is no view for it; then the exception reaches the server.
        response = original(self, exc_info, request, *args, **kwargs)
        environ = getattr(self if request is None else request, "environ", None)
        status = getattr(error, "status_int", None)
        if error is not None and environ is not None and not is_no_error(status):
            note_error(environ, error, is_answer=status is not None)
        return response

    return invoke_exception_view
