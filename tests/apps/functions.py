"""Gauges whose values are given by functions, in every mode of merging."""

import os
from collections.abc import Callable, Iterable
from typing import Any

from prometheus_client import Gauge

StartResponse = Callable[[str, list[tuple[str, str]]], Any]

for _mode in ("all", "liveall", "min", "livemin", "max", "livemax", "sum", "livesum"):
    Gauge(f"asked_{_mode}", "Seven in each worker", multiprocess_mode=_mode).set_function(lambda: 7.0)
_labelled = Gauge("asked_labelled", "With a label", ["queue"], multiprocess_mode="all")
_labelled.labels("mail").set_function(lambda: 7.0)


def _broken() -> float:
    raise OSError("the queue is away")


Gauge("asked_broken", "Its function raises", multiprocess_mode="min").set_function(_broken)


def app(_environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
    """Answers the worker."""
    body = str(os.getpid()).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
