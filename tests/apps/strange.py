"""An application that starts children in every way, closes all inherited descriptors, and has odd labels."""

import concurrent.futures
import contextlib
import json
import multiprocessing
import os
import resource
import socket
from collections.abc import Callable, Iterable
from typing import Any

from prometheus_client import Counter, Gauge

JOBS = Counter("strange_jobs", "Jobs", ["by"])
LEVEL = Gauge("strange_level", "Level", ["of"], multiprocess_mode="livesum")
LARGE = Counter("strange_large", "Values over the limits", ["text"])
HUGE = Counter("strange_huge", "Values over the limits, too", ["text"])

StartResponse = Callable[[str, list[tuple[str, str]]], Any]


def work(by: str) -> int:
    """The work of a child."""
    JOBS.labels(by).inc()
    return os.getpid()


def forking_work(by: str) -> int:
    """The work of a child that forks a child."""
    JOBS.labels(by).inc()
    child = os.fork()
    if child == 0:
        JOBS.labels(by).inc()
        os._exit(0)
    os.waitpid(child, 0)
    return child


def by_pool(method: str, function: Callable[[str], int], by: str) -> None:
    """Three jobs in a pool of two processes."""
    with multiprocessing.get_context(method).Pool(2) as pool:
        pool.map(function, [by] * 3)
        pool.close()
        pool.join()


def by_futures(method: str, by: str) -> None:
    """Three jobs in an executor of two processes."""
    context = multiprocessing.get_context(method)
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
        list(pool.map(work, [by] * 3))


def closing_child(own: list[socket.socket]) -> None:
    """Begins as a daemon: closes all inherited descriptors; then it opens sockets, which get the same numbers."""
    kept = {end.fileno() for end in own} | {0, 1, 2}
    for number in range(1024):
        if number not in kept:
            with contextlib.suppress(OSError):
                os.close(number)
    pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(40)]
    JOBS.labels("closing").inc()
    LEVEL.labels("closing").set(5)
    for number in range(3000):
        JOBS.labels(f"closing-{number}").inc()
    got = []
    for pair in pairs:
        for end in pair:
            end.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                got.append(end.recv(65536).decode(errors="replace"))
    own[1].sendall(json.dumps(got).encode())


def closing() -> bytes:
    """Returns the bytes that such a child found in its own sockets."""
    own = list(socket.socketpair())
    child = os.fork()
    if child == 0:
        try:
            closing_child(own)
        finally:
            os._exit(0)
    own[1].close()
    answer = own[0].recv(1 << 20)
    os.waitpid(child, 0)
    own[0].close()
    return answer


def poor() -> bytes:
    """What a child that may open no file counts, as it sees it."""
    readable, writable = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (0, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
            counter = JOBS.labels("poor")
            counter.inc()
            counter.inc()
            os.write(writable, str(counter._value.get()).encode())
        finally:
            os._exit(0)
    os.close(writable)
    with os.fdopen(readable, "rb") as pipe:
        seen = pipe.read()
    os.waitpid(child, 0)
    return seen


def app(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
    """`/pool?method`, `/futures?method`, `/forking?method` and what else is below; any other path answers the pid."""
    path, query = environ["PATH_INFO"], environ["QUERY_STRING"]
    body = str(os.getpid()).encode()
    if path == "/pool":
        by_pool(query, work, f"pool-{query}")
    elif path == "/forking":
        by_pool(query, forking_work, f"forking-{query}")
    elif path == "/futures":
        by_futures(query, f"futures-{query}")
    elif path == "/closing":
        body = closing()
    elif path == "/poor":
        body = poor()
    elif path == "/surrogate":
        JOBS.labels("lone \udcff").inc()
    elif path == "/large":
        for number in range(20):
            LARGE.labels("x" * (60_000 + number)).inc()
            HUGE.labels("x" * (60_000 + number)).inc()
    elif path == "/large/value":
        body = str(LARGE.labels("x" * 60_000)._value.get()).encode()
    elif path == "/environment":
        body = json.dumps(dict(os.environ)).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
