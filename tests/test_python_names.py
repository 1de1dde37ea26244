"""The names of the original package: all can be imported, and each works."""

import importlib
import textwrap
from pathlib import Path

import pytest

from harness import RedisServer, Venv
from harness.venvs import GUNICORN_VERSIONS

NAMES = {
    "": """
        PrometheusWorker PrometheusThreadWorker PrometheusMaster registry ExporterConfig ConfigManager ConfigState
        get_config_manager initialize_config get_config cleanup_config load_yaml_config RedisStorageManager
        get_redis_storage_manager setup_redis_metrics teardown_redis_metrics is_redis_enabled
        get_prometheus_eventlet_worker get_prometheus_gevent_worker RedisStorageDict RedisStorageClient
        RedisMultiProcessCollector StorageDictProtocol mark_process_dead_redis get_shared_registry
    """,
    "plugin": "PrometheusWorker PrometheusThreadWorker get_prometheus_eventlet_worker get_prometheus_gevent_worker",
    "config": """
        ExporterConfig ConfigManager ConfigState get_config_manager initialize_config get_config cleanup_config
        load_yaml_config
    """,
    "hooks": """
        default_on_starting default_when_ready default_worker_int default_on_exit default_post_fork redis_when_ready
        redis_sidecar_when_ready load_yaml_config HookContext HookManager EnvironmentManager MetricsServerManager
        ProcessManager
    """,
    "backend": """
        RedisStorageManager get_redis_storage_manager setup_redis_metrics teardown_redis_metrics is_redis_enabled
        get_redis_client cleanup_redis_keys get_redis_collector RedisMultiProcessCollector RedisStorageClient
        RedisStorageDict RedisValueClass
    """,
    "backend.core": """
        redis_key RedisValue get_redis_value_class mark_process_dead_redis cleanup_process_keys_for_pid
        CleanupUtilsMixin RedisStorageDict RedisStorageClient RedisValueClass RedisMultiProcessCollector
    """,
    "backend.service": "RedisStorageManager get_redis_storage_manager get_redis_client",
    "metrics": """
        BaseMetric WorkerRequests WorkerRequestDuration WorkerMemory WorkerCPU WorkerUptime WorkerFailedRequests
        WorkerErrorHandling WorkerState WorkerRequestSize WorkerResponseSize WorkerRestartReason WorkerRestartCount
        MasterWorkerRestarts MasterWorkerRestartCount WORKER_REQUESTS WORKER_REQUEST_DURATION WORKER_MEMORY WORKER_CPU
        WORKER_UPTIME WORKER_FAILED_REQUESTS WORKER_ERROR_HANDLING WORKER_STATE WORKER_REQUEST_SIZE
        WORKER_RESPONSE_SIZE WORKER_RESTART_REASON WORKER_RESTART_COUNT MASTER_WORKER_RESTARTS
        MASTER_WORKER_RESTART_COUNT WORKER_METRICS MASTER_METRICS get_shared_registry registry
    """,
    "master": "PrometheusMaster",
    "utils": "get_multiprocess_dir ensure_multiprocess_dir",
}


def run(program: str, **environment: str) -> str:
    """Runs it in an environment that has only our wheel and Gunicorn."""
    prelude = f"import os; os.environ.update({environment!r})\n"
    return Venv.default().run("-c", prelude + textwrap.dedent(program))


@pytest.mark.parametrize("module", NAMES)
def test_every_name_is_importable(module: str) -> None:
    """Each module is imported in a new process."""
    place = f"gunicorn_prometheus_exporter.{module}".rstrip(".")
    wanted = ", ".join(NAMES[module].split())
    run(f"from {place} import {wanted}\nassert None not in ({wanted},)")


def test_importing_the_package_imports_no_worker_and_changes_nothing() -> None:
    """The import changes neither the environment nor logging, and loads no worker library."""
    run(
        """
        import logging, sys
        before = dict(os.environ), list(logging.root.handlers)
        import gunicorn_prometheus_exporter
        assert before == (dict(os.environ), list(logging.root.handlers))
        loaded = {"gevent", "eventlet", "tornado", "uvicorn", "redis", "gunicorn_prometheus_exporter.workers"}
        assert not loaded & set(sys.modules)
        """
    )


def test_the_metric_classes_are_metrics_with_the_names_of_the_original() -> None:
    """They are made at their first use, in the registry of the package."""
    run(
        """
        from gunicorn_prometheus_exporter import registry
        from gunicorn_prometheus_exporter.metrics import WorkerRequests, WORKER_MEMORY, WorkerRequestDuration
        assert list(registry.collect()) == []
        WorkerRequests.inc(worker_id="w")
        WORKER_MEMORY.set(5, worker_id="w")
        WorkerRequestDuration.observe(0.3, worker_id="w")
        assert registry.get_sample_value("gunicorn_worker_requests_total", {"worker_id": "w"}) == 1
        assert registry.get_sample_value("gunicorn_worker_memory_bytes", {"worker_id": "w"}) == 5
        bucket = "gunicorn_worker_request_duration_seconds_bucket"
        assert registry.get_sample_value(bucket, {"worker_id": "w", "le": "0.5"}) == 1
        assert WorkerRequests.describe()["type"] == "Counter"
        WorkerRequests.clear()
        assert registry.get_sample_value("gunicorn_worker_requests_total", {"worker_id": "w"}) is None
        """
    )


def test_the_storage_dict_keeps_values_in_redis() -> None:
    """Each process has its own values; a collector adds them up, with those of the shared registry."""
    with RedisServer(tcp=True) as redis:
        redis.execute("METRICS.INC", "shop:metrics", "orders", "BY", "2")
        program = """
            from prometheus_client import CollectorRegistry
            from gunicorn_prometheus_exporter.backend import *
            from gunicorn_prometheus_exporter.backend.core import redis_key, RedisValue, mark_process_dead_redis
            client = get_redis_client()
            storage = RedisStorageDict(client, "shop")
            key = redis_key("waits", "waits_total", ["kind"], ["a"], "Waits")
            assert storage.read_value(key) == (0.0, 0.0)
            storage.write_value(key, 3.5, 7.0)
            assert storage.read_value(key) == (3.5, 7.0)
            assert (key, 3.5, 7.0) in list(storage.read_all_values())
            value_class = RedisStorageClient(client, "shop").get_value_class()
            value = value_class("gauge", "level", "level", (), (), "Level", "livesum")
            value.inc(2)
            assert value.get() == 2
            registry = CollectorRegistry()
            RedisMultiProcessCollector(registry, client, "shop")
            assert registry.get_sample_value("orders_total") == 2
            assert registry.get_sample_value("waits_total", {"kind": "a"}) == 3.5
            assert registry.get_sample_value("level") == 2
            mark_process_dead_redis(os.getpid(), client, "shop")
            assert registry.get_sample_value("level") is None
            assert registry.get_sample_value("waits_total", {"kind": "a"}) == 3.5
        """
        environment = {"REDIS_ENABLED": "true", "REDIS_PORT": str(redis.port)}
        run(f"import sys; sys.path.append({str(redis_package())!r})\n" + textwrap.dedent(program), **environment)


def redis_package() -> Path:
    """Returns the `redis` package of the developer's environment; applications install it if they need it."""
    return Path(str(importlib.import_module("redis").__file__)).parent.parent


@pytest.mark.parametrize("version", GUNICORN_VERSIONS)
def test_help_getmembers_and_version_work(version: str) -> None:
    """`help()`, `inspect.getmembers` and `__version__` work with any worker classes of that Gunicorn."""
    program = """
        import importlib.metadata, inspect, pydoc
        import gunicorn_prometheus_exporter as package
        members = dict(inspect.getmembers(package))
        assert members["PrometheusWorker"].__name__ == "PrometheusWorker"
        assert package.__version__ == importlib.metadata.version("gunicorn-prometheus-exporter")
        assert "load_yaml_config" in pydoc.plain(pydoc.render_doc(package))
        for name in ("workers", "arbiter", "compat", "plugin", "hooks", "config", "values", "merged"):
            inspect.getmembers(importlib.import_module(f"{package.__name__}.{name}"))
        import sys
        assert not {"gevent", "eventlet", "tornado", "uvicorn"} & sys.modules.keys()
    """
    Venv.gunicorn(version).run("-c", textwrap.dedent(program))
