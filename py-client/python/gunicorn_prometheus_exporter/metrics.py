"""The worker and master families as classes, for code that writes them itself.

The worker classes record these families without this module. Each class is a ``prometheus_client`` metric
of that name, made when it is first used, so that importing this changes no page; what is added to it is
added to what this process has recorded.
"""

from __future__ import annotations

from typing import Any, ClassVar

from prometheus_client import Counter, Gauge, Histogram, Metric

from .compat import get_shared_registry, registry

__all__ = ["MASTER_METRICS", "WORKER_METRICS", "BaseMetric", "get_shared_registry", "registry"]

_SIZES = (1024, 4096, 16384, 65536, 262144, 1048576, 4194304)


class _OnDemand(type):
    """Gives each class its metric when it is first asked for."""

    @property
    def _metric(cls: Any) -> Any:
        if "_made" not in cls.__dict__:
            options: dict[str, Any] = {"multiprocess_mode": "livesum"} if cls.kind is Gauge else {}
            if cls.buckets:
                options["buckets"] = cls.buckets
            cls._made = cls.kind(cls.name, cls.documentation, cls.labelnames, registry=registry, **options)
        return cls._made


class BaseMetric(metaclass=_OnDemand):
    """One family. The methods take the labels by name."""

    kind: ClassVar[type[Any]]
    name: ClassVar[str]
    documentation: ClassVar[str]
    labelnames: ClassVar[tuple[str, ...]] = ("worker_id",)
    buckets: ClassVar[tuple[float, ...]] = ()

    @classmethod
    def labels(cls, **labels: str) -> Any:
        """The series with those labels."""
        return cls._metric.labels(**labels)

    @classmethod
    def inc(cls, **labels: str) -> None:
        """One more."""
        cls.labels(**labels).inc()

    @classmethod
    def dec(cls, **labels: str) -> None:
        """One less, of a gauge."""
        cls.labels(**labels).dec()

    @classmethod
    def set(cls, value: float, **labels: str) -> None:
        """A gauge's value."""
        cls.labels(**labels).set(value)

    @classmethod
    def observe(cls, value: float, **labels: str) -> None:
        """One observation of a histogram."""
        cls.labels(**labels).observe(value)

    @classmethod
    def collect(cls) -> list[Metric]:
        """What this process has counted."""
        return list(cls._metric.collect())

    @classmethod
    def describe(cls) -> dict[str, Any]:
        """Name, text, type and labels."""
        metric = cls._metric
        return {
            "name": metric._name,
            "documentation": cls.documentation,
            "type": cls.kind.__name__,
            "labels": cls.labelnames,
        }

    @classmethod
    def clear(cls) -> None:
        """Forgets all series of this process."""
        cls._metric.clear()


class WorkerRequests(BaseMetric):
    """Requests."""

    kind = Counter
    name = "gunicorn_worker_requests_total"
    documentation = "Total number of requests handled by this worker"


class WorkerRequestDuration(BaseMetric):
    """Durations."""

    kind = Histogram
    name = "gunicorn_worker_request_duration_seconds"
    documentation = "Request duration in seconds"
    buckets = (0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class WorkerRequestSize(BaseMetric):
    """Bytes received."""

    kind = Histogram
    name = "gunicorn_worker_request_size_bytes"
    documentation = "Request size in bytes"
    buckets = _SIZES


class WorkerResponseSize(BaseMetric):
    """Bytes sent."""

    kind = Histogram
    name = "gunicorn_worker_response_size_bytes"
    documentation = "Response size in bytes"
    buckets = _SIZES


class WorkerMemory(BaseMetric):
    """Resident memory."""

    kind = Gauge
    name = "gunicorn_worker_memory_bytes"
    documentation = "Memory usage of the worker process"


class WorkerCPU(BaseMetric):
    """Processor time."""

    kind = Gauge
    name = "gunicorn_worker_cpu_percent"
    documentation = "CPU usage of the worker process"


class WorkerUptime(BaseMetric):
    """Time since the start."""

    kind = Gauge
    name = "gunicorn_worker_uptime_seconds"
    documentation = "Uptime of the worker process"


class WorkerFailedRequests(BaseMetric):
    """Requests that failed."""

    kind = Counter
    name = "gunicorn_worker_failed_requests"
    documentation = "Total number of failed requests handled by this worker"
    labelnames = ("worker_id", "method", "endpoint", "error_type")


class WorkerErrorHandling(BaseMetric):
    """Errors that Gunicorn answered."""

    kind = Counter
    name = "gunicorn_worker_error_handling"
    documentation = "Total number of errors handled by this worker"
    labelnames = ("worker_id", "method", "endpoint", "error_type")


class WorkerState(BaseMetric):
    """States."""

    kind = Gauge
    name = "gunicorn_worker_state"
    documentation = "Current state of the worker (1=running, 0=stopped)"
    labelnames = ("worker_id", "state", "timestamp")


class WorkerRestartReason(BaseMetric):
    """Ends of workers, by reason."""

    kind = Counter
    name = "gunicorn_worker_restart_total"
    documentation = "Total number of worker restarts by reason"
    labelnames = ("worker_id", "reason")


class WorkerRestartCount(BaseMetric):
    """Ends of workers, by kind."""

    kind = Counter
    name = "gunicorn_worker_restart_count_total"
    documentation = "Total number of worker restarts by worker and restart type"
    labelnames = ("worker_id", "restart_type", "reason")


class MasterWorkerRestarts(BaseMetric):
    """Signals to the master."""

    kind = Counter
    name = "gunicorn_master_worker_restart_total"
    documentation = "Total number of Gunicorn worker restarts"
    labelnames = ("reason",)


class MasterWorkerRestartCount(BaseMetric):
    """Ends that the master has asked for."""

    kind = Counter
    name = "gunicorn_master_worker_restart_count_total"
    documentation = "Total number of worker restarts by reason and worker"
    labelnames = ("worker_id", "reason", "restart_type")


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
