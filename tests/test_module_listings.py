"""The contents of a registry: METRICS.FAMILIES and METRICS.WRITERS, whole and in pages."""

from collections.abc import Iterator

import pytest
from redis import Redis, ResponseError
from test_module_push import Writer

from harness import RedisServer
from harness.batch import Batch, counter
from harness.redis import since_7


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    """A server."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def resp3(redis: RedisServer) -> Iterator[Redis]:
    """A client of that server for which maps are maps."""
    with Redis(
        unix_socket_path=str(redis.socket), protocol=3, decode_responses=True, encoding_errors="surrogateescape"
    ) as client:
        yield client


@since_7
def test_families_lists_the_properties_of_each_family(redis: RedisServer, resp3: Redis) -> None:
    redis.execute(
        "METRICS.DECLARE", "m", "wait_seconds", "HISTOGRAM", "HELP", "Waiting", "UNIT", "seconds", "TTL", 70_000
    )
    redis.execute("METRICS.OBSERVE", "m", "wait_seconds", 1, "BUCKETS", 2, "0.5", "1.0")
    redis.execute("METRICS.SET", "m", "depth", 1, "MODE", "livemax", "LABELS", 1, "queue", "a")
    redis.execute("METRICS.SET", "m", "depth", 1, "MODE", "livemax", "LABELS", 1, "queue", "b")
    redis.execute("METRICS.INC", "m", "hits_total")
    redis.execute("METRICS.DECLARE", "m", "size", "NATIVEHISTOGRAM", "SCHEMA", -1)
    listed = resp3.execute_command("METRICS.FAMILIES", "m")  # type: ignore[no-untyped-call]
    assert listed == [
        {"name": "depth", "type": "gauge", "mode": "livemax", "help": "", "unit": "", "series": 2},
        {"name": "hits", "type": "counter", "help": "", "unit": "", "series": 1},
        {"name": "size", "type": "nativehistogram", "help": "", "unit": "", "series": 0, "schema": -1},
        {
            "name": "wait_seconds",
            "type": "histogram",
            "help": "Waiting",
            "unit": "seconds",
            "series": 1,
            "ttl_ms": 70_000,
            "buckets": ["0.5", "1.0"],
        },
    ]


def test_an_older_client_gets_the_same_as_flat_arrays(redis: RedisServer) -> None:
    redis.execute("METRICS.INC", "m", "hits")
    with Redis(unix_socket_path=str(redis.socket), protocol=2, decode_responses=True) as resp2:
        listed = resp2.execute_command("METRICS.FAMILIES", "m")
    assert listed == [["name", "hits", "type", "counter", "help", "", "unit", "", "series", 1]]


@since_7
def test_writers_lists_state_and_lease_of_each_writer(redis: RedisServer, resp3: Redis) -> None:
    pushing = Writer(redis).begin()
    pushing.push(Batch.full().define(counter("hits"), {}, 1).define(counter("misses"), {}, 1), lease_ms=60_000)
    redis.execute("METRICS.SET", "m", "depth", 1, "WRITER", "endless")
    redis.execute("METRICS.SET", "m", "depth", 1, "WRITER", "gone")
    redis.execute("METRICS.LEAVE", "m", "gone", 0)
    listed = resp3.execute_command("METRICS.WRITERS", "m")  # type: ignore[no-untyped-call]
    first, endless, gone = listed
    assert 50_000 < first.pop("lease_ms") <= 60_000
    assert first == {
        "id": pushing.id.decode(errors="surrogateescape"),
        "state": "live",
        "pid": "",
        "seq": 1,
        "series": 2,
    }
    assert endless == {"id": "endless", "state": "live", "pid": "", "seq": 0, "series": 1, "lease_ms": -1}
    assert (gone["id"], gone["state"], gone["series"], gone["lease_ms"]) == ("gone", "left", 0, 0)


@since_7
def test_pages_of_families_are_complete_while_others_come_and_go(redis: RedisServer) -> None:
    redis.execute_all(("METRICS.INC", "m", f"f{number:04}") for number in range(1600))
    listed: list[str] = []
    cursor, pages = "0", 0
    while True:
        reply = redis.execute("METRICS.FAMILIES", "m", "CURSOR", cursor)
        assert isinstance(reply, list)
        cursor, page = reply
        assert len(page) <= 500
        listed += [entry["name"] for entry in page]
        pages += 1
        if cursor == "0":
            break
        redis.execute("METRICS.DEL", "m", listed[-1])
        redis.execute("METRICS.INC", "m", "aaa")
    assert pages == 4
    assert listed == [f"f{number:04}" for number in range(1600)]


@since_7
def test_pages_of_writers_are_complete(redis: RedisServer) -> None:
    redis.execute_all(("METRICS.SET", "m", "depth", 1, "WRITER", f"w{number}") for number in range(1200))
    listed: list[str] = []
    cursor = "0"
    while True:
        reply = redis.execute("METRICS.WRITERS", "m", "CURSOR", cursor)
        assert isinstance(reply, list)
        cursor, page = reply
        listed += [entry["id"] for entry in page]
        if cursor == "0":
            break
    assert sorted(listed) == sorted(f"w{number}" for number in range(1200))


def test_the_error_for_a_list_that_is_too_long_names_cursor(redis: RedisServer) -> None:
    redis.execute_all(("METRICS.INC", "m", f"f{number}") for number in range(600))
    with pytest.raises(ResponseError, match="there are more than 500 entries, ask for them in pages: CURSOR 0"):
        redis.execute("METRICS.FAMILIES", "m")


def test_lists_of_a_missing_key_are_empty(redis: RedisServer) -> None:
    assert redis.execute("METRICS.FAMILIES", "m") == []
    assert redis.execute("METRICS.WRITERS", "m", "CURSOR", "0") == ["0", []]
    assert redis.execute("EXISTS", "m") == 0


@since_7
def test_single_families_are_shown_with_the_buckets_that_live_writers_have(redis: RedisServer) -> None:
    redis.execute("METRICS.INC", "m", "jobs")
    redis.execute("METRICS.OBSERVE", "m", "seconds", 1)
    found = redis.execute("METRICS.FAMILIES", "m", "NAMES", 3, "seconds", "nothing", "jobs")
    assert isinstance(found, list)
    assert [entry["name"] for entry in found] == ["seconds", "jobs"]
    assert [entry["held_buckets"] for entry in found] == [[], []]
    assert redis.execute("METRICS.FAMILIES", "other", "NAMES", 1, "jobs") == []
    with pytest.raises(ResponseError, match="CURSOR does not go with NAMES"):
        redis.execute("METRICS.FAMILIES", "m", "CURSOR", "0", "NAMES", 1, "jobs")
