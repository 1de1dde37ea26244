"""Written data is still there and equal after a restart, in a copy, on a replica, in an append only file."""

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis, ResponseError
from test_module_push import Writer

from harness import RedisServer, eventually
from harness.batch import Batch, Buckets, Timed, counter, gauge, histogram, summary
from harness.redis import since_7

DEBUG = {"enable-debug-command": "local"}
AOF = {"appendonly": "yes", "appendfsync": "always", **DEBUG}


def state(redis: RedisServer, key: str = "m") -> tuple[object, object]:
    """Returns the page and the digest of a key."""
    return redis.execute("METRICS.EXPOSE", key), redis.execute("DEBUG", "DIGEST-VALUE", key)


def write_all_kinds(redis: RedisServer, *, seed: int = 1, writes: int = 300) -> Writer:
    """Runs every command on every kind of series, in a mixed order; returns a writer that is still alive."""
    choice = random.Random(seed)
    writers = [Writer(redis).begin() for _ in range(3)]
    for writer in writers:
        full = Batch.full().define(counter("hits"), {"code": "200"}, 1).define(gauge("depth", "livesum"), {}, 2)
        full.define(gauge("seen", "mostrecent"), {}, Timed(3, 4)).define(gauge("mem", "all"), {}, 1, pid="h:1")
        full.define(histogram("wait"), {}, Buckets(1, [1, 0, 0], ["0.1", "1"]), ttl_ms=60_000)
        full.define(summary("size"), {}, Buckets(1, [1]))
        writer.push(full)
    sums = {writer.id: 1 for writer in writers}
    for _ in range(writes):
        label = ("LABELS", 1, "n", choice.randrange(20))
        writer = choice.choice(writers)
        sums[writer.id] += choice.randrange(5)
        match choice.randrange(9):
            case 0:
                redis.execute("METRICS.INC", "m", "direct_hits", "BY", choice.random(), *label)
            case 1:
                redis.execute("METRICS.SET", "m", "direct_depth", choice.random(), *label, "TTL", 60_000)
            case 2:
                redis.execute(
                    "METRICS.ADD", "m", "direct_max", choice.random(), "MODE", "max", "WRITER", f"x{seed}", *label
                )
            case 3:
                redis.execute("METRICS.OBSERVE", "m", "direct_wait", choice.random(), *label)
            case 4:
                redis.execute("METRICS.DEL", "m", "direct_hits", *label)
            case 5:
                redis.execute("METRICS.TTL", "m", "direct_hits", 100_000, *label)
            case 6:
                redis.execute("METRICS.DECLARE", "m", f"declared_{choice.randrange(5)}", "COUNTER", "HELP", "x")
            case _:
                writer.push(Batch().value(0, sums[writer.id]).timed(2, sums[writer.id], 5).value(1, choice.random()))
    redis.execute("METRICS.LEAVE", "m", f"x{seed}", 0)
    writers[1].leave()
    writers[2].push(Batch().retire(0).value(1, 9))
    return writers[0]


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    """A server that allows DEBUG, and can have replicas."""
    with RedisServer(tcp=True, settings=DEBUG) as server:
        yield server


def test_a_restart_from_rdb_changes_nothing(redis: RedisServer) -> None:
    write_all_kinds(redis)
    _, before = state(redis)
    redis.shutdown(keep_data=True)
    redis.start()
    assert redis.execute("DEBUG", "DIGEST-VALUE", "m") == before


@pytest.mark.parametrize("preamble", ["yes", "no"])
@pytest.mark.parametrize("rewritten", [False, True])
def test_a_restart_from_the_append_only_file_changes_nothing(preamble: str, rewritten: bool) -> None:
    with RedisServer(settings={**AOF, "aof-use-rdb-preamble": preamble}) as redis:
        write_all_kinds(redis)
        if rewritten:
            redis.execute("BGREWRITEAOF")
            eventually(lambda: redis.client.info("persistence")["aof_rewrite_in_progress"], equals=0)
            eventually(lambda: redis.client.info("persistence")["aof_rewrite_scheduled"], equals=0)
            redis.execute("METRICS.INC", "m", "after_the_rewrite")
        _, before = state(redis)
        redis.kill()
        redis.start()
        assert redis.execute("DEBUG", "DIGEST-VALUE", "m") == before


def test_a_value_of_several_megabytes_survives_a_rewrite_without_preamble() -> None:
    with RedisServer(settings={**AOF, "aof-use-rdb-preamble": "no"}) as redis:
        paths = (f"{number}{'x' * 3000}" for number in range(1500))
        redis.execute_all(["METRICS.INC", "m", "hits", "LABELS", 1, "path", path] for path in paths)
        digest = redis.execute("DEBUG", "DIGEST-VALUE", "m")
        redis.execute("BGREWRITEAOF")
        eventually(lambda: redis.client.info("persistence")["aof_rewrite_in_progress"], equals=0)
        rewritten = b"".join(path.read_bytes() for path in Path(redis.directory).rglob("*.aof"))
        assert rewritten.count(b"METRICS.LOAD") > 2
        redis.kill()
        redis.start()
        assert redis.execute("DEBUG", "DIGEST-VALUE", "m") == digest


def test_a_replica_shows_the_same(redis: RedisServer) -> None:
    write_all_kinds(redis, seed=1)
    with RedisServer(settings={**AOF}, replica_of=redis) as replica:
        eventually(lambda: state(replica), equals=state(redis))
        write_all_kinds(redis, seed=2)
        redis.execute("METRICS.INC", "another", "hits")
        eventually(lambda: state(replica, "another"), equals=state(redis, "another"))
        assert state(replica) == state(redis)
        assert replica.execute("DEBUG", "DIGEST") == redis.execute("DEBUG", "DIGEST")
        with pytest.raises(ResponseError, match="read only replica"):
            replica.execute("METRICS.INC", "m", "hits")
        replica.kill()
        replica.start()
        eventually(lambda: state(replica), equals=state(redis))


@since_7
def test_a_replica_forgets_what_its_primary_forgets(redis: RedisServer) -> None:
    retention = ("writer-retention", "tombstone-retention")
    for setting in retention:
        redis.execute("CONFIG", "SET", f"metrics.{setting}", 20)
    choice = random.Random(3)
    with RedisServer(settings=DEBUG, replica_of=redis) as replica:
        for _ in range(100):
            writer = Writer(redis).begin()
            full = Batch.full()
            for number in range(choice.randrange(1, 10)):
                family = choice.choice([counter("hits"), gauge("depth", "livesum"), gauge("top", "max")])
                full.define(family, {"n": str(choice.randrange(30))}, number, ttl_ms=choice.choice([0, 5, 20]))
            writer.push(full, lease_ms=choice.choice([1, 10, 100]))
            label = ("LABELS", 1, "n", choice.randrange(30))
            redis.execute("METRICS.INC", "m", "direct", *label, "TTL", choice.randrange(1, 30))
            if choice.random() < 0.2:
                redis.execute("METRICS.DEL", "m", choice.choice(["hits", "depth", "direct"]))
            if choice.random() < 0.3:
                writer.leave()
        # The primary has settled everything that was due: it does so by itself.
        eventually(lambda: redis.registry("m")["writers_gone"], equals="0")
        time.sleep(0.3)
        digest = redis.execute("DEBUG", "DIGEST-VALUE", "m")
        eventually(lambda: replica.execute("DEBUG", "DIGEST-VALUE", "m"), equals=digest)
        assert int(redis.registry("m")["expired"]) > 0
        redis.execute("DEBUG", "RELOAD")
        assert redis.execute("DEBUG", "DIGEST-VALUE", "m") == digest


@since_7
def test_a_replica_with_other_settings_has_the_same_state(redis: RedisServer) -> None:
    limits = ["max-series", "5", "default-ttl", "1"]
    with RedisServer(settings=DEBUG, replica_of=redis, module_arguments=limits) as replica:
        redis.execute("CONFIG", "SET", "metrics.max-series", 50)
        writer = Writer(redis)
        writer.begin()
        eventually(lambda: state(replica), equals=state(redis))
        full = Batch.full(registry_ttl_ms=100_000)
        for number in range(60):
            full.define(counter("hits"), {"n": str(number)}, number)
        assert writer.push(full)[3] == 10
        eventually(lambda: state(replica), equals=state(redis))
        assert replica.execute("PEXPIRETIME", "m") == redis.execute("PEXPIRETIME", "m")


def test_writes_in_transactions_and_scripts_are_replicated(redis: RedisServer) -> None:
    with RedisServer(settings=DEBUG, replica_of=redis) as replica:
        redis.execute_all([["METRICS.INC", "m", "hits"], ["METRICS.SET", "m", "depth", 2]], transaction=True)
        redis.execute("EVAL", "return redis.call('METRICS.INC', KEYS[1], 'hits', 'BY', '0.1')", 1, "m")
        eventually(lambda: state(replica), equals=state(redis))
        assert redis.execute("METRICS.GET", "m", "hits") == "1.1"


def test_only_changes_are_replicated(redis: RedisServer) -> None:
    redis.execute("CONFIG", "SET", "repl-ping-replica-period", 3600)
    with RedisServer(settings=DEBUG, replica_of=redis) as replica:
        writer = Writer(redis).begin()
        writer.push(Batch.full().define(counter("hits"), {}, 1))
        eventually(lambda: state(replica), equals=state(redis))

        def offset() -> int:
            return int(redis.client.info("replication")["master_repl_offset"])

        before = offset()
        assert writer.send(1, Batch.full())[0] == "DUP"
        assert writer.send(9, Batch())[0] == "RESYNC"
        with pytest.raises(ResponseError):
            redis.execute("METRICS.INC", "m", "hits", "BY", -1)
        assert redis.execute("METRICS.LEAVE", "nothing", "w", 1)[0] == "OK"  # type: ignore[index]
        assert offset() == before
        assert state(replica) == state(redis)


def shown(redis: RedisServer) -> str:
    """Returns the page, or the code of the error."""
    try:
        return str(redis.execute("METRICS.EXPOSE", "m"))
    except ResponseError as error:
        return str(error).split()[0]


@since_7
def test_a_promoted_replica_heals_before_it_is_scraped(redis: RedisServer) -> None:
    redis.execute("CONFIG", "SET", "metrics.healing-time", 1_000)
    with RedisServer(settings=DEBUG, replica_of=redis, module_arguments=["healing-time", "1000"]) as replica:
        back, away = Writer(redis).begin(), Writer(redis).begin()
        for writer, code in ((back, "200"), (away, "500")):
            writer.push(Batch.full().define(counter("hits"), {"code": code}, 5).define(gauge("depth"), {}, 1))
        eventually(lambda: state(replica), equals=state(redis))
        replica.execute("REPLICAOF", "NO", "ONE")
        assert shown(replica) == "HEALING"
        back.redis = replica
        assert back.push(Batch().value(0, 7)) == ["OK", back.epoch, 2, 0]
        assert shown(replica) == "HEALING"
        eventually(lambda: shown(replica) != "HEALING")
        assert back.push(Batch())[0] == "OK"
        assert shown(replica).splitlines() == [
            "# TYPE depth gauge",
            "depth 2",
            "# TYPE hits_total counter",
            'hits_total{code="200"} 7',
            'hits_total{code="500"} 0',
        ]


def test_writers_send_again_what_an_older_copy_lacks(redis: RedisServer) -> None:
    writer = Writer(redis).begin()
    writer.push(Batch.full().define(counter("hits"), {}, 5))
    with Redis(unix_socket_path=str(redis.socket)) as client:
        copy = client.dump("m")
        writer.push(Batch().value(0, 9))
        client.restore("m", 0, copy, replace=True)
    assert shown(redis) == "HEALING"
    assert writer.push(Batch().value(0, 12))[:3] == ["RESYNC", writer.epoch, 1]
    assert writer.push(Batch.full().define(counter("hits"), {}, 12))[0] == "OK"
    assert redis.execute("METRICS.GET", "m", "hits") == "12"


def test_a_registry_without_writers_needs_no_healing(redis: RedisServer) -> None:
    redis.execute("METRICS.INC", "m", "hits")
    redis.shutdown(keep_data=True)
    redis.start()
    assert redis.execute("METRICS.EXPOSE", "m") == "# TYPE hits_total counter\nhits_total 1\n"


def test_copies_are_equal_and_then_independent(redis: RedisServer) -> None:
    redis.execute("METRICS.INC", "m", "hits")
    redis.execute("COPY", "m", "copy")
    assert state(redis, "copy") == state(redis)
    redis.execute("METRICS.INC", "copy", "hits")
    assert redis.execute("METRICS.GET", "m", "hits") == "1"
    redis.execute("RENAME", "copy", "other")
    assert redis.execute("METRICS.GET", "other", "hits") == "2"
    assert redis.client.info("metrics")["metrics_keys"] == 2
    assert int(str(redis.execute("MEMORY", "USAGE", "m"))) > 500


def test_damaged_dumps_are_refused(redis: RedisServer) -> None:
    write_all_kinds(redis, writes=50)
    # Without compression and checksum, which would keep the damage from our own reader.
    redis.execute("CONFIG", "SET", "rdbcompression", "no")
    choice = random.Random(7)
    with Redis(unix_socket_path=str(redis.socket)) as client:
        dump = client.dump("m")
        assert isinstance(dump, bytes)
        body, version = dump[:-10], dump[-10:-8]
        refused = 0
        for _ in range(2000):
            damaged = bytearray(body)
            for _ in range(choice.randrange(1, 4)):
                damaged[choice.randrange(10, len(damaged))] = choice.randrange(256)
            payload = bytes(damaged[: choice.randrange(10, len(damaged))] if choice.random() < 0.3 else damaged)
            payload += version + crc64(payload + version)
            try:
                client.restore("damaged", 0, payload, replace=True)
            except ResponseError:
                refused += 1
            else:
                client.execute_command("METRICS.INC", "damaged", "hits_of_the_damaged")
                client.execute_command("DEL", "damaged")
        assert refused > 1000
    assert redis.execute("PING")
    assert "internal error" not in redis.log


def crc64(data: bytes) -> bytes:
    """Returns Redis' CRC-64 (Jones), as DUMP payloads have it."""
    crc = 0
    for byte in data:
        crc = (crc >> 8) ^ _CRC_TABLE[(crc ^ byte) & 0xFF]
    return crc.to_bytes(8, "little")


def _crc_of_byte(byte: int) -> int:
    for _ in range(8):
        byte = (byte >> 1) ^ (0x95AC9329AC4BC9B5 if byte & 1 else 0)
    return byte


_CRC_TABLE = [_crc_of_byte(byte) for byte in range(256)]
