"""The application of hello.py, which counts its requests by hand: method, endpoint and status."""

import time
from typing import Any

from prometheus_client import Counter, Histogram

from bench import hello

LABELS = ["method", "endpoint", "status"]
REQUESTS = Counter("http_requests", "Requests.", LABELS)
DURATION = Histogram("http_request_duration_seconds", "Time until the answer.", LABELS)


def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """Measures the application that it wraps."""
    begin = time.perf_counter()
    status = ""

    def start(line: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        nonlocal status
        status = line[:3]
        return start_response(line, headers, exc_info)

    body = hello.app(environ, start)
    labels = environ["REQUEST_METHOD"], environ["PATH_INFO"], status
    REQUESTS.labels(*labels).inc()
    DURATION.labels(*labels).observe(time.perf_counter() - begin)
    return body
