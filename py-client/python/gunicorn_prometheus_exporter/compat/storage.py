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
    """Whether metrics are shared, and whether the server can be reached from here."""

    def setup(self) -> bool:
        """Nothing is to be set up in this process; whether metrics are shared."""
        return self.is_enabled()

    def teardown(self) -> None:
        """Nothing was set up."""

    def is_enabled(self) -> bool:
        """Whether the settings name a Redis."""
        return config.load().redis_enabled

    def is_connected(self) -> bool:
        """Whether somebody listens there, asked now, for at most a second."""
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
        """What is shared, as a collector; ``None`` where there is no client."""
        client = self.get_client()
        if client is None:
            return None
        return RedisMultiProcessCollector(None, client)

    def cleanup_keys(self) -> None:
        """The registry forgets dead processes by itself."""


_storage = RedisStorageManager()


def get_redis_storage_manager() -> RedisStorageManager:
    """The one manager of this process."""
    return _storage


def setup_redis_metrics() -> bool:
    """Whether metrics are shared; the exporter does the rest."""
    return _storage.setup()


def teardown_redis_metrics() -> None:
    """The exporter ends with its arbiter."""
    _storage.teardown()


def is_redis_enabled() -> bool:
    """Whether the settings name a Redis."""
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
