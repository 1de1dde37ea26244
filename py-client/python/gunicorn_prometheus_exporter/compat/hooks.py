"""The hooks for Gunicorn configuration files.

The worker class alone does all that is needed. These hooks are for configurations that name them; their order, and
how often they are called, does not matter.
"""

from __future__ import annotations

from typing import Any

from .. import arbiter
from ..config import load_yaml_config
from .hook_classes import EnvironmentManager, HookContext, HookManager, MetricsServerManager, ProcessManager

__all__ = [
    "EnvironmentManager",
    "HookContext",
    "HookManager",
    "MetricsServerManager",
    "ProcessManager",
    "default_on_exit",
    "default_on_starting",
    "default_post_fork",
    "default_when_ready",
    "default_worker_int",
    "load_yaml_config",
    "redis_sidecar_when_ready",
    "redis_when_ready",
]


def default_on_starting(_server: Any) -> None:
    """``on_starting``: prepares the arbiter."""
    arbiter.install()


def default_when_ready(_server: Any) -> None:
    """``when_ready``: prepares the arbiter; its exporter starts with the first workers."""
    arbiter.install()


def redis_when_ready(server: Any) -> None:
    """``when_ready`` for metrics that are shared through Redis (``REDIS_ENABLED``)."""
    default_when_ready(server)
    if not arbiter.current_settings().redis_enabled:
        server.log.warning("redis_when_ready is used, but Redis is not enabled (REDIS_ENABLED, exporter.redis.enabled)")


def redis_sidecar_when_ready(server: Any) -> None:
    """``when_ready`` where a sidecar or a standalone exporter serves what is in Redis."""
    redis_when_ready(server)
    if arbiter.current_settings().redis_enabled:
        arbiter.serve_elsewhere()


def default_worker_int(_worker: Any) -> None:
    """``worker_int``: does nothing, because a worker's numbers are in memory that outlives it."""


def default_on_exit(_server: Any) -> None:
    """``on_exit``: does nothing, because the arbiter has already ended the exporter."""


def default_post_fork(_server: Any, _worker: Any) -> None:
    """``post_fork``: does nothing, because the worker class adopts its store right after this."""
