"""Django's REST framework, whose views answer exceptions before Django gets them."""

from __future__ import annotations

from typing import Any

from . import wrap
from .django import note


def install(views: Any) -> None:
    """Wraps the step that every exception of a view passes."""
    wrap(views.APIView, "handle_exception", _noting)


def _noting(original: Any) -> Any:
    def handle_exception(self: Any, exc: Any) -> Any:
        request = getattr(self, "request", None)
        # The request of the REST framework contains Django's.
        note(getattr(request, "_request", request), exc, unexpected=False)
        return original(self, exc)

    return handle_exception
