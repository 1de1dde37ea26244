"""Prometheus metrics for Gunicorn applications.

    gunicorn -k gunicorn_prometheus_exporter.PrometheusWorker app:app
    curl localhost:9091/metrics

Importing this package loads none of the worker classes, opens nothing, and changes neither the environment nor any
logging: every name is loaded on its first use.
"""

from __future__ import annotations

import importlib
from typing import Any

_PLACES = {
    "PrometheusWorker": "workers",
    "PrometheusThreadWorker": "thread_worker",
    "PrometheusGeventWorker": "gevent_worker",
    "PrometheusEventletWorker": "eventlet_worker",
    "PrometheusASGIWorker": "asgi_worker",
    "PrometheusUvicornWorker": "uvicorn_worker",
    "PrometheusTornadoWorker": "tornado_worker",
    "ConfigError": "config",
    "load_yaml_config": "config",
    "ConfigManager": "compat.settings",
    "ConfigState": "compat.settings",
    "ExporterConfig": "compat.settings",
    "RedisStorageManager": "compat.storage",
    "cleanup_config": "compat.settings",
    "get_config": "compat.settings",
    "get_config_manager": "compat.settings",
    "get_redis_storage_manager": "compat.storage",
    "get_shared_registry": "compat.registry",
    "initialize_config": "compat.settings",
    "is_redis_enabled": "compat.storage",
    "mark_process_dead_redis": "compat.storage_dict",
    "PrometheusMaster": "compat.master",
    "RedisMultiProcessCollector": "compat.storage_dict",
    "RedisStorageClient": "compat.storage_dict",
    "RedisStorageDict": "compat.storage_dict",
    "StorageDictProtocol": "compat.storage_dict",
    "get_prometheus_eventlet_worker": "compat.plugin",
    "get_prometheus_gevent_worker": "compat.plugin",
    "registry": "compat.registry",
    "setup_metrics": "programs",
    "setup_redis_metrics": "compat.storage",
    "teardown_redis_metrics": "compat.storage",
    "default_on_exit": "compat.hooks",
    "default_on_starting": "compat.hooks",
    "default_post_fork": "compat.hooks",
    "default_when_ready": "compat.hooks",
    "default_worker_int": "compat.hooks",
    "redis_sidecar_when_ready": "compat.hooks",
    "redis_when_ready": "compat.hooks",
}
_WORKERS = [name for name in _PLACES if name.endswith("Worker")]

# They need another library, or another Gunicorn; `import *` must not.
_OPTIONAL = {"asgi_worker", "eventlet_worker", "gevent_worker", "tornado_worker", "uvicorn_worker"}
__all__ = sorted(name for name, place in _PLACES.items() if place not in _OPTIONAL)


class MissingWorkerError(ImportError, RuntimeError):
    """A worker class that this version does not have; a ``RuntimeError`` becomes one line at Gunicorn's start."""


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
    # `help()` and `inspect.getmembers` read the value of every name. So worker classes that need a library, or
    # another Gunicorn, are listed only once they are loaded.
    return sorted({*globals(), *__all__, "__version__"})
