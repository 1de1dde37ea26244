"""Pyramid: the pattern of the matched route, or the class that traversal has found; exceptions that views answer."""

from __future__ import annotations

from typing import Any

import pyramid.router
from pyramid import tweens
from pyramid.exceptions import PredicateMismatch

from . import name_handler, name_route, note_error, wrap


def install() -> None:
    """Wraps the step round all tweens, and the one that looks for an exception view."""
    # Tweens are made with the application, before this; what is wrapped here is looked up at each call.
    wrap(pyramid.router.Router, "invoke_request", _naming)
    wrap(pyramid.router, "_call_view", _naming_view)
    wrap(tweens, "_error_handler", _noting)


def _naming(original: Any) -> Any:
    def invoke_request(self: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return original(self, request, *args, **kwargs)
        finally:
            route = getattr(request, "matched_route", None)
            if route is not None:
                name_route(request.environ, route.pattern if route.pattern.startswith("/") else f"/{route.pattern}")

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
            raise  # there is no such view: its name may be anything
        except Exception:
            name()
            raise
        if response is not None:
            name()
        return response

    return call_view


def _noting(original: Any) -> Any:
    def error_handler(request: Any, exc: Any) -> Any:
        # Raises where there is no view for it; then it comes as far as the server.
        response = original(request, exc)
        note_error(request.environ, exc)
        return response

    return error_handler
