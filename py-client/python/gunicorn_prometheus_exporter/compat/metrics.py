"""The worker and master families as classes, for code that writes them itself.

The worker classes record these families without this module. Each class is a ``prometheus_client`` metric with that
name, made on its first use, so that importing this module changes no page. Its numbers are added to those that this
process has recorded.
"""

from __future__ import annotations

from typing import Any, ClassVar

from prometheus_client import Counter, Gauge, Histogram, Metric

from .. import _native
from .registry import get_shared_registry, registry

__all__ = [
    "MASTER_METRICS",
    "MASTER_WORKER_RESTARTS",
    "MASTER_WORKER_RESTART_COUNT",
    "WORKER_CPU",
    "WORKER_ERROR_HANDLING",
    "WORKER_FAILED_REQUESTS",
    "WORKER_MEMORY",
    "WORKER_METRICS",
    "WORKER_REQUESTS",
    "WORKER_REQUEST_DURATION",
    "WORKER_REQUEST_SIZE",
    "WORKER_RESPONSE_SIZE",
    "WORKER_RESTART_COUNT",
    "WORKER_RESTART_REASON",
    "WORKER_STATE",
    "WORKER_UPTIME",
    "BaseMetric",
    "MasterWorkerRestartCount",
    "MasterWorkerRestarts",
    "WorkerCPU",
    "WorkerErrorHandling",
    "WorkerFailedRequests",
    "WorkerMemory",
    "WorkerRequestDuration",
    "WorkerRequestSize",
    "WorkerRequests",
    "WorkerResponseSize",
    "WorkerRestartCount",
    "WorkerRestartReason",
    "WorkerState",
    "WorkerUptime",
    "get_shared_registry",
    "registry",
]

_FAMILIES = {family.name: family for family in _native.described() if family.page == "/metrics"}
_KINDS: dict[str, type[Any]] = {"counter": Counter, "gauge": Gauge, "histogram": Histogram}


class _OnDemand(type):
    """Makes the metric of each class on its first use."""

    @property
    def _metric(cls: Any) -> Any:
        if "_made" not in cls.__dict__:
            options: dict[str, Any] = {"multiprocess_mode": "livesum"} if cls.kind is Gauge else {}
            if cls.buckets:
                options["buckets"] = cls.buckets
            cls._made = cls.kind(cls.name, cls.documentation, cls.labelnames, registry=registry, **options)
        return cls._made


class BaseMetric(metaclass=_OnDemand):
    """One family, found by its name in the native catalogue. The methods take labels by name."""

    kind: ClassVar[type[Any]]
    name: ClassVar[str]
    documentation: ClassVar[str]
    labelnames: ClassVar[tuple[str, ...]]
    buckets: ClassVar[tuple[float, ...]]

    def __init_subclass__(cls) -> None:
        """Takes kind, help, labels and bounds from the catalogue."""
        family = _FAMILIES[cls.name.removesuffix("_total")]
        cls.kind = _KINDS[family.kind]
        cls.documentation = family.help
        cls.labelnames = tuple(family.labels)
        cls.buckets = tuple(family.bounds)

    @classmethod
    def labels(cls, **labels: str) -> Any:
        """Returns the series with those labels."""
        return cls._metric.labels(**labels)

    @classmethod
    def inc(cls, **labels: str) -> None:
        """Adds one."""
        cls.labels(**labels).inc()

    @classmethod
    def dec(cls, **labels: str) -> None:
        """Subtracts one from a gauge."""
        cls.labels(**labels).dec()

    @classmethod
    def set(cls, value: float, **labels: str) -> None:
        """Sets a gauge."""
        cls.labels(**labels).set(value)

    @classmethod
    def observe(cls, value: float, **labels: str) -> None:
        """Counts one observation in a histogram."""
        cls.labels(**labels).observe(value)

    @classmethod
    def collect(cls) -> list[Metric]:
        """Returns what this process has counted."""
        return list(cls._metric.collect())

    @classmethod
    def describe(cls) -> dict[str, Any]:
        """Returns name, text, type and labels."""
        metric = cls._metric
        return {
            "name": metric._name,
            "documentation": cls.documentation,
            "type": cls.kind.__name__,
            "labels": cls.labelnames,
        }

    @classmethod
    def clear(cls) -> None:
        """Removes all series of this process."""
        cls._metric.clear()


class WorkerRequests(BaseMetric):
    """Requests."""

    name = "gunicorn_worker_requests_total"


class WorkerRequestDuration(BaseMetric):
    """Durations."""

    name = "gunicorn_worker_request_duration_seconds"


class WorkerRequestSize(BaseMetric):
    """Bytes received."""

    name = "gunicorn_worker_request_size_bytes"


class WorkerResponseSize(BaseMetric):
    """Bytes sent."""

    name = "gunicorn_worker_response_size_bytes"


class WorkerMemory(BaseMetric):
    """Resident memory."""

    name = "gunicorn_worker_memory_bytes"


class WorkerCPU(BaseMetric):
    """Processor time."""

    name = "gunicorn_worker_cpu_percent"


class WorkerUptime(BaseMetric):
    """Time since the start."""

    name = "gunicorn_worker_uptime_seconds"


class WorkerFailedRequests(BaseMetric):
    """Requests that failed."""

    name = "gunicorn_worker_failed_requests"


class WorkerErrorHandling(BaseMetric):
    """Errors that Gunicorn answered."""

    name = "gunicorn_worker_error_handling"


class WorkerState(BaseMetric):
    """States."""

    name = "gunicorn_worker_state"


class WorkerRestartReason(BaseMetric):
    """Ends of workers, by reason."""

    name = "gunicorn_worker_restart_total"


class WorkerRestartCount(BaseMetric):
    """Ends of workers, by kind."""

    name = "gunicorn_worker_restart_count_total"


class MasterWorkerRestarts(BaseMetric):
    """Signals to the master."""

    name = "gunicorn_master_worker_restart_total"


class MasterWorkerRestartCount(BaseMetric):
    """Ends that the master has requested."""

    name = "gunicorn_master_worker_restart_count_total"


WORKER_REQUESTS = WorkerRequests
WORKER_REQUEST_DURATION = WorkerRequestDuration
WORKER_REQUEST_SIZE = WorkerRequestSize
WORKER_RESPONSE_SIZE = WorkerResponseSize
WORKER_MEMORY = WorkerMemory
WORKER_CPU = WorkerCPU
WORKER_UPTIME = WorkerUptime
WORKER_FAILED_REQUESTS = WorkerFailedRequests
WORKER_ERROR_HANDLING = WorkerErrorHandling
WORKER_STATE = WorkerState
WORKER_RESTART_REASON = WorkerRestartReason
WORKER_RESTART_COUNT = WorkerRestartCount
MASTER_WORKER_RESTARTS = MasterWorkerRestarts
MASTER_WORKER_RESTART_COUNT = MasterWorkerRestartCount

MASTER_METRICS: dict[str, type[BaseMetric]] = {
    "worker_restart_total": MasterWorkerRestarts,
    "worker_restart_count_total": MasterWorkerRestartCount,
}
WORKER_METRICS: dict[str, type[BaseMetric]] = {
    "worker_restart_total": WorkerRestartReason,
    "worker_restart_count_total": WorkerRestartCount,
}
