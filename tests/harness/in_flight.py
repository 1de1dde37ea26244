"""Requests that stay in progress, and what an instance tells of them."""

import contextlib
import json
import random
import re
import socket
import urllib.request
from collections.abc import Iterator
from typing import Any, NamedTuple

from harness.eventually import eventually
from harness.gunicorn import Gunicorn

_LINE = re.compile(r"worker (\d+) \(([^)]*)\) (.*?) while answering (.*)")


class Sent(NamedTuple):
    """A request that was sent."""

    method: str
    path: str
    trace: str


class Death(NamedTuple):
    """A line of the error log."""

    pid: int
    worker: str
    how: str
    answering: str


def overview(gunicorn: Gunicorn) -> dict[str, Any]:
    """Returns the content of `/requests`."""
    url = f"http://127.0.0.1:{gunicorn.metrics_port}/requests"
    with urllib.request.urlopen(url, timeout=10) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


def deaths(gunicorn: Gunicorn) -> list[Death]:
    """Returns the lines of the error log about deaths."""
    found = (_LINE.search(line) for line in gunicorn.log.splitlines())
    return [Death(int(line[1]), line[2], line[3], line[4]) for line in found if line is not None]


@contextlib.contextmanager
def sent(gunicorn: Gunicorn, *requests: tuple[str, str]) -> Iterator[list[Sent]]:
    """Sends requests, method and path, each on a connection of its own, and waits until all are in progress."""
    with contextlib.ExitStack() as connections:
        made = []
        for method, path in requests:
            connection = connections.enter_context(socket.create_connection(("127.0.0.1", gunicorn.port), timeout=30))
            trace = f"{random.getrandbits(128) | 1:032x}"
            head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n"
            connection.sendall(f"{head}traceparent: 00-{trace}-00f067aa0ba902b7-01\r\n\r\n".encode())
            made.append(Sent(method, path, trace))
        yield made


def traces_in_progress(gunicorn: Gunicorn) -> set[str]:
    """Returns the traces of the requests in progress."""
    return {request["trace"] for request in overview(gunicorn)["requests"]}


def all_in_progress(gunicorn: Gunicorn, requests: list[Sent]) -> None:
    """Waits until exactly these are in progress."""
    eventually(lambda: traces_in_progress(gunicorn), equals={request.trace for request in requests})
