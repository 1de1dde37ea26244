"""The registry of the package before this one."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from .. import values

__all__ = ["get_shared_registry", "registry"]

#: For metrics that an application would rather keep out of ``prometheus_client.REGISTRY``. They are
#: on the page like those of that one, with the numbers of all processes.
registry = CollectorRegistry()
values.merge(registry)


def get_shared_registry() -> CollectorRegistry:
    """The registry above."""
    return registry
