"""Room that was made is room, without a write that asks for it; and nothing that ends makes a call long."""

import time

import pytest
from redis import ResponseError
from test_module_push import Writer

from harness import RedisServer, eventually
from harness.batch import Batch, counter, gauge

LIMIT = 500


def page(redis: RedisServer, key: str = "m") -> str:
    """The whole page."""
    text = redis.execute("METRICS.EXPOSE", key)
    assert isinstance(text, str)
    return text


def fill(redis: RedisServer, family: str, *options: object) -> None:
    """As many series as there may be."""
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


def test_what_was_deleted_makes_room_at_once_however_often() -> None:
    with RedisServer(module_arguments=["max-series", str(LIMIT)]) as redis:
        for number in range(6):
            fill(redis, f"hits{number}")
            assert redis.execute("METRICS.DEL", "m", f"hits{number}") == LIMIT
            assert redis.registry("m")["series"] == "0"
        # Gauges that were set by hand leave nothing behind either.
        for number in range(3):
            redis.execute_all(
                [("METRICS.SET", "m", "depth", 1, "LABELS", 1, "n", f"{number}.{n}") for n in range(LIMIT)]
            )
            assert redis.execute("METRICS.DEL", "m", "depth") == LIMIT
        eventually(lambda: redis.registry("m")["remembered"], equals="0")


def test_what_has_expired_makes_room() -> None:
    with RedisServer(module_arguments=["max-series", str(LIMIT)]) as redis:
        fill(redis, "hits", "TTL", 300)
        eventually(lambda: page(redis), equals="")
        fill(redis, "others")


def test_what_only_writers_showed_that_have_left_makes_room() -> None:
    with RedisServer(module_arguments=["max-series", str(LIMIT)]) as redis:
        writer = Writer(redis).begin()
        state = Batch.full()
        for number in range(LIMIT):
            state.define(gauge("busy", "livesum"), {"n": str(number)}, 1)
        writer.push(state)
        assert redis.registry("m")["series"] == str(LIMIT)
        writer.leave()
        fill(redis, "hits")


def test_a_dead_fleet_is_worked_off_without_any_write_and_alike_on_a_replica() -> None:
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
            # Everything is done, so no timer goes on.
            calls = replica.stats("metrics.settle")["calls"]
            time.sleep(0.2)
            assert replica.stats("metrics.settle")["calls"] == calls


def test_deleting_makes_room_for_memory_too_though_every_creating_command_is_refused() -> None:
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


def test_settling_is_no_change_for_clients_that_watch_the_key() -> None:
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


def test_a_client_cannot_settle() -> None:
    with RedisServer() as redis:
        redis.execute("METRICS.INC", "m", "hits")
        with pytest.raises(ResponseError, match=r"METRICS\.SETTLE is sent by servers"):
            redis.execute("METRICS.SETTLE", "m")
