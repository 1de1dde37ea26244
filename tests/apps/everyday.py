"""Every use of prometheus_client that its documentation shows."""

import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Summary,
    disable_created_metrics,
    generate_latest,
    push_to_gateway,
    write_to_textfile,
)

disable_created_metrics()  # type: ignore[no-untyped-call]

APART = CollectorRegistry()
CALLS = Counter("day_calls", "Calls", ["kind"], namespace="shop", subsystem="front")
FAILURES = Counter("day_failures", "Exceptions of a kind")
PARALLEL = Gauge("day_parallel", "In progress", multiprocess_mode="livesum")
PEAK = Gauge("day_peak", "Most of it", multiprocess_mode="max")
LASTED = Histogram("day_lasted_seconds", "Durations", ["part"], buckets=[0.5, 5, float("inf")])
SIZES = Histogram("day_sizes", "Sizes, in buckets without an infinite one", buckets=(1, 10, 100))
WAITED = Summary("day_waited_seconds", "Waits")
JOBS = Counter("day_jobs", "Of a batch job, in a registry of its own", registry=APART)

StartResponse = Callable[[str, list[tuple[str, str]]], Any]


@PARALLEL.track_inprogress()
@WAITED.time()
def work() -> float:
    """Counts in a gauge how many calls are running."""
    with LASTED.labels(part="inner").time():
        return float(PARALLEL._value.get())


@FAILURES.count_exceptions(KeyError)
def fail() -> None:
    """Raises the exception that is counted."""
    raise KeyError("absent")


def app(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
    """`/textfile` and `/restricted` answer a page, `/push?host:port` sends one; anything else answers the pid."""
    path = environ["PATH_INFO"]
    body = str(os.getpid()).encode()
    if path == "/work":
        CALLS.labels("work").inc(2.5)
        PEAK.set(work())
        try:
            fail()
        except KeyError:
            JOBS.inc()
        for size in (0.5, 1, 50, 1000):
            SIZES.observe(size)
    elif path == "/series":
        for number in range(3):
            CALLS.labels(kind=str(number)).inc()
        CALLS.remove("0")
        if hasattr(CALLS, "remove_by_labels"):
            CALLS.remove_by_labels({"kind": "1"})
        else:
            CALLS.remove("1")
    elif path == "/textfile":
        with tempfile.TemporaryDirectory() as directory:
            file = Path(directory) / "day.prom"
            write_to_textfile(str(file), APART)
            body = file.read_bytes() + f"# pid {os.getpid()}\n".encode()
    elif path == "/push":
        push_to_gateway(environ["QUERY_STRING"], job="day", registry=APART)
        body = str(JOBS._value.get()).encode()
    elif path == "/restricted":
        body = generate_latest(REGISTRY.restricted_registry(["day_sizes_count", "day_failures_total"]))
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
