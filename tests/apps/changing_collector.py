"""A custom collector that yields its series, fails or yields nothing, by the path that was requested last."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from prometheus_client import REGISTRY, Counter, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

EVALUATIONS = Counter("evaluations", "How often the collector was asked")


class Database:
    """What it yields, by the last path that was requested."""

    state = "/"

    def describe(self) -> Iterable[Metric]:
        """Returns nothing, so that registration does not call `collect`."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yields the same numbers whenever it yields anything."""
        EVALUATIONS.inc()
        if Database.state == "/fails":
            raise ConnectionError("the database is away")
        if Database.state == "/empty":
            return
        yield CounterMetricFamily("rows", "Rows", value=100)
        yield GaugeMetricFamily("connections", "Connections", value=3)
        buckets = [("1.0", 2.0), ("+Inf", 5.0)]
        yield HistogramMetricFamily("waited", "Waited", buckets=buckets, sum_value=21)


REGISTRY.register(Database())


def app(environ: dict[str, Any], start_response: Callable[[str, list[tuple[str, str]]], Any]) -> Iterable[bytes]:
    """Changes the state."""
    Database.state = environ["PATH_INFO"]
    start_response("200 OK", [("Content-Length", "3")])
    return [b"ok\n"]
