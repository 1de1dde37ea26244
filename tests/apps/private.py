"""Registries that an application makes for one request, and a gauge with a function."""

import os
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    Counter,
    Enum,
    Gauge,
    Histogram,
    Info,
    generate_latest,
    multiprocess,
    write_to_textfile,
)

Gauge("clock_seconds", "The time", multiprocess_mode="max").set_function(time.time)
LATER = CollectorRegistry()
COUNTED_BEFORE = Counter("given_later", "Counted before its registry was given", ["kind"], registry=LATER)
MOVED = Counter("moved", "Of no registry at first", registry=None)

StartResponse = Callable[[str, list[tuple[str, str]]], Any]


def of_one_request(target: str) -> CollectorRegistry:
    """Makes a registry for one request, as exporters of other systems do."""
    registry = CollectorRegistry()
    Gauge("probe_up", "Whether it answers", ["target"], registry=registry).labels(target).set(1)
    Counter("probe_tries", "Tries", registry=registry).inc()
    Histogram("probe_seconds", "Duration", ["target"], registry=registry).labels(target).observe(0.2)
    Info("probe_version", "Version", registry=registry).info({"target": target})
    Enum("probe_state", "State", states=["up", "down"], registry=registry).state("up")
    Gauge("probe_clock", "Clock", registry=registry).set_function(lambda: 7)
    return registry


def app(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
    """`/probe?target`, `/textfile?target`, `/later` and `/given`, `/move`; anything else answers the pid."""
    path, query = environ["PATH_INFO"], environ["QUERY_STRING"]
    body = str(os.getpid()).encode()
    if path == "/probe":
        body = generate_latest(of_one_request(query))
    elif path == "/textfile":
        with tempfile.TemporaryDirectory() as directory:
            file = Path(directory) / "probe.prom"
            write_to_textfile(str(file), of_one_request(query))
            body = file.read_bytes()
    elif path == "/later":
        COUNTED_BEFORE.labels("a").inc()
    elif path == "/given":
        multiprocess.MultiProcessCollector(LATER)  # type: ignore[no-untyped-call]
        COUNTED_BEFORE.labels("b").inc()
    elif path == "/move":
        MOVED.inc()
        REGISTRY.register(MOVED)
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
