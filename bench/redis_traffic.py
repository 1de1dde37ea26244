"""Commands that Redis receives while requests are answered: from our package, and from the original."""

import time

from bench import peers
from bench.requests import ask
from bench.table import Row
from harness import Gunicorn, RedisServer, eventually

# Also a busy machine answers the larger number within the window.
FEW, MANY = 100, 1_000
WORKER = "sync"


def measure(quick: bool) -> list[Row]:
    """Compares few requests with many in equal windows: commands in the path of a request would grow with them."""
    seconds = 3 if quick else 8
    with RedisServer() as redis, Gunicorn("hello:app", redis=redis, app_directory=peers.HERE) as gunicorn:
        ask(gunicorn.port, 20)
        eventually(lambda: _writers(redis) >= 3)
        few = _commands(redis, gunicorn, FEW, seconds)
        many = _commands(redis, gunicorn, MANY, seconds)
        writers = _writers(redis)
    with RedisServer(tcp=True, module=None) as redis, peers.original(WORKER, redis) as gunicorn:
        ask(gunicorn.port, 20)
        theirs = _commands(redis, gunicorn, FEW, 0)
    of_each = ", ".join(f"{name} {calls / FEW:.0f}" for name, calls in theirs.items() if calls >= FEW)
    pushes = many.get("METRICS.PUSH", 0)
    return [
        Row(
            "Redis commands per request",
            f"{sum(many.values()) / MANY:.4f}",
            f"original package {sum(theirs.values()) / FEW:.1f}, all in its path: {of_each}",
            "none in its path",
        ),
        Row(
            f"the same in {seconds} s, whatever the requests",
            f"{_list(many)} with {MANY:,} requests",
            f"{_list(few)} with {FEW:,} requests",
            "does not grow",
        ),
        Row(
            "PUSH per writer and flush",
            f"{pushes / seconds / writers:.2f}",
            f"{pushes} in {seconds} flushes of {writers} writers: the worker, the arbiter, the exporter",
            "≤ 1",
        ),
    ]


def _commands(redis: RedisServer, gunicorn: Gunicorn, requests: int, seconds: float) -> dict[str, int]:
    """Returns counts by name, most frequent first. The window lasts `seconds`, or until the requests end."""
    before, end = _counted(redis), time.monotonic() + seconds
    ask(gunicorn.port, requests)
    time.sleep(max(0.0, end - time.monotonic()))
    grown = {name: calls - before.get(name, 0) for name, calls in _counted(redis).items()}
    return {name: calls for name, calls in sorted(grown.items(), key=lambda one: -one[1]) if calls > 0}


def _counted(redis: RedisServer) -> dict[str, int]:
    every = redis.client.info("commandstats")
    own = ("cmdstat_info", "cmdstat_METRICS.WRITERS", "cmdstat_ping")
    return {name.removeprefix("cmdstat_").upper(): int(of["calls"]) for name, of in every.items() if name not in own}


def _writers(redis: RedisServer) -> int:
    reply = redis.execute("METRICS.WRITERS", "gunicorn:metrics")
    assert isinstance(reply, list)
    return len(reply)


def _list(commands: dict[str, int]) -> str:
    return ", ".join(f"{calls} {name}" for name, calls in commands.items())
