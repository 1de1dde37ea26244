"""An application that imports prometheus_client with its first order; other requests answer whether it is loaded."""

import sys
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any


@cache
def _orders() -> Any:
    from prometheus_client.core import CounterMetricFamily  # noqa: F401 - a submodule may come first
    from prometheus_client import Counter, Gauge  # isort: skip

    Gauge("late_level", "Level", multiprocess_mode="livesum").set_function(lambda: 3)
    return Counter("late_orders", "Orders")


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Counts at /order."""
    if environ["PATH_INFO"] == "/order":
        _orders().inc()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str("prometheus_client" in sys.modules).encode()]
