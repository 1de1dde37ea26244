"""Deleted and expired series make room at once, without a write, and no end of a writer makes a call long."""

import time

import pytest
from redis import ResponseError
from test_module_push import Writer

from harness import RedisServer, eventually
from harness.batch import Batch, counter, gauge

LIMIT = 500


def page(redis: RedisServer, key: str = "m") -> str:
    """Returns the whole page."""
    text = redis.execute("METRICS.EXPOSE", key)
    assert isinstance(text, str)
    return text


def fill(redis: RedisServer, family: str, *options: object) -> None:
    """Makes the maximum number of series."""
    redis.execute_all([("METRICS.INC", "m", family, "LABELS", 1, "n", n, *options) for n in range(LIMIT)])
    assert redis.registry("m")["series"] == str(LIMIT)
    with pytest.raises(ResponseError, match="as many as"):
        redis.execute("METRICS.INC", "m", "another")


def is_accepted(redis: RedisServer, *words: object) -> bool:
    """Whether there is memory for a command."""
    try:
        redis.execute(*words)
    except ResponseError:
        return False
    return True


def test_deleted_series_make_room_at_once_every_time() -> None:
    with RedisServer(module_arguments=["max-series", str(LIMIT)]) as redis:
        for number in range(6):
            fill(redis, f"hits{number}")
            assert redis.execute("METRICS.DEL", "m", f"hits{number}") == LIMIT
            assert redis.registry("m")["series"] == "0"
        # Gauges that commands have set leave nothing behind either.
        for number in range(3):
            redis.execute_all(
                [("METRICS.SET", "m", "depth", 1, "LABELS", 1, "n", f"{number}.{n}") for n in range(LIMIT)]
            )
            assert redis.execute("METRICS.DEL", "m", "depth") == LIMIT
        eventually(lambda: redis.registry("m")["remembered"], equals="0")


def test_expired_series_make_room() -> None:
    with RedisServer(module_arguments=["max-series", str(LIMIT)]) as redis:
        fill(redis, "hits", "TTL", 300)
        eventually(lambda: page(redis), equals="")
        fill(redis, "others")


def test_series_shown_only_for_writers_that_have_left_make_room() -> None:
    with RedisServer(module_arguments=["max-series", str(LIMIT)]) as redis:
        writer = Writer(redis).begin()
        state = Batch.full()
        for number in range(LIMIT):
            state.define(gauge("busy", "livesum"), {"n": str(number)}, 1)
        writer.push(state)
        assert redis.registry("m")["series"] == str(LIMIT)
        writer.leave()
        fill(redis, "hits")


def test_a_dead_fleet_is_settled_without_any_write_and_equally_on_a_replica() -> None:
    settings = {"enable-debug-command": "local"}
    retention = ["writer-retention", "500", "tombstone-retention", "1500"]
    with RedisServer(tcp=True, settings=settings, module_arguments=retention) as primary:
        with RedisServer(tcp=True, settings=settings, replica_of=primary) as replica:
            eventually(lambda: replica.client.info("replication")["master_link_status"], equals="up")
            for number in range(100):
                writer = Writer(primary, id=f"w{number}".encode()).begin()
                state = Batch.full()
                for series in range(20):
                    state.define(counter("hits"), {"n": f"{number}.{series}"}, 1, ttl_ms=300)
                    state.define(counter("shared"), {"n": str(series)}, 1, ttl_ms=300)
                writer.push(state, lease_ms=1000)
            assert page(primary).count("\n") > 2000
            # Reading alone would change nothing.
            eventually(
                lambda: {name: primary.registry("m")[name] for name in ("series", "remembered", "writers_gone")},
                equals={"series": "0", "remembered": "0", "writers_gone": "0"},
            )
            assert page(primary) == ""
            digest = primary.execute("DEBUG", "DIGEST-VALUE", "m")
            eventually(lambda: replica.execute("DEBUG", "DIGEST-VALUE", "m"), equals=digest)
            # Everything is settled, so no timer is set.
            calls = replica.stats("metrics.settle")["calls"]
            time.sleep(0.2)
            assert replica.stats("metrics.settle")["calls"] == calls


def test_at_maxmemory_deleting_frees_memory() -> None:
    with RedisServer() as redis:
        for part in range(10):
            redis.execute_all(
                [("METRICS.INC", "m", "hits", "LABELS", 1, "number", f"{part}-{n}-{'x' * 50}") for n in range(3000)]
            )
        used = int(redis.client.info("memory")["used_memory"])
        redis.execute("CONFIG", "SET", "maxmemory", used - 200_000)
        with pytest.raises(ResponseError, match="maxmemory"):
            redis.execute("METRICS.INC", "m", "another")
        assert redis.execute("METRICS.DEL", "m", "hits") == 30_000
        assert redis.registry("m")["series"] == "0"
        eventually(lambda: is_accepted(redis, "METRICS.INC", "m", "another"))
        eventually(lambda: redis.registry("m")["remembered"], equals="0")


def test_settling_does_not_fail_transactions_of_clients_that_watch_the_key() -> None:
    with RedisServer() as redis:
        writer = Writer(redis).begin()
        writer.push(Batch.full().define(counter("hits"), {}, 1), lease_ms=100)
        with redis.client.pipeline() as pipeline:
            pipeline.watch("m")  # type: ignore[no-untyped-call]
            eventually(lambda: redis.stats("metrics.settle")["calls"] > 0 or redis.registry("m")["writers"] == "0")
            time.sleep(0.1)
            pipeline.multi()
            pipeline.get("none")
            assert pipeline.execute() == [None]


def test_settle_from_a_client_is_an_error() -> None:
    with RedisServer() as redis:
        redis.execute("METRICS.INC", "m", "hits")
        with pytest.raises(ResponseError, match=r"METRICS\.SETTLE is sent by servers"):
            redis.execute("METRICS.SETTLE", "m")
