"""Prometheus metrics for Gunicorn applications.

    gunicorn -k gunicorn_prometheus_exporter.PrometheusWorker app:app
    curl localhost:9091/metrics

Importing this package loads none of the worker classes, opens nothing, and changes neither the
environment nor any logging: every name is loaded when it is first asked for.
"""

from __future__ import annotations

import importlib
from typing import Any

_PLACES = {
    "PrometheusWorker": "workers",
    "PrometheusThreadWorker": "workers",
    "ConfigError": "config",
    "load_yaml_config": "config",
    "default_on_exit": "hooks",
    "default_on_starting": "hooks",
    "default_post_fork": "hooks",
    "default_when_ready": "hooks",
    "default_worker_int": "hooks",
    "redis_sidecar_when_ready": "hooks",
    "redis_when_ready": "hooks",
}
_WORKERS = [name for name in _PLACES if name.endswith("Worker")]

__all__ = sorted(_PLACES)


def __getattr__(name: str) -> Any:
    place = _PLACES.get(name)
    if place is not None:
        value = getattr(importlib.import_module(f".{place}", __name__), name)
        globals()[name] = value
        return value
    if name.startswith("Prometheus") and name.endswith("Worker"):
        # Gunicorn shows an ImportError as it is; an AttributeError would become a riddle.
        raise ImportError(f"{__name__} has no {name}; this version has {' and '.join(_WORKERS)}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_PLACES])
