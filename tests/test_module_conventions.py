"""What a Redis operator expects of a type of key: documentation, events, expiry, a correct memory figure."""

import random
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from redis import Redis, ResponseError
from test_module_push import Writer
from test_module_servers import binary

from harness import RedisServer, eventually
from harness.batch import MODES, Batch, Buckets, counter, gauge, histogram
from harness.paths import ROOT
from harness.redis import since_7

COMMANDS = {
    "declare": "write", "inc": "write", "set": "write", "add": "write", "observe": "write", "push": "write",
    "leave": "write", "replace": "write", "del": "write", "ttl": "write", "load": "write", "expose": "read",
    "get": "read", "info": "read", "families": "read", "writers": "read",
}  # fmt: skip


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    """A server that sends events and allows DEBUG."""
    with RedisServer(settings={"notify-keyspace-events": "KEA", "enable-debug-command": "local"}) as server:
        yield server


def answer(redis: RedisServer, *words: object) -> Any:
    """Returns the reply as RESP3 sends it, because the client library changes the reply of COMMAND."""
    with Redis(unix_socket_path=str(redis.socket), protocol=3, decode_responses=True) as client:
        connection = client.connection_pool.get_connection()
        connection.send_command(*words)
        return connection.read_response()


# --- documentation of the commands ------------------------------------------------------------------------------------


@since_7
@pytest.mark.parametrize("name", COMMANDS)
def test_command_docs_have_summary_complexity_and_arguments(redis: RedisServer, name: str) -> None:
    docs = answer(redis, "COMMAND", "DOCS", f"METRICS.{name}")[f"METRICS.{name.upper()}"]
    assert (docs["since"], docs["group"], docs["module"]) == ("1.0.0", "module", "metrics")
    assert docs["summary"].endswith(".")
    assert docs["complexity"].startswith("O(")
    arguments = docs["arguments"]
    assert (arguments[0]["name"], arguments[0]["type"], arguments[0]["key_spec_index"]) == ("key", "key", 0)


@since_7
def test_command_docs_have_the_grammar(redis: RedisServer) -> None:
    docs = answer(redis, "COMMAND", "DOCS", "METRICS.INC")["METRICS.INC"]
    by_name = {argument["name"]: argument for argument in docs["arguments"]}
    assert list(by_name) == ["key", "family", "increment", "labels", "exemplar", "ttl"]
    assert by_name["increment"]["token"] == "BY"
    assert set(by_name["increment"]["flags"]) == {"optional"}
    labels = by_name["labels"]
    assert (labels["token"], labels["type"]) == ("LABELS", "block")
    assert [part["name"] for part in labels["arguments"]] == ["numlabels", "label"]
    assert [part["name"] for part in labels["arguments"][1]["arguments"]] == ["name", "value"]


@since_7
def test_every_command_of_the_module_is_in_the_readme_and_in_these_tests(redis: RedisServer) -> None:
    """Only servers send LOAD and SETTLE."""
    listed = {name.upper() for name in answer(redis, "COMMAND", "LIST", "FILTERBY", "MODULE", "metrics")}
    assert listed == {f"METRICS.{name.upper()}" for name in COMMANDS} | {"METRICS.SETTLE"}
    readme = (ROOT / "redis-module" / "README.md").read_text()
    assert listed - {"METRICS.LOAD", "METRICS.SETTLE"} == set(re.findall(r"^\| `(METRICS\.[A-Z]+) ", readme, re.M))


@since_7
@pytest.mark.parametrize(
    ("command", "option", "words"),
    [
        ("METRICS.DECLARE", "mode", ("METRICS.DECLARE", "m", "x", "GAUGE", "MODE", "?")),
        ("METRICS.SET", "mode", ("METRICS.SET", "m", "x", 1, "MODE", "?")),
        ("METRICS.EXPOSE", "format", ("METRICS.EXPOSE", "m", "FORMAT", "?")),
        ("METRICS.EXPOSE", "escaping", ("METRICS.EXPOSE", "m", "ESCAPING", "?")),
    ],
)
def test_an_error_command_docs_and_the_readme_list_the_same_words(
    redis: RedisServer, command: str, option: str, words: Sequence[object]
) -> None:
    """So a mode, a format or a scheme that is added cannot be forgotten in one of them."""
    redis.execute("METRICS.INC", "m", "hits")
    with pytest.raises(ResponseError) as error:
        redis.execute(*words)
    allowed = re.split(", | or ", str(error.value).partition("expected ")[2].removeprefix("one of "))
    docs = answer(redis, "COMMAND", "DOCS", command)[command]
    (documented,) = [argument for argument in docs["arguments"] if argument["name"] == option]
    assert [one["token"].lower() for one in documented["arguments"]] == [word.lower() for word in allowed]
    readme = (ROOT / "redis-module" / "README.md").read_text()
    if option == "mode":
        assert f"`{' '.join(word for word in allowed if not word.startswith('live'))}`" in readme
        assert {f"live{word}" for word in allowed if not word.startswith("live")} <= set(allowed)
        assert allowed == list(MODES)
        for word in allowed:
            redis.execute(*({"x": f"in_{word}", "?": word}.get(str(one), one) for one in words))
    else:
        assert f"[{option.upper()} " + "\\|".join(allowed) + "]" in readme


@since_7
@pytest.mark.parametrize(("name", "access"), COMMANDS.items())
def test_the_server_knows_how_each_command_accesses_its_key(redis: RedisServer, name: str, access: str) -> None:
    (found,) = answer(redis, "COMMAND", "INFO", f"METRICS.{name}")
    flags, specs = set(found[2]), found[8]
    assert ("readonly" in flags) == (access == "read")
    assert ("write" in flags) == (access == "write")
    assert (found[3], found[4], found[5]) == (1, 1, 1)
    assert ("RO" in specs[0]["flags"]) == (access == "read")


# --- events -----------------------------------------------------------------------------------------------------------


def events(redis: RedisServer, commands: Sequence[Sequence[object]]) -> list[str]:
    """Returns the events of the key `m` that a subscriber gets while the commands run."""
    with Redis(unix_socket_path=str(redis.socket), decode_responses=True) as client:
        subscription = client.pubsub(ignore_subscribe_messages=True)
        subscription.psubscribe("__keyspace@0__:m")
        subscription.get_message(timeout=5)
        for words in commands:
            redis.execute(*words)
        redis.execute("PUBLISH", "__keyspace@0__:m", "the end")
        heard: list[str] = []
        while not heard or heard[-1] != "the end":
            message = subscription.get_message(timeout=5)
            assert message is not None or heard != [], "nothing is heard"
            if message is not None:
                heard.append(message["data"])
        return heard[:-1]


def test_each_change_is_an_event_and_commands_that_change_nothing_are_none(redis: RedisServer) -> None:
    heard = events(
        redis,
        [
            ("METRICS.INC", "m", "hits"),
            ("METRICS.DECLARE", "m", "wait", "HISTOGRAM"),
            ("METRICS.OBSERVE", "m", "wait", 1),
            ("METRICS.SET", "m", "depth", 1, "WRITER", "w"),
            ("METRICS.ADD", "m", "depth", 1, "WRITER", "w"),
            ("METRICS.TTL", "m", "hits", 1000),
            ("METRICS.DEL", "m", "hits"),
            ("METRICS.LEAVE", "m", "w", 0),
            ("METRICS.LEAVE", "m", "w", 0),
            ("METRICS.GET", "m", "depth"),
            ("METRICS.EXPOSE", "m"),
            ("METRICS.PUSH", "m", "p", 1, Batch().encode()),
            ("DEL", "m"),
        ],
    )
    assert heard == [
        "metrics.inc", "metrics.declare", "metrics.observe", "metrics.set", "metrics.add", "metrics.ttl",
        "metrics.del", "metrics.leave", "del",
    ]  # fmt: skip


def test_a_push_is_an_event_and_so_is_the_expiry_that_it_sets(redis: RedisServer) -> None:
    writer = Writer(redis).begin()

    def push(batch: Batch) -> tuple[object, ...]:
        writer.seq += 1
        return ("METRICS.PUSH", "m", writer.id, writer.seq, batch.encode(), "EPOCH", writer.epoch)

    state = Batch.full(registry_ttl_ms=60_000).define(counter("hits"), {}, 1)
    assert events(redis, [push(state), push(Batch())]) == ["metrics.push", "expire", "metrics.push"]


def test_series_that_expire_are_an_event_when_a_write_removes_them(redis: RedisServer) -> None:
    redis.execute("METRICS.INC", "m", "old", "TTL", 1)
    redis.execute("DEBUG", "SLEEP", "0.01")
    assert events(redis, [("METRICS.INC", "m", "new")]) == ["metrics.inc", "metrics.expired"]


def test_keys_that_expire_are_an_event(redis: RedisServer) -> None:
    redis.execute("METRICS.INC", "m", "hits")
    wait = [("PEXPIRE", "m", 50), ("DEBUG", "SLEEP", "0.1"), ("EXISTS", "m")]
    assert events(redis, wait) == ["expire", "expired"]


def test_a_watched_key_fails_the_transaction_only_when_it_has_changed(redis: RedisServer) -> None:
    redis.execute("METRICS.INC", "m", "hits")
    with Redis(unix_socket_path=str(redis.socket), decode_responses=True) as client:
        connection = client.connection_pool.get_connection()

        def outcome(between: Sequence[object]) -> object:
            for words in (("WATCH", "m"), ("MULTI",)):
                connection.send_command(*words)
                connection.read_response()
            redis.execute(*between)
            connection.send_command("METRICS.GET", "m", "hits")
            connection.read_response()
            connection.send_command("EXEC")
            return connection.read_response()

        assert outcome(["METRICS.INC", "m", "hits"]) is None
        assert outcome(["METRICS.DEL", "m", "nothing"]) == ["2"]
        assert outcome(["METRICS.EXPOSE", "m"]) == ["2"]


def test_a_key_that_a_push_makes_fails_the_transaction_of_a_client_that_watches_it(redis: RedisServer) -> None:
    """The answer to a first push is RESYNC and no series changes; but the key is new."""
    with Redis(unix_socket_path=str(redis.socket), decode_responses=True) as client:
        connection = client.connection_pool.get_connection()

        def said(*words: object) -> object:
            connection.send_command(*words)
            return connection.read_response()

        said("WATCH", "m")
        said("MULTI")
        assert events(redis, [("METRICS.PUSH", "m", "w", 1, Batch.full().encode())]) == ["metrics.push"]
        said("SET", "other", "1")
        assert said("EXEC") is None


# --- memory -----------------------------------------------------------------------------------------------------------


def fill_counters(redis: RedisServer) -> None:
    """Makes twenty thousand series by single commands."""
    redis.execute_all(
        ("METRICS.INC", "m", "http_requests", "LABELS", 2, "path", f"/things/{n}", "method", "GET")
        for n in range(20_000)
    )


def fill_groups(redis: RedisServer) -> None:
    """Makes two hundred groups of sixty series."""
    for number in range(200):
        batch = Batch.full()
        for series in range(60):
            batch.define(gauge("rows"), {"job": f"job-{number}", "table": str(series)}, number)
        redis.execute("METRICS.REPLACE", "m", 1, batch.encode(), "LABELS", 1, "job", f"job-{number}")


def fill_gauges_of_many_writers(redis: RedisServer) -> None:
    """Makes ten gauges, each with two thousand writers, and one writer with many series."""
    for number in range(2_000):
        writer = Writer(redis).begin()
        state = Batch.full()
        for series in range(10):
            state.define(gauge("depth", "livesum"), {"queue": f"queue-{series}"}, number)
        writer.push(state)


def fill_histograms(redis: RedisServer) -> None:
    """Makes two thousand histograms of three writers."""
    bounds = ["0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10"]
    for _ in range(3):
        writer = Writer(redis).begin()
        state = Batch.full()
        for series in range(2_000):
            point = Buckets(1.5, [random.Random(series).randrange(5) for _ in range(12)], bounds)
            state.define(histogram("wait"), {"path": f"/things/{series}", "method": "GET"}, point)
        writer.push(state)


@pytest.mark.parametrize("fill", [fill_counters, fill_gauges_of_many_writers, fill_histograms])
def test_memory_usage_is_within_a_tenth_of_the_real_size(
    redis: RedisServer, fill: Callable[[RedisServer], None]
) -> None:
    def used() -> int:
        return int(redis.client.info("memory")["used_memory"])

    redis.execute("METRICS.INC", "warm", "up")
    before = used()
    fill(redis)
    truth = used() - before
    told = int(str(redis.execute("MEMORY", "USAGE", "m")))
    assert 0.9 < told / truth < 1.1, (told, truth)


def test_unlink_frees_a_large_registry_in_the_background(redis: RedisServer) -> None:
    fill_counters(redis)
    before = redis.client.info("memory")
    redis.execute("UNLINK", "m")
    eventually(lambda: redis.client.info("memory")["lazyfreed_objects"], equals=before["lazyfreed_objects"] + 1)
    assert redis.client.info("memory")["used_memory"] < before["used_memory"] - 20_000 * 100
    assert redis.client.info("metrics")["metrics_series"] == 0


@pytest.mark.parametrize("name", ["redis-8", "valkey-9"])
def test_active_defragmentation_moves_the_parts_of_a_registry(name: str) -> None:
    settings = {
        "enable-debug-command": "local",
        "active-defrag-ignore-bytes": "1",
        "active-defrag-threshold-lower": "1",
        "active-defrag-cycle-min": "60",
        "active-defrag-cycle-max": "70",
        "hz": "100",
    }
    with RedisServer(binary=binary(name), settings=settings) as redis:
        fill_counters(redis)
        fill_histograms(redis)
        fill_groups(redis)
        # Two of three are removed: the rest is scattered over pages that are mostly empty.
        redis.execute_all(
            ("METRICS.DEL", "m", "http_requests", "LABELS", 2, "path", f"/things/{n}", "method", "GET")
            for n in range(20_000)
            if n % 3
        )
        for number in range(200):
            if number % 3:
                redis.execute("METRICS.REPLACE", "m", 0, "LABELS", 1, "job", f"job-{number}")
        before = redis.execute("DEBUG", "DIGEST-VALUE", "m")
        redis.execute("CONFIG", "SET", "activedefrag", "yes")

        def hits() -> bool:
            return int(redis.client.info("stats")["active_defrag_hits"]) > 3_000

        eventually(hits, equals=True)
        assert redis.execute("DEBUG", "DIGEST-VALUE", "m") == before
        assert (
            redis.execute("METRICS.INC", "m", "http_requests", "LABELS", 2, "path", "/things/0", "method", "GET") == "2"
        )
        assert len(str(redis.execute("METRICS.EXPOSE", "m", "CURSOR", "0"))) > 60_000
        # The sets of the groups are where the registry looks for them.
        for number in range(0, 200, 3):
            replaced = redis.execute("METRICS.REPLACE", "m", 0, "LABELS", 1, "job", f"job-{number}")
            assert replaced == [0, 60]
        assert redis.registry("m")["groups"] == "0"
        redis.execute("DEL", "m")
        eventually(lambda: redis.client.info("metrics")["metrics_series"], equals=0)
