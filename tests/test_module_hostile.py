"""Corrupted bytes, defects of the module, and too much of everything: the server continues."""

import random
from collections.abc import Iterator

import pytest
from redis import Redis, ResponseError
from test_module_durability import write_all_kinds
from test_module_push import Writer

from harness import RedisServer, eventually
from harness.batch import Batch, counter

DEBUG = {"enable-debug-command": "local"}
# The RDB version and the checksum belong to Redis.
FOOTER_BYTES = 10


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    """A server that allows DEBUG."""
    with RedisServer(settings=DEBUG) as server:
        yield server


def corrupted(dump: bytes, choice: random.Random) -> bytes:
    """Returns the dump with flipped bits, replaced bytes, missing or repeated parts."""
    body = bytearray(dump[:-FOOTER_BYTES])
    for _ in range(choice.choice([1, 1, 1, 2, 8])):
        at = choice.randrange(12, len(body))
        match choice.randrange(5):
            case 0:
                body[at] ^= 1 << choice.randrange(8)
            case 1:
                body[at] = choice.choice([0, 1, 0x7F, 0x80, 0xFF])
            case 2:
                del body[at : at + choice.randrange(1, 20)]
            case 3:
                body[at:at] = body[at : at + choice.randrange(1, 20)]
            case _:
                del body[at:]
        if len(body) < 20:
            break
    return bytes(body) + dump[-FOOTER_BYTES:]


@pytest.mark.parametrize("seed", range(4))
def test_thousands_of_corrupted_dumps_are_refused_or_work(redis: RedisServer, seed: int) -> None:
    choice = random.Random(seed)
    write_all_kinds(redis, seed=seed, writes=40)
    # Without compression the damage reaches our own reader, not that of Redis.
    redis.execute("CONFIG", "SET", "rdbcompression", "no")
    redis.execute("DEBUG", "SET-SKIP-CHECKSUM-VALIDATION", 1)
    accepted = 0
    with Redis(unix_socket_path=str(redis.socket), socket_timeout=60) as client:
        dump = client.execute_command("DUMP", "m")
        assert isinstance(dump, bytes)
        for _ in range(10):
            pipeline = client.pipeline(transaction=False)
            for number in range(100):
                key = f"r{number}"
                pipeline.execute_command("RESTORE", key, 0, corrupted(dump, choice), "REPLACE")
                # An accepted dump must work with every command.
                pipeline.execute_command("METRICS.EXPOSE", key)
                pipeline.execute_command("METRICS.INC", key, "hits", "LABELS", 1, "code", "200")
                pipeline.execute_command("METRICS.DEL", key, "hits")
                pipeline.execute_command("METRICS.WRITERS", key)
                pipeline.execute_command("DUMP", key)
                pipeline.execute_command("MEMORY", "USAGE", key)
            replies = pipeline.execute(raise_on_error=False)
            accepted += sum(reply == b"OK" for reply in replies[::7])
            assert not [reply for reply in replies if isinstance(reply, Exception) and "internal error" in str(reply)]
            client.execute_command("DEL", *[f"r{number}" for number in range(100)])
    assert accepted < 1_000, "nothing was refused"
    assert redis.execute("PING")
    assert "internal error" not in redis.log


# --- defects ----------------------------------------------------------------------------------------------------------

ANY_BATCH = Batch().encode()


@pytest.mark.parametrize(
    "words",
    [
        ("METRICS.DECLARE", "m", "x", "COUNTER"), ("METRICS.INC", "m", "x"), ("METRICS.SET", "m", "x", 1),
        ("METRICS.ADD", "m", "x", 1), ("METRICS.OBSERVE", "m", "x", 1), ("METRICS.PUSH", "m", "w", 1, ANY_BATCH),
        ("METRICS.LEAVE", "m", "w", 1), ("METRICS.REPLACE", "m", 0, "LABELS", 1, "a", "b"),
        ("METRICS.EXPOSE", "m"), ("METRICS.GET", "m", "x"), ("METRICS.DEL", "m", "x"),
        ("METRICS.TTL", "m", "x", 1), ("METRICS.INFO", "m"), ("METRICS.FAMILIES", "m"), ("METRICS.WRITERS", "m"),
        ("METRICS.LOAD", "m", 1, 1, "x"),
    ],
    ids=lambda words: str(words[0]),
)  # fmt: skip
def test_a_panic_in_a_command_is_an_error_reply(words: tuple[object, ...]) -> None:
    server = RedisServer()
    server.environment["REDIS_METRICS_FAILPOINT"] = str(words[0])
    with server:
        for _ in range(3):
            with pytest.raises(ResponseError, match=r"^internal error$"):
                server.execute(*words)
        assert server.execute("SET", "other", 1)
        assert "internal error, please report it: panicked at" in server.log


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("digest", ("DEBUG", "DIGEST-VALUE", "m")),
        ("copy", ("COPY", "m", "copy")),
        ("mem_usage", ("MEMORY", "USAGE", "m")),
        ("rdb_save", ("DUMP", "m")),
    ],
)
def test_a_panic_in_a_callback_leaves_the_server_up(place: str, words: tuple[object, ...]) -> None:
    server = RedisServer(settings=DEBUG)
    server.environment["REDIS_METRICS_FAILPOINT"] = place
    with server:
        server.execute("METRICS.INC", "m", "hits")
        with Redis(unix_socket_path=str(server.socket)) as client:
            client.pipeline(transaction=False).execute_command(*words).execute(raise_on_error=False)
        assert server.execute("METRICS.GET", "m", "hits") == "1"
        assert f"failpoint {place}" in server.log


def test_a_panic_while_a_child_saves_keeps_the_file_before_it() -> None:
    server = RedisServer()
    with server:
        server.execute("METRICS.INC", "m", "hits")
        server.execute("SAVE")
        server.stop()
        server.environment["REDIS_METRICS_FAILPOINT"] = "rdb_save"
        server.start()
        server.execute("METRICS.INC", "m", "hits")
        server.execute("BGSAVE")
        eventually(lambda: server.client.info("persistence")["rdb_last_bgsave_status"], equals="err")
        server.kill()
        del server.environment["REDIS_METRICS_FAILPOINT"]
        server.start()
        assert server.execute("METRICS.GET", "m", "hits") == "1"


def test_a_panic_while_loading_refuses_the_dump(redis: RedisServer) -> None:
    redis.execute("METRICS.INC", "m", "hits")
    with Redis(unix_socket_path=str(redis.socket)) as client:
        dump = client.execute_command("DUMP", "m")
    server = RedisServer()
    server.environment["REDIS_METRICS_FAILPOINT"] = "rdb_load"
    with server:
        with pytest.raises(ResponseError, match="Bad data format"):
            server.execute("RESTORE", "m", 0, dump)
        assert server.execute("METRICS.INC", "m", "hits") == "1"


# --- limits -----------------------------------------------------------------------------------------------------------


def test_at_the_series_limit_new_series_are_refused_or_left_out_and_others_continue() -> None:
    limit, batch = 5_000, 4_000
    with RedisServer(module_arguments=["max-series", str(limit)]) as redis:
        writer = Writer(redis).begin()
        left_out, name = 0, counter("hits")
        for number in range(10):
            state = Batch.full() if number == 0 else Batch()
            for series in range(batch):
                state.define(name, {"n": f"{number}-{series}"}, 1)
            status, _, _, out = writer.push(state)
            assert status == "OK"
            left_out += int(str(out))
        assert left_out == 10 * batch - limit
        info = redis.registry("m")
        assert (info["series"], info["rejected"]) == (str(limit), f"max_series={left_out}")
        with pytest.raises(ResponseError, match=rf"the registry has {limit} series, as many as metrics\.max-series"):
            redis.execute("METRICS.INC", "m", "another")
        assert redis.execute("METRICS.INC", "m", "hits", "LABELS", 1, "n", "0-0", "BY", 2) == "3"
        assert redis.execute("METRICS.DEL", "m", "hits", "LABELS", 1, "n", "0-1") == 1
        redis.execute("METRICS.INC", "other", "hits")
