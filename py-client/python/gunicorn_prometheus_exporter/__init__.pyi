"""What type checkers see of the names that `__init__.py` loads when they are first asked for."""

from .asgi_worker import PrometheusASGIWorker as PrometheusASGIWorker
from .compat.hooks import default_on_exit as default_on_exit
from .compat.hooks import default_on_starting as default_on_starting
from .compat.hooks import default_post_fork as default_post_fork
from .compat.hooks import default_when_ready as default_when_ready
from .compat.hooks import default_worker_int as default_worker_int
from .compat.hooks import redis_sidecar_when_ready as redis_sidecar_when_ready
from .compat.hooks import redis_when_ready as redis_when_ready
from .compat.master import PrometheusMaster as PrometheusMaster
from .compat.plugin import get_prometheus_eventlet_worker as get_prometheus_eventlet_worker
from .compat.plugin import get_prometheus_gevent_worker as get_prometheus_gevent_worker
from .compat.registry import get_shared_registry as get_shared_registry
from .compat.registry import registry as registry
from .compat.settings import ConfigManager as ConfigManager
from .compat.settings import ConfigState as ConfigState
from .compat.settings import ExporterConfig as ExporterConfig
from .compat.settings import cleanup_config as cleanup_config
from .compat.settings import get_config as get_config
from .compat.settings import get_config_manager as get_config_manager
from .compat.settings import initialize_config as initialize_config
from .compat.storage import RedisStorageManager as RedisStorageManager
from .compat.storage import get_redis_storage_manager as get_redis_storage_manager
from .compat.storage import is_redis_enabled as is_redis_enabled
from .compat.storage import setup_redis_metrics as setup_redis_metrics
from .compat.storage import teardown_redis_metrics as teardown_redis_metrics
from .compat.storage_dict import RedisMultiProcessCollector as RedisMultiProcessCollector
from .compat.storage_dict import RedisStorageClient as RedisStorageClient
from .compat.storage_dict import RedisStorageDict as RedisStorageDict
from .compat.storage_dict import StorageDictProtocol as StorageDictProtocol
from .compat.storage_dict import mark_process_dead_redis as mark_process_dead_redis
from .config import ConfigError as ConfigError
from .config import load_yaml_config as load_yaml_config
from .eventlet_worker import PrometheusEventletWorker as PrometheusEventletWorker
from .gevent_worker import PrometheusGeventWorker as PrometheusGeventWorker
from .programs import setup_metrics as setup_metrics
from .thread_worker import PrometheusThreadWorker as PrometheusThreadWorker
from .tornado_worker import PrometheusTornadoWorker as PrometheusTornadoWorker
from .uvicorn_worker import PrometheusUvicornWorker as PrometheusUvicornWorker
from .workers import PrometheusWorker as PrometheusWorker

__version__: str

__all__ = [
    "ConfigError",
    "ConfigManager",
    "ConfigState",
    "ExporterConfig",
    "PrometheusMaster",
    "PrometheusThreadWorker",
    "PrometheusWorker",
    "RedisMultiProcessCollector",
    "RedisStorageClient",
    "RedisStorageDict",
    "RedisStorageManager",
    "StorageDictProtocol",
    "cleanup_config",
    "default_on_exit",
    "default_on_starting",
    "default_post_fork",
    "default_when_ready",
    "default_worker_int",
    "get_config",
    "get_config_manager",
    "get_prometheus_eventlet_worker",
    "get_prometheus_gevent_worker",
    "get_redis_storage_manager",
    "get_shared_registry",
    "initialize_config",
    "is_redis_enabled",
    "load_yaml_config",
    "mark_process_dead_redis",
    "redis_sidecar_when_ready",
    "redis_when_ready",
    "registry",
    "setup_metrics",
    "setup_redis_metrics",
    "teardown_redis_metrics",
]

class MissingWorkerError(ImportError, RuntimeError): ...
