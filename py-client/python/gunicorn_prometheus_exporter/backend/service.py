"""The manager of Redis, and its functions."""

from __future__ import annotations

from ..compat import (
    RedisStorageManager,
    get_redis_storage_manager,
    is_redis_enabled,
    setup_redis_metrics,
    teardown_redis_metrics,
)
from .core import RedisClient, RedisMultiProcessCollector

__all__ = [
    "RedisStorageManager",
    "cleanup_redis_keys",
    "get_redis_client",
    "get_redis_collector",
    "get_redis_storage_manager",
    "is_redis_enabled",
    "setup_redis_metrics",
    "teardown_redis_metrics",
]


def get_redis_client() -> RedisClient | None:
    """See :meth:`RedisStorageManager.get_client`."""
    client: RedisClient | None = get_redis_storage_manager().get_client()
    return client


def cleanup_redis_keys() -> None:
    """See :meth:`RedisStorageManager.cleanup_keys`."""
    get_redis_storage_manager().cleanup_keys()


def get_redis_collector() -> RedisMultiProcessCollector | None:
    """See :meth:`RedisStorageManager.get_collector`."""
    collector: RedisMultiProcessCollector | None = get_redis_storage_manager().get_collector()
    return collector
