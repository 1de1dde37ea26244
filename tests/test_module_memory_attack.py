"""A user who may only PUSH cannot bring a full Redis past its `maxmemory`."""

import contextlib
import os
from typing import Any

from redis import ConnectionError as RedisConnectionError
from redis import Redis, ResponseError
from test_module_push import Writer, hits

from harness import RedisServer
from harness.batch import Batch, counter, gauge

# What a connection, its buffers and the accounting of the allocator may add.
SLACK_BYTES = 2 << 20


def used_memory(redis: RedisServer) -> int:
    """Returns the bytes that Redis has allocated."""
    return int(redis.client.info("memory")["used_memory"])


def test_a_user_who_may_only_push_cannot_take_memory_from_a_full_redis(redis: RedisServer) -> None:
    redis.execute("ACL", "SETUSER", "pusher", "on", ">secret", "~*", "-@all", "+metrics.push")
    known = Writer(redis).begin()
    known.push(hits(5))
    attacker: Any = Redis(unix_socket_path=str(redis.socket), username="pusher", password="secret")
    before = used_memory(redis)
    redis.execute("CONFIG", "SET", "maxmemory", before)

    # New writers with long names, in a key that is there and in keys that do not exist; names beyond every limit.
    refused = 0
    for number in range(150):
        for size in (16, 200, 100_000):
            key = "m" if number % 2 else f"new-{number}"
            with contextlib.suppress(RedisConnectionError):
                try:
                    attacker.execute_command("METRICS.PUSH", key, os.urandom(size), 1, hits(1).encode())
                except ResponseError:
                    refused += 1
    assert refused == 450
    # A writer that is known, with thousands of definitions that there is no room for, again and again.
    definitions = Batch()
    for number in range(1_000):
        definitions.define(counter(f"attack_{number}"), {"label": "x" * 200}, 1)
        definitions.define(gauge("one"), {"label": f"{number}" * 40}, 1)
    for _ in range(10):
        known.seq += 1
        command = ("METRICS.PUSH", "m", known.id, known.seq, definitions.encode(), "EPOCH", known.epoch)
        reply = attacker.execute_command(*command)
        assert reply[0] == b"OK", reply
    attacker.close()
    assert used_memory(redis) < before + SLACK_BYTES
    assert redis.client.dbsize() == 1

    # And the registry goes on exactly.
    redis.execute("CONFIG", "SET", "maxmemory", 0)
    assert known.push(hits(6))[0] == "OK"
