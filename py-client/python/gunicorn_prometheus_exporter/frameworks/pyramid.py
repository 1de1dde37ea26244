"""Pyramid: the pattern of the matched route, and the exceptions that exception views answer."""

from __future__ import annotations

from typing import Any

import pyramid.router
from pyramid import tweens

from . import ENDPOINT, note_error, wrap


def install() -> None:
    """Wraps the step round all tweens, and the one that looks for an exception view."""
    # Tweens are made with the application, before this; what is wrapped here is looked up at each call.
    wrap(pyramid.router.Router, "invoke_request", _naming)
    wrap(tweens, "_error_handler", _noting)


def _naming(original: Any) -> Any:
    def invoke_request(self: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return original(self, request, *args, **kwargs)
        finally:
            route = getattr(request, "matched_route", None)
            if route is not None:
                request.environ[ENDPOINT] = route.pattern if route.pattern.startswith("/") else f"/{route.pattern}"

    return invoke_request


def _noting(original: Any) -> Any:
    def error_handler(request: Any, exc: Any) -> Any:
        # Raises where there is no view for it; then it comes as far as the server.
        response = original(request, exc)
        note_error(request.environ, exc)
        return response

    return error_handler
