"""Werkzeug's dispatcher, which mounts applications beside one another."""

from __future__ import annotations

from typing import Any

from werkzeug.middleware.dispatcher import DispatcherMiddleware

from . import dispatching, wrap


def install(_dispatcher: Any) -> None:
    """Wraps the step that chooses the application."""
    wrap(DispatcherMiddleware, "__call__", dispatching)
