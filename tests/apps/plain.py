"""A WSGI application without a framework, with its own metrics, that also counts its requests in a file.

The file survives any death: if `ARRIVALS` names it, each request appends one byte to it before it does anything
else. `DEATH` in a query string makes the worker kill itself at a chosen moment of the request.
"""

import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import parse_qs

from prometheus_client import Counter, Gauge, Histogram

ORDERS = Counter("shop_orders", "Orders taken", ["kind"])
SECONDS = Histogram("shop_order_seconds", "Time to take an order", buckets=(0.001, 0.1, 1.0))
CARTS = Gauge("shop_carts", "Carts that are open", multiprocess_mode="livesum")

_arrivals = (
    os.open(os.environ["ARRIVALS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT) if "ARRIVALS" in os.environ else None
)

StartResponse = Callable[[str, list[tuple[str, str]]], Any]


def app(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
    """Routes: / /order /echo /boom /missing /slow?seconds= and /die?when=before|during|after."""
    if _arrivals is not None:
        os.write(_arrivals, b".")
    path, query = environ["PATH_INFO"], parse_qs(environ["QUERY_STRING"])
    if path == "/order":
        ORDERS.labels("book").inc()
        CARTS.set(1)
        with SECONDS.time():
            return _answer(start_response, "200 OK", b"ordered\n")
    if path == "/echo":
        return _answer(start_response, "200 OK", environ["wsgi.input"].read())
    if path == "/boom":
        raise ValueError("boom")
    if path == "/slow":
        time.sleep(float(query["seconds"][0]))
    if path == "/die":
        return _die(start_response, query["when"][0])
    if path == "/missing":
        return _answer(start_response, "404 Not Found", b"nothing here\n")
    return _answer(start_response, "200 OK", b"hello\n")


def _answer(start_response: StartResponse, status: str, body: bytes) -> list[bytes]:
    start_response(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


class _Body:
    """A response in two parts; its worker dies between them, or after the client has received the last one."""

    def __init__(self, when: str) -> None:
        self.when = when

    def __iter__(self) -> Iterator[bytes]:
        yield b"half "
        if self.when == "during":
            _kill()
        yield b"whole\n"

    def close(self) -> None:
        if self.when == "after":
            _kill()


def _die(start_response: StartResponse, when: str) -> Iterable[bytes]:
    if when == "before":
        _kill()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "11")])
    return _Body(when)


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
