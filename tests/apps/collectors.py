"""Metrics that must be evaluated, and an application that shows its metrics itself."""

import os
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Metric, generate_latest, multiprocess
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    SummaryMetricFamily,
)

REQUESTS = Counter("shown_requests", "Requests to this application")
# A registry for a separate page.
Counter("kept_apart", "Not in the default registry", registry=CollectorRegistry()).inc()
STARTED = time.time()
Gauge("asked_uptime_seconds", "How long this worker runs", multiprocess_mode="max").set_function(
    lambda: time.time() - STARTED
)


class Pool:
    """A custom collector, as a connection pool may have one."""

    asked = 0

    def describe(self) -> Iterable[Metric]:
        """Returns nothing, so that registration does not call `collect`."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yields one metric of each type."""
        Pool.asked += 1
        connections = GaugeMetricFamily("pool_connections", "Connections", labels=["state"])
        connections.add_metric(["idle"], 3)
        yield connections
        yield CounterMetricFamily("pool_waits", "Waits", value=7)
        buckets = [("1.0", 2.0), ("5.0", 5.0), ("+Inf", 7.0)]
        yield HistogramMetricFamily("pool_waited", "Waited", buckets=buckets, sum_value=21)
        yield SummaryMetricFamily("pool_used", "Used", count_value=4, sum_value=10)
        yield InfoMetricFamily("pool", "About it", value={"driver": "none"})


REGISTRY.register(Pool())

StartResponse = Callable[[str, list[tuple[str, str]]], Any]


def app(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
    """`/latest`, `/multiprocess`, `/asked` (number of calls of the collector), `/late`, `/only`; other paths count."""
    path = environ["PATH_INFO"]
    if path == "/latest":
        body = generate_latest()
    elif path == "/multiprocess":
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        body = generate_latest(registry)
    elif path == "/asked":
        body = str(Pool.asked).encode()
    elif path == "/late":
        Counter("declared_late", "At the first request of its kind").inc()
        body = str(os.getpid()).encode()
    elif path == "/only":
        body = generate_latest(REGISTRY.restricted_registry(["declared_late_total"]))
    else:
        REQUESTS.inc()
        body = str(os.getpid()).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
