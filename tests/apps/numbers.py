"""A WSGI application that changes its own metrics as the query string says."""

import os
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qsl

from prometheus_client import Counter, Enum, Gauge, Histogram, Info, Summary

MODES = ("all", "liveall", "min", "livemin", "max", "livemax", "sum", "livesum", "mostrecent", "livemostrecent")
GAUGES = {mode: Gauge(f"number_{mode}", f"A gauge in mode {mode}", multiprocess_mode=mode) for mode in MODES}  # type: ignore[arg-type]
EVENTS = Counter("number_events", "Events, by kind", ["kind"])
LEVEL = Gauge("number_level", "A gauge with labels", ["kind"], multiprocess_mode="livesum")
SIZES = Histogram("number_sizes", "Sizes", buckets=(1, 10))
WAITS = Summary("number_waits", "Waits")
BUILD = Info("number_build", "What runs")
BUILD.info({"version": "1", "stage": "test"})
PHASE = Enum("number_phase", "What it is doing", states=["starting", "running", "stopping"])
DISTANCE = Gauge("number_distance", "How far", unit="metres", multiprocess_mode="livesum")
STARTS = Counter("number_starts", "Times that this module was imported")
STARTS.inc()

StartResponse = Callable[[str, list[tuple[str, str]]], Any]


def app(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
    """Does what the query says, in its order, and answers its pid.

    `/?set=7` `event=a` `reset=a` `remove=a` `remove_by=a` `clear=` `level=a` `observe=3` `wait=2` `fork=`
    `version=2` `phase=running` `traced=3`
    """
    for action, argument in parse_qsl(environ["QUERY_STRING"], keep_blank_values=True):
        _do(action, argument)
    body = str(os.getpid()).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


def _do(action: str, argument: str) -> None:
    if action == "set":
        for gauge in GAUGES.values():
            gauge.set(float(argument))
    elif action == "event":
        EVENTS.labels(argument).inc()
    elif action == "reset":
        # New in prometheus_client 0.20.
        getattr(EVENTS.labels(argument), "reset", lambda: None)()
    elif action == "remove":
        EVENTS.remove(argument)
        LEVEL.remove(argument)
    elif action == "remove_by":
        # New in prometheus_client 0.23.
        getattr(LEVEL, "remove_by_labels", lambda labels: LEVEL.remove(*labels.values()))({"kind": argument})
    elif action == "clear":
        LEVEL.clear()
    elif action == "level":
        LEVEL.labels(argument).inc()
    elif action == "observe":
        SIZES.observe(float(argument))
    elif action == "wait":
        WAITS.observe(float(argument))
    elif action == "version":
        BUILD.info({"version": argument, "stage": "test"})
    elif action == "phase":
        PHASE.state(argument)
    elif action == "traced":
        SIZES.observe(float(argument), exemplar={"trace_id": "abc"})
        EVENTS.labels("traced").inc(exemplar={"trace_id": "def"})
    elif action == "fork":
        _fork()


def _fork() -> None:
    """Forks a child that counts by itself, and ends before the request does."""
    before = EVENTS.labels("forked")._value.get()
    child = os.fork()
    if child == 0:
        began_at = EVENTS.labels("forked")._value.get()
        EVENTS.labels("forked").inc(1000)
        os._exit(0 if began_at == 0 else 1)
    _, status = os.waitpid(child, 0)
    assert status == 0, "the child did not begin at zero"
    assert EVENTS.labels("forked")._value.get() == before, "the child wrote into its parent's memory"
