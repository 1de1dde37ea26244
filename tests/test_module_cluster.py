"""A key that moves to another node of a cluster, in every way that servers have, stays the same there."""

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from redis.exceptions import MovedError
from test_module_durability import write_all_kinds
from test_module_push import Writer
from test_module_servers import binary, debug

from harness import RedisServer, eventually
from harness.batch import Batch, counter
from harness.cluster import SLOTS, node_id
from harness.ports import free_port

SLOT_OF_M = 15627


@contextlib.contextmanager
def two_nodes(name: str) -> Iterator[tuple[RedisServer, RedisServer]]:
    """A cluster of two primaries; the first has every slot."""
    with contextlib.ExitStack() as running:
        nodes = []
        for _ in range(2):
            port = {} if name == "redis-6.2" else {"cluster-port": str(free_port())}
            settings = {"cluster-enabled": "yes", "cluster-node-timeout": "2000", **port, **debug(name)}
            nodes.append(running.enter_context(RedisServer(binary=binary(name), tcp=True, settings=settings)))
        first, second = nodes
        first.execute("CLUSTER", "ADDSLOTS", *range(SLOTS))
        for number, node in enumerate(nodes):
            node.execute("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        second.execute(
            "CLUSTER",
            "MEET",
            "127.0.0.1",
            first.port,
            *[first.settings[k] for k in ("cluster-port",) if k in first.settings],
        )
        eventually(
            lambda: [line.split(":")[1] for node in nodes for line in cluster_info(node, "state")], equals=["ok", "ok"]
        )
        eventually(
            lambda: [line.split(":")[1] for node in nodes for line in cluster_info(node, "known_nodes")],
            equals=["2", "2"],
        )
        yield first, second


def cluster_info(node: RedisServer, field: str) -> list[str]:
    """Returns one line of CLUSTER INFO."""
    return [line for line in str(node.execute("CLUSTER", "INFO")).splitlines() if line.startswith(f"cluster_{field}:")]


def digest(node: RedisServer) -> object:
    """Returns the digest of the key."""
    return node.execute("DEBUG", "DIGEST-VALUE", "m")


@pytest.mark.parametrize("name", ["redis-7.0", "valkey-8.0", "redis-8", "valkey-9"])
def test_migrate_moves_the_key_unchanged(name: str) -> None:
    with two_nodes(name) as (first, second):
        writer = write_all_kinds(first, writes=100)
        before = digest(first)
        second.execute("CLUSTER", "SETSLOT", SLOT_OF_M, "IMPORTING", node_id(first))
        first.execute("CLUSTER", "SETSLOT", SLOT_OF_M, "MIGRATING", node_id(second))
        assert first.execute("MIGRATE", "127.0.0.1", second.port, "m", 0, 10_000) == "OK"
        for node in (second, first):
            node.execute("CLUSTER", "SETSLOT", SLOT_OF_M, "NODE", node_id(second))
        assert digest(second) == before
        goes_on(writer, second)


def test_valkey_moves_the_slot_atomically_with_writes_that_arrive_meanwhile() -> None:
    with two_nodes("valkey-9") as (first, second):
        writer = moved_while_written(first, second)
        goes_on(writer, second)


def test_redis_8_moves_the_slot_with_writes_that_arrive_meanwhile() -> None:
    with two_nodes("redis-8") as (first, second):
        writer = moved_while_written(first, second)
        goes_on(writer, second)


def moved_while_written(first: RedisServer, second: RedisServer) -> Writer:
    """Several megabytes move; writes continue until the first node no longer has the key."""
    writer = write_all_kinds(first, writes=100)
    first.execute_all(
        ("METRICS.INC", "m", "paths", "LABELS", 1, "path", f"{number}{'x' * 1000}") for number in range(3_000)
    )
    last = first.registry("m")
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write_until_moved, first)
        if "valkey" in str(first.binary):
            first.execute("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", SLOT_OF_M, SLOT_OF_M, "NODE", node_id(second))
        else:
            second.execute("CLUSTER", "MIGRATION", "IMPORT", SLOT_OF_M, SLOT_OF_M)
        acknowledged = writing.result()
    assert acknowledged > 0
    eventually(lambda: second.execute("EXISTS", "m"), equals=1)
    total = sum(
        float(str(second.execute("METRICS.GET", "m", "meanwhile", "LABELS", 1, "n", n)))
        for n in range(min(7, acknowledged))
    )
    assert total == acknowledged
    assert second.registry("m")["epoch"] == last["epoch"]
    assert int(second.registry("m")["series"]) > 3_000
    return writer


def write_until_moved(first: RedisServer) -> int:
    """Returns how many increments were acknowledged."""
    for acknowledged in range(300_000):
        try:
            first.execute("METRICS.INC", "m", "meanwhile", "LABELS", 1, "n", str(acknowledged % 7))
        except MovedError:
            return acknowledged
    raise AssertionError("the slot has not moved")


def goes_on(writer: Writer, second: RedisServer) -> None:
    """A writer that follows the key continues from the same values, and nothing counts twice."""
    with pytest.raises(MovedError):
        writer.push(Batch())
    writer.redis = second
    assert writer.send(writer.seq, Batch())[0] in ("OK", "DUP")
    writer.push(Batch.full().define(counter("after"), {}, 3))
    assert second.execute("METRICS.GET", "m", "after") == "3"
    assert second.registry("m")["epoch"] == writer.epoch
