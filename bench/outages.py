"""Duration of requests while Redis cannot be used, and while it can, in windows that alternate."""

import http.client
import signal
import time
from collections.abc import Callable

from bench.requests import HERE, OURS
from bench.table import Row, median
from harness import Gunicorn, RedisServer, Venv


def _come_back_empty(redis: RedisServer) -> None:
    redis.shutdown(keep_data=False)
    redis.start()


OUTAGES: dict[str, tuple[Callable[[RedisServer], object], Callable[[RedisServer], object]]] = {
    "hangs": (lambda redis: redis.send(signal.SIGSTOP), lambda redis: redis.send(signal.SIGCONT)),
    "is away": (lambda redis: redis.shutdown(keep_data=True), RedisServer.start),
    "has just come back empty": (_come_back_empty, lambda _: None),
}


def measure(quick: bool) -> list[Row]:
    """Measures the 99th percentile of requests, which one connection sends one after the other."""
    pairs, seconds = (2, 0.5) if quick else (12, 2.0)
    rows = []
    with RedisServer() as redis:
        worker = OURS["gthread"]
        with Gunicorn(
            "hello:app", venv=Venv.default(), worker_class=worker, redis=redis, app_directory=HERE
        ) as gunicorn:
            _window(gunicorn.port, seconds)
            for name, (begin, end) in OUTAGES.items():
                healthy, faulty = [], []
                for _ in range(pairs):
                    healthy.append(_window(gunicorn.port, seconds))
                    begin(redis)
                    faulty.append(_window(gunicorn.port, seconds))
                    end(redis)
                ratio = median([during / before for during, before in zip(faulty, healthy, strict=True)])
                beside = f"{median(faulty).value * 1e6:.0f} µs, healthy {median(healthy).value * 1e6:.0f} µs"
                rows.append(Row(f"p99 of requests while Redis {name} ÷ healthy", f"{ratio}", beside, "≤ 1.1"))
    return rows


def _window(port: int, seconds: float) -> float:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    took, end = [], time.perf_counter() + seconds
    while (began := time.perf_counter()) < end:
        connection.request("GET", "/")
        response = connection.getresponse()
        response.read()
        assert response.status == 200
        took.append(time.perf_counter() - began)
    connection.close()
    return sorted(took)[len(took) * 99 // 100]
