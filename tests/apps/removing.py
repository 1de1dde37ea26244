"""An application that makes gauges and removes them, as long as it is asked to."""

import threading
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs

from prometheus_client import Counter, Gauge, Histogram, Summary

from apps.plain import StartResponse

COMING = Gauge("coming", "Made and removed", ["n"], multiprocess_mode="livesum")
STAYING = Gauge("staying", "Made and kept", ["n"], multiprocess_mode="sum")
ENDED = Counter("ended", "Made, and removed later", ["n"])
SHORT = Counter("short", "Made, incremented and removed in one request", ["n"])
SHORT_HISTOGRAM = Histogram("short_histogram", "Like that", ["n"], buckets=[1])
SHORT_SUMMARY = Summary("short_summary", "Like that", ["n"])
ROUNDS = Counter("rounds", "Gauges that were made and removed")
_numbers = iter(range(10**9))


def app(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
    """/?count=&threads= makes so many in each thread and removes them.

    /clear removes with `clear()`. /counters makes counters, /no_counters removes them. /short counts in
    children that it removes before it answers. /again makes children again while they are removed.
    """
    query = parse_qs(environ["QUERY_STRING"])
    if "threads" in query:
        threads = [
            threading.Thread(target=_churn, args=(int(query["count"][0]),)) for _ in range(int(query["threads"][0]))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    elif environ["PATH_INFO"] == "/counters":
        for number in range(int(query["count"][0])):
            ENDED.labels(str(number)).inc()
    elif environ["PATH_INFO"] == "/no_counters":
        ENDED.clear()
    elif environ["PATH_INFO"] == "/short":
        for number in range(int(query["count"][0])):
            name = str(number)
            SHORT.labels(name).inc(2)
            SHORT.remove(name)
            SHORT_HISTOGRAM.labels(name).observe(0.5)
            SHORT_HISTOGRAM.clear()
            SHORT_SUMMARY.labels(name).observe(3)
            SHORT_SUMMARY.remove(name)
    elif environ["PATH_INFO"] == "/again":
        STAYING.labels("again").set(1000)
        _made_again_during(lambda: STAYING.remove("again"), "again")
        if hasattr(STAYING, "remove_by_labels"):
            STAYING.labels("again").set(1000)
            _made_again_during(lambda: STAYING.remove_by_labels({"n": "again"}), "again")
        STAYING.labels("cleared").set(1000)
        _made_again_during(STAYING.clear, "cleared")
    elif environ["PATH_INFO"] == "/clear":
        for _ in range(int(query["count"][0])):
            COMING.labels(str(next(_numbers))).set(1)
        COMING.clear()
    else:
        _churn(int(query["count"][0]))
    start_response("200 OK", [("Content-Length", "0")])
    return []


def _made_again_during(remove: Callable[[], None], label: str) -> None:
    """Removes a child; as soon as it is gone, as another thread may do it, makes one with the same label."""
    lock = STAYING._lock

    class Then:
        def __enter__(self) -> None:
            lock.acquire()

        def __exit__(self, *_: object) -> None:
            lock.release()
            STAYING._lock = lock
            STAYING.labels(label).inc(1)

    STAYING._lock = Then()  # type: ignore[assignment]
    remove()
    assert STAYING.labels(label)._value.get() == 1


def _churn(count: int) -> None:
    for _ in range(count):
        name = str(next(_numbers))
        COMING.labels(name).set(1)
        COMING.remove(name)
        ROUNDS.inc()
    STAYING.labels(str(count)).inc()
