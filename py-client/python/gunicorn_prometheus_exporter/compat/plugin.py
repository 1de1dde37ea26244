"""The place of the worker classes in the package before this one."""

from __future__ import annotations

import importlib
from typing import Any

from ..thread_worker import PrometheusThreadWorker
from ..workers import PrometheusWorker

__all__ = [
    "PrometheusThreadWorker",
    "PrometheusWorker",
    "get_prometheus_eventlet_worker",
    "get_prometheus_gevent_worker",
]

_PACKAGE = __name__.rsplit(".", 2)[0]


def get_prometheus_gevent_worker() -> type[Any] | None:
    """Returns the class, if gevent is installed."""
    return _worker("PrometheusGeventWorker")


def get_prometheus_eventlet_worker() -> type[Any] | None:
    """Returns the class, if eventlet is installed and Gunicorn still has its worker."""
    return _worker("PrometheusEventletWorker")


def _worker(name: str) -> type[Any] | None:
    try:
        found: type[Any] = getattr(importlib.import_module(_PACKAGE), name)
    except (ImportError, RuntimeError):
        return None
    return found


def __getattr__(name: str) -> Any:
    """Loads the other classes on first use."""
    if name.startswith("Prometheus"):
        return getattr(importlib.import_module(_PACKAGE), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
