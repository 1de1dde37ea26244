"""Where the worker classes were in the package before this one."""

from __future__ import annotations

import importlib
from typing import Any

from .compat import get_prometheus_eventlet_worker, get_prometheus_gevent_worker
from .workers import PrometheusThreadWorker, PrometheusWorker

__all__ = [
    "PrometheusThreadWorker",
    "PrometheusWorker",
    "get_prometheus_eventlet_worker",
    "get_prometheus_gevent_worker",
]


def __getattr__(name: str) -> Any:
    """The others are loaded when they are asked for."""
    if name.startswith("Prometheus"):
        return getattr(importlib.import_module(__package__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
