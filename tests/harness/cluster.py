"""A Redis Cluster of a few nodes on loopback, with the module."""

import contextlib
from collections.abc import Sequence
from types import TracebackType

import redis
from typing_extensions import Self

from harness.eventually import eventually
from harness.ports import free_port
from harness.redis import RedisServer

SLOTS = 16_384


class Cluster:
    """Primaries that share the slots evenly, and one replica of the first, which replaces it when it dies."""

    def __init__(self, primaries: int = 3) -> None:
        """Nothing runs before `start`."""
        self.nodes = [_node() for _ in range(primaries + 1)]
        self.primaries = self.nodes[:primaries]
        self.replica = self.nodes[-1]
        self._running = contextlib.ExitStack()

    def start(self) -> None:
        """Returns when all nodes agree that the cluster is whole."""
        for node in self.nodes:
            self._running.enter_context(node)
        share = -(-SLOTS // len(self.primaries))
        for number, node in enumerate(self.primaries):
            last = min(SLOTS, (number + 1) * share) - 1
            node.execute("CLUSTER", "ADDSLOTSRANGE", number * share, last)
        for number, node in enumerate(self.nodes):
            node.execute("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            if number:
                first = self.nodes[0]
                node.execute("CLUSTER", "MEET", "127.0.0.1", first.port, first.settings["cluster-port"])
        eventually(lambda: {_known(node) for node in self.nodes} == {len(self.nodes)})
        self.replica.execute("CLUSTER", "REPLICATE", node_id(self.primaries[0]))
        eventually(lambda: all(_is_whole(node) for node in self.nodes))
        eventually(lambda: self.replica.client.info("replication")["master_link_status"], equals="up")

    def owner(self, key: str) -> RedisServer:
        """Returns the node that claims to be the primary of that key's slot."""
        slot = self.slot(key)
        for node in self.nodes:
            with contextlib.suppress(redis.RedisError):
                for first, last, primary in _slots(node):
                    if first <= slot <= last and primary[1] == node.port:
                        return node
        raise AssertionError(f"no node has slot {slot}")

    def slot(self, key: str) -> int:
        """Returns the slot of a key."""
        return int(str(self.primaries[-1].execute("CLUSTER", "KEYSLOT", key)))

    def move(self, key: str, target: RedisServer) -> None:
        """Moves the key's slot to another primary, as resharding does; the other processes keep running."""
        slot, source = self.slot(key), self.owner(key)
        target.execute("CLUSTER", "SETSLOT", slot, "IMPORTING", node_id(source))
        source.execute("CLUSTER", "SETSLOT", slot, "MIGRATING", node_id(target))
        source.execute("MIGRATE", "127.0.0.1", target.port, key, 0, 10_000)
        for node in (target, source, *self.primaries):
            node.execute("CLUSTER", "SETSLOT", slot, "NODE", node_id(target))

    def environment(self, *, shards: int) -> dict[str, str]:
        """Returns variables that point an exporter, or the package, at the first node, which may die."""
        return {
            "REDIS_ENABLED": "true",
            "REDIS_HOST": "127.0.0.1",
            "REDIS_PORT": str(self.nodes[0].port),
            "GUNICORN_EXPORTER_REDIS_CLUSTER": "true",
            "GUNICORN_EXPORTER_REDIS_SHARDS": str(shards),
        }

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self._running.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._running.close()


def node_id(node: RedisServer) -> str:
    """Returns the id by which other nodes name this node."""
    return str(node.execute("CLUSTER", "MYID"))


def _node() -> RedisServer:
    return RedisServer(
        tcp=True,
        settings={
            "cluster-enabled": "yes",
            "cluster-port": str(free_port()),
            "cluster-node-timeout": "1000",
            "cluster-replica-validity-factor": "0",
        },
    )


def _known(node: RedisServer) -> int:
    return int(_info(node)["cluster_known_nodes"])


def _is_whole(node: RedisServer) -> bool:
    return _info(node)["cluster_state"] == "ok"


def _info(node: RedisServer) -> dict[str, str]:
    lines = str(node.execute("CLUSTER", "INFO")).splitlines()
    return dict(line.split(":", 1) for line in lines if line)


def _slots(node: RedisServer) -> Sequence[tuple[int, int, Sequence[object]]]:
    """First and last slot of each range, and host and port of its primary."""
    ranges = node.execute("CLUSTER", "SLOTS")
    assert isinstance(ranges, list)
    return [(first, last, primary) for first, last, primary, *_ in ranges]
