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
    "PrometheusGeventWorker": "gevent_worker",
    "PrometheusEventletWorker": "eventlet_worker",
    "PrometheusASGIWorker": "asgi_worker",
    "PrometheusUvicornWorker": "uvicorn_worker",
    "PrometheusTornadoWorker": "tornado_worker",
    "ConfigError": "config",
    "load_yaml_config": "config",
    "ConfigManager": "compat",
    "ConfigState": "compat",
    "ExporterConfig": "compat",
    "RedisStorageManager": "compat",
    "cleanup_config": "compat",
    "get_config": "compat",
    "get_config_manager": "compat",
    "get_redis_storage_manager": "compat",
    "get_shared_registry": "compat",
    "initialize_config": "compat",
    "is_redis_enabled": "compat",
    "mark_process_dead_redis": "backend.core",
    "PrometheusMaster": "master",
    "RedisMultiProcessCollector": "backend.core",
    "RedisStorageClient": "backend.core",
    "RedisStorageDict": "backend.core",
    "StorageDictProtocol": "backend.core",
    "get_prometheus_eventlet_worker": "compat",
    "get_prometheus_gevent_worker": "compat",
    "registry": "compat",
    "setup_metrics": "programs",
    "setup_redis_metrics": "compat",
    "teardown_redis_metrics": "compat",
    "default_on_exit": "hooks",
    "default_on_starting": "hooks",
    "default_post_fork": "hooks",
    "default_when_ready": "hooks",
    "default_worker_int": "hooks",
    "redis_sidecar_when_ready": "hooks",
    "redis_when_ready": "hooks",
}
_WORKERS = [name for name in _PLACES if name.endswith("Worker")]

# `import *` asks for no library that may be missing.
__all__ = sorted(name for name, place in _PLACES.items() if not place.endswith("_worker"))


class MissingWorkerError(ImportError, RuntimeError):
    """A worker class that this version does not have; as a ``RuntimeError`` it is one line at Gunicorn's start."""


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.import_module("._native", __name__).VERSION
    place = _PLACES.get(name)
    if place is not None:
        value = getattr(importlib.import_module(f".{place}", __name__), name)
        globals()[name] = value
        return value
    if name.startswith("Prometheus") and name.endswith("Worker"):
        raise MissingWorkerError(f"{__name__} has no {name}; this version has {', '.join(_WORKERS)}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    # `help()` and `inspect.getmembers` ask for the value of every name. Worker classes that need a library,
    # or another Gunicorn, are named once they are loaded.
    return sorted({*globals(), *__all__, "__version__"})
