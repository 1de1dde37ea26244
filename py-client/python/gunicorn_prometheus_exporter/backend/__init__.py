"""Redis, for code that talks to it itself: the package does not need this, its exporter talks to Redis."""

from __future__ import annotations

from .core import (
    RedisMultiProcessCollector,
    RedisStorageClient,
    RedisStorageDict,
    RedisValueClass,
    StorageDictProtocol,
)
from .service import (
    RedisStorageManager,
    cleanup_redis_keys,
    get_redis_client,
    get_redis_collector,
    get_redis_storage_manager,
    is_redis_enabled,
    setup_redis_metrics,
    teardown_redis_metrics,
)

__all__ = [
    "RedisMultiProcessCollector",
    "RedisStorageClient",
    "RedisStorageDict",
    "RedisStorageManager",
    "RedisValueClass",
    "StorageDictProtocol",
    "cleanup_redis_keys",
    "get_redis_client",
    "get_redis_collector",
    "get_redis_storage_manager",
    "is_redis_enabled",
    "setup_redis_metrics",
    "teardown_redis_metrics",
]
