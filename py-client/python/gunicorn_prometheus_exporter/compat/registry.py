"""The registry of the package before this one."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from .. import values

__all__ = ["get_shared_registry", "registry"]

#: For metrics that an application does not want in ``prometheus_client.REGISTRY``. The page shows them like those of
#: that registry, with the numbers of all processes.
registry = CollectorRegistry()
values.merge(registry)


def get_shared_registry() -> CollectorRegistry:
    """Returns the registry above."""
    return registry
