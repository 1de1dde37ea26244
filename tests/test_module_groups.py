"""`METRICS.REPLACE`: the series of a group, replaced in one step."""

import threading
from collections.abc import Iterator

import pytest
from redis import ResponseError

from harness import RedisServer, eventually
from harness.batch import Batch, Buckets, Family, counter, gauge, histogram

KEY = "m"


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    """A server that allows DEBUG."""
    with RedisServer(settings={"enable-debug-command": "local"}) as server:
        yield server


def replace(
    redis: RedisServer, group: dict[str, str], *batches: Batch, keep: bool = False, check: bool = False
) -> object:
    """Runs the command; the series have exactly the labels of their definitions."""
    labels = [word for pair in group.items() for word in pair]
    encoded = [batch.encode() for batch in batches]
    options = ["KEEP"] * keep + ["CHECK"] * check
    return redis.execute("METRICS.REPLACE", KEY, len(encoded), *encoded, "LABELS", len(group), *labels, *options)


def page(redis: RedisServer) -> str:
    """Returns the whole registry as text."""
    text = redis.execute("METRICS.EXPOSE", KEY)
    assert isinstance(text, str)
    return text


JOB = {"job": "j"}


def test_a_group_is_replaced_and_a_repetition_changes_nothing(redis: RedisServer) -> None:
    content = Batch.full().define(counter("rows", "Rows"), JOB, 5).define(gauge("depth"), {**JOB, "a": "1"}, 2)
    for _ in range(3):
        replace(redis, JOB, content)
        assert page(redis) == (
            '# TYPE depth gauge\ndepth{a="1",job="j"} 2\n'
            '# HELP rows_total Rows\n# TYPE rows_total counter\nrows_total{job="j"} 5\n'
        )
    assert replace(redis, JOB, Batch.full().define(counter("rows"), JOB, 3)) == [1, 1]
    assert page(redis) == '# TYPE rows_total counter\nrows_total{job="j"} 3\n'
    assert redis.registry(KEY)["groups"] == "1"
    assert replace(redis, JOB) == [0, 1]
    assert (page(redis), redis.registry(KEY)["groups"]) == ("", "0")
    assert replace(redis, JOB) == [0, 0]


def test_an_empty_group_makes_no_key(redis: RedisServer) -> None:
    assert replace(redis, JOB) == [0, 0]
    assert redis.execute("EXISTS", KEY) == 0


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ([Batch.full(last=False).define(gauge("x"), JOB, 1)], "batch 1 is out of order"),
        ([Batch.full().define(gauge("x"), JOB, 1), Batch.more(last=True)], "batch 1 is out of order"),
        ([Batch().define(gauge("x"), JOB, 1)], "batch 1 is out of order"),
        ([Batch.full().define(gauge("x", "all"), JOB, 1)], "a group has counters, gauges in mode sum"),
        ([Batch.full().define(Family(5, "x"), JOB, 1)], "a group has counters, gauges in mode sum"),
        ([Batch.full().define(counter("x"), JOB, 1, base=1)], "a group has counters, gauges in mode sum"),
        ([Batch.full().define(counter("x"), JOB, 1).value(0, 2)], "a group has counters, gauges in mode sum"),
        ([Batch.full().define(counter("x"), JOB, -1)], 'series x{job="j"}: value -1 is not allowed'),
        ([Batch.full().define(gauge("x"), JOB, 1).define(gauge("x"), JOB, 1)], 'series x{job="j"} is defined twice'),
        ([Batch.full().define(gauge("x_total"), JOB, 1).define(counter("x"), JOB, 1)], "family 'x' would share"),
        ([Batch.full().define(gauge("x"), {"le": "1"}, 1)], "series x: label name 'le' is reserved"),
        ([Batch.full().define(gauge("hits_total"), JOB, 1)], "family 'hits_total' would share"),
        ([Batch.full().define(gauge("hits"), JOB, 1)], "family 'hits' is a counter, not a gauge"),
        ([Batch.full().define(counter("hits"), {"b": "1"}, 1)], 'series hits{b="1"} belongs to an application'),
    ],
)
def test_a_refused_replace_names_the_cause_and_changes_nothing(
    redis: RedisServer, batches: list[Batch], message: str
) -> None:
    redis.execute("METRICS.INC", KEY, "hits", "LABELS", 1, "b", "1")
    before = redis.execute("DEBUG", "DIGEST-VALUE", KEY)
    with pytest.raises(ResponseError) as refused:
        replace(redis, JOB, *batches)
    assert str(refused.value).startswith(message)
    assert redis.execute("DEBUG", "DIGEST-VALUE", KEY) == before


def test_a_check_returns_what_a_replacement_would_and_changes_nothing(redis: RedisServer) -> None:
    content = Batch.full().define(gauge("x"), JOB, 1).define(gauge("y"), JOB, 1)
    assert replace(redis, JOB, content, check=True) == [2, 0]
    assert redis.execute("EXISTS", KEY) == 0
    replace(redis, JOB, content)
    redis.execute("METRICS.INC", KEY, "hits")
    before = redis.execute("DEBUG", "DIGEST-VALUE", KEY)
    offset = redis.client.info("replication")["master_repl_offset"]
    assert replace(redis, JOB, Batch.full().define(gauge("x"), JOB, 2), check=True) == [1, 1]
    assert replace(redis, JOB, Batch.full().define(gauge("x"), JOB, 2), keep=True, check=True) == [1, 0]
    assert replace(redis, JOB, check=True) == [0, 2]
    with pytest.raises(ResponseError, match=r"is a counter, not a gauge.*METRICS.DEL if nothing needs it"):
        replace(redis, JOB, Batch.full().define(gauge("hits"), JOB, 1), check=True)
    assert redis.execute("DEBUG", "DIGEST-VALUE", KEY) == before
    assert redis.client.info("replication")["master_repl_offset"] == offset


def test_a_reader_sees_the_old_group_or_the_new_one(redis: RedisServer) -> None:
    """Every page of a busy reader has all series of one of the two groups."""
    series = 2000
    both = []
    for value in (1.0, 2.0):
        batch = Batch.full()
        for number in range(series):
            batch.define(gauge("x"), {**JOB, "number": str(number)}, value)
        both.append(batch)
    replace(redis, JOB, both[0])
    is_over = threading.Event()
    pages: list[str] = []

    def read() -> None:
        with redis.raw_client() as client:
            while not is_over.is_set():
                pages.append(client.execute_command("METRICS.EXPOSE", KEY).decode())

    reader = threading.Thread(target=read)
    reader.start()
    for round in range(30):
        replace(redis, JOB, both[round % 2])
    is_over.set()
    reader.join()
    assert {frozenset(line.rsplit(" ", 1)[1] for line in text.splitlines()[1:]) for text in pages} == {
        frozenset("1"),
        frozenset("2"),
    }
    assert {len(text.splitlines()) for text in pages} == {series + 1}


def test_copies_have_the_same_groups() -> None:
    """Copies by replication, by RDB, and by an append only file that was rewritten."""
    with RedisServer(tcp=True, settings={"appendonly": "yes", "enable-debug-command": "local"}) as primary:
        with RedisServer(replica_of=primary, settings={"enable-debug-command": "local"}) as replica:
            for value in range(20):
                group = {"job": f"j{value % 3}"}
                batch = Batch.full().define(counter("rows"), group, 5.5 - value / 8)
                batch.define(
                    histogram("took"), {**group, "v": str(value)}, Buckets(1, [1, value], ["1"]), ttl_ms=60_000 + value
                )
                replace(primary, group, batch, keep=value % 4 == 1)
                if value == 10:
                    primary.execute("BGREWRITEAOF")

            def digest(redis: RedisServer) -> object:
                return redis.execute("DEBUG", "DIGEST-VALUE", KEY)

            assert primary.registry(KEY)["groups"] == "3"
            eventually(lambda: digest(replica) == digest(primary))
            before = digest(primary)
            primary.execute("DEBUG", "RELOAD")
            assert digest(primary) == before
            eventually(lambda: int(primary.client.info("persistence")["aof_rewrite_in_progress"]) == 0)
            primary.execute("DEBUG", "LOADAOF")
            assert digest(primary) == before
            # The promoted replica continues with the same groups.
            replica.execute("REPLICAOF", "NO", "ONE")
            assert replace(replica, {"job": "j0"}) == [0, 2]
            assert replica.registry(KEY)["groups"] == "2"


def test_a_key_with_a_group_does_not_expire(redis: RedisServer) -> None:
    """The key stays although an application's batches set an expiry of the key."""
    epoch = redis.execute("METRICS.PUSH", KEY, "w", 0, Batch().encode())
    assert isinstance(epoch, list)

    def push(seq: int) -> None:
        batch = Batch.full(registry_ttl_ms=60_000).define(counter("hits"), {}, seq)
        reply = redis.execute("METRICS.PUSH", KEY, "w", seq, batch.encode(), "EPOCH", epoch[1], "LEASE", 1000)
        assert isinstance(reply, list)
        assert reply[0] == "OK"

    push(1)
    assert int(str(redis.execute("PTTL", KEY))) > 0
    replace(redis, JOB, Batch.full().define(gauge("x"), JOB, 1))
    assert redis.execute("PTTL", KEY) == -1
    push(2)
    assert redis.execute("PTTL", KEY) == -1
    replace(redis, JOB)
    push(3)
    assert int(str(redis.execute("PTTL", KEY))) > 0


def test_at_maxmemory_a_group_gets_new_values_or_ends_but_gets_no_new_series(redis: RedisServer) -> None:
    replace(redis, JOB, Batch.full().define(gauge("x"), JOB, 1))
    redis.execute("CONFIG", "SET", "maxmemory", 1)
    assert replace(redis, JOB, Batch.full().define(gauge("x"), JOB, 2)) == [1, 0]
    with pytest.raises(ResponseError, match=r"^(OOM )?used memory > 'maxmemory'"):
        replace(redis, JOB, Batch.full().define(gauge("y"), JOB, 2))
    assert page(redis) == '# TYPE x gauge\nx{job="j"} 2\n'
    assert replace(redis, JOB) == [0, 1]


def test_no_other_command_writes_to_a_groups_series(redis: RedisServer) -> None:
    replace(redis, JOB, Batch.full().define(counter("rows"), JOB, 1).define(gauge("x"), JOB, 1))
    before = page(redis)
    for words in (
        ("METRICS.INC", KEY, "rows", "LABELS", 1, "job", "j"),
        ("METRICS.SET", KEY, "x", 5, "LABELS", 1, "job", "j"),
        ("METRICS.ADD", KEY, "x", 5, "LABELS", 1, "job", "j"),
    ):
        with pytest.raises(ResponseError, match=r'belongs to the pushed group \{job="j"\}'):
            redis.execute(*words)
    assert page(redis) == before
    assert redis.execute("METRICS.DEL", KEY, "rows") == 1
    assert redis.execute("METRICS.INC", KEY, "rows", "LABELS", 1, "job", "j") == "1"
    assert replace(redis, JOB) == [0, 1]
    assert page(redis) == '# TYPE rows_total counter\nrows_total{job="j"} 1\n'
