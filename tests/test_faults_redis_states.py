"""Redis is there but cannot be used, in every way: requests continue, counts are exact, the log stays short."""

import re
import signal
import socket
import time
from collections.abc import Callable
from threading import Thread
from typing import NamedTuple

import pytest

from harness import Exporter, Gunicorn, Load, RedisServer, eventually, scrape
from harness.paths import MODULE, built
from harness.ports import free_port

SECONDS = 4.0
REQUESTS = "gunicorn_worker_requests_total"
# One line when a fault begins and one when it ends is enough; with a fault of four seconds there may be a few more.
MOST_LINES = 12


class Fault(NamedTuple):
    """How a fault begins and ends."""

    begin: Callable[[RedisServer], object]
    end: Callable[[RedisServer], object]


def _refuse_connections(redis: RedisServer) -> None:
    """Every client must reconnect, and Redis refuses clients without a password."""
    redis.execute("ACL", "SETUSER", "keeper", "on", "nopass", "allkeys", "allchannels", "allcommands")
    redis.execute("AUTH", "keeper", "")
    redis.execute("ACL", "SETUSER", "default", "resetpass", ">another")
    redis.execute("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


def _be_full_of_clients(redis: RedisServer) -> None:
    """The test takes the only place for a client."""
    redis.execute("CONFIG", "SET", "maxclients", 1)
    redis.execute("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


def _begin_loading(redis: RedisServer) -> None:
    """Restarts it, so that it reads its data for as long as the fault lasts."""
    keys = 1_000
    redis.execute_all([("SET", f"other:{number}", "x" * 100) for number in range(keys)])
    redis.shutdown(keep_data=True)
    redis.settings |= {
        "key-load-delay": str(int(SECONDS * 1e6 / keys)),
        "loading-process-events-interval-bytes": "1024",
    }
    starting = Thread(target=redis.start, daemon=True)
    starting.start()
    eventually(lambda: _says_loading(redis))


def _says_loading(redis: RedisServer) -> bool:
    # Through a plain socket, because a client of redis-py repeats the command until it gets another answer.
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(redis.socket))
        client.sendall(b"PING\r\n")
        return client.recv(100).startswith(b"-LOADING")


FAULTS = {
    "hangs": Fault(lambda redis: redis.send(signal.SIGSTOP), lambda redis: redis.send(signal.SIGCONT)),
    "is full": Fault(
        lambda redis: redis.execute("CONFIG", "SET", "maxmemory", 1),
        lambda redis: redis.execute("CONFIG", "SET", "maxmemory", 0),
    ),
    "is read-only": Fault(
        lambda redis: redis.execute("REPLICAOF", "127.0.0.1", free_port()),
        lambda redis: redis.execute("REPLICAOF", "NO", "ONE"),
    ),
    "wants another password": Fault(
        _refuse_connections, lambda redis: redis.execute("ACL", "SETUSER", "default", "nopass")
    ),
    "has too many clients": Fault(
        _be_full_of_clients, lambda redis: redis.execute("CONFIG", "SET", "maxclients", 10_000)
    ),
    "loads its data": Fault(_begin_loading, lambda redis: eventually(redis.assert_ready)),
    "is killed": Fault(lambda redis: redis.shutdown(keep_data=True), lambda redis: redis.start()),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_redis_that_cannot_be_used_costs_no_request_and_no_count(fault: Fault) -> None:
    with (
        RedisServer(tcp=True) as redis,
        Exporter(redis=redis) as exporter,
        Gunicorn(redis=redis, workers=2) as gunicorn,
    ):
        with Load([gunicorn.port], clients=2) as load:
            load.wait_for(100)
            eventually(lambda: scrape(exporter.metrics_url).sum(REQUESTS) > 0)
            lines = len(_about_redis(gunicorn))
            fault.begin(redis)
            _time_passes(gunicorn, load)
            fault.end(redis)
            load.wait_for(50)
        sent = len(load.outcomes)
        assert load.statuses() == {200: sent}
        eventually(lambda: scrape(exporter.metrics_url).sum(REQUESTS), equals=float(sent))
        eventually(lambda: scrape(gunicorn.metrics_url).sum(REQUESTS), equals=float(sent))
        said = _about_redis(gunicorn)[lines:]
        assert len(said) <= MOST_LINES, said


def test_an_instance_finds_a_redis_that_starts_later() -> None:
    """Gunicorn starts first, and counts."""
    redis = RedisServer(tcp=True)
    with Gunicorn(redis=redis, workers=2) as gunicorn:
        with Load([gunicorn.port], clients=2) as load:
            _time_passes(gunicorn, load)
            with redis, Exporter(redis=redis) as exporter:
                load.wait_for(50)
                load.__exit__(None, None, None)
                sent = len(load.outcomes)
                assert load.statuses() == {200: sent}
                eventually(lambda: scrape(exporter.metrics_url).sum(REQUESTS), equals=float(sent))
        assert len(_about_redis(gunicorn)) <= MOST_LINES


def test_a_redis_without_the_module_is_one_line_and_is_used_once_it_has_it() -> None:
    settings = {"enable-module-command": "local"}
    with RedisServer(tcp=True, module=None, settings=settings) as redis:
        with Gunicorn(redis=redis, workers=2) as gunicorn:
            with Load([gunicorn.port], clients=2) as load:
                _time_passes(gunicorn, load)
                [line] = {re.sub(r"^\[.*?\] |\d+", "", line) for line in _about_redis(gunicorn)}
                assert "module" in line
                redis.execute("MODULE", "LOAD", str(built(MODULE)))
                load.wait_for(50)
            sent = len(load.outcomes)
            assert load.statuses() == {200: sent}
            with Exporter(redis=redis) as exporter:
                eventually(lambda: scrape(exporter.metrics_url).sum(REQUESTS), equals=float(sent))
            assert len(_about_redis(gunicorn)) <= MOST_LINES


def _time_passes(gunicorn: Gunicorn, load: Load) -> None:
    """Lets time pass; requests are answered, and so is the instance's own page."""
    load.wait_for(20)
    end, answered = time.monotonic() + SECONDS, load.answered
    while time.monotonic() < end:
        assert scrape(f"{gunicorn.metrics_url}/instance").sum(REQUESTS) > 0
        time.sleep(0.2)
    assert load.answered > answered + 10, "requests waited for Redis"


def _about_redis(gunicorn: Gunicorn) -> list[str]:
    return [line for line in gunicorn.log.splitlines() if re.search("redis|module", line, re.IGNORECASE)]
