"""The manager of Redis, and its functions.

The exporter alone talks to Redis, so there is nothing to set up in a worker.
"""

from __future__ import annotations

import socket
from typing import Any

from .. import config
from .client import client_of_settings
from .settings import get_config
from .storage_dict import RedisClient, RedisMultiProcessCollector

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


class RedisStorageManager:
    """Tells whether metrics are shared, and whether this process can reach the server."""

    def setup(self) -> bool:
        """Returns whether metrics are shared; this process needs no setup."""
        return self.is_enabled()

    def teardown(self) -> None:
        """Does nothing: there was no setup."""

    def is_enabled(self) -> bool:
        """Returns whether the settings turn Redis on."""
        return config.load().redis_enabled

    def is_connected(self) -> bool:
        """Returns whether a server listens there now; takes at most a second."""
        settings = get_config()
        try:
            socket.create_connection((settings.redis_host, settings.redis_port), timeout=1).close()
        except OSError:
            return False
        return True

    def get_client(self) -> Any:
        """See :func:`.client.client_of_settings`."""
        return client_of_settings()

    def get_collector(self) -> Any:
        """Returns the shared metrics as a collector; ``None`` without a client."""
        client = self.get_client()
        if client is None:
            return None
        return RedisMultiProcessCollector(None, client)

    def cleanup_keys(self) -> None:
        """Does nothing: the registry removes dead processes by itself."""


_storage = RedisStorageManager()


def get_redis_storage_manager() -> RedisStorageManager:
    """Returns the only manager of this process."""
    return _storage


def setup_redis_metrics() -> bool:
    """Returns whether metrics are shared; the exporter does the rest."""
    return _storage.setup()


def teardown_redis_metrics() -> None:
    """Does nothing: the exporter ends with its arbiter."""
    _storage.teardown()


def is_redis_enabled() -> bool:
    """Returns whether the settings turn Redis on."""
    return _storage.is_enabled()


def get_redis_client() -> RedisClient | None:
    """See :meth:`RedisStorageManager.get_client`."""
    client: RedisClient | None = _storage.get_client()
    return client


def cleanup_redis_keys() -> None:
    """See :meth:`RedisStorageManager.cleanup_keys`."""
    _storage.cleanup_keys()


def get_redis_collector() -> RedisMultiProcessCollector | None:
    """See :meth:`RedisStorageManager.get_collector`."""
    collector: RedisMultiProcessCollector | None = _storage.get_collector()
    return collector
