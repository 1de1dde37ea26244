"""Primary, replica, RDB and AOF have the same state after any write, and with any clock."""

import functools
import random
import time
from collections.abc import Iterator

import pytest
from redis import ResponseError
from test_module_push import Writer

from harness import RedisServer, eventually
from harness.batch import Batch, Buckets, Timed, counter, gauge, histogram, summary
from harness.clock import SkewedClock

KEYS = ("one", "two")
MODES = ("all", "liveall", "min", "livemin", "max", "livemax", "sum", "livesum", "mostrecent", "livemostrecent")
HOUR = 3600.0
# Only a clock that jumps ends it: nothing may come due while copies are compared.
LONG_MS = 1_200_000


def digests(redis: RedisServer) -> dict[str, object]:
    """Returns the digest of every key."""
    return {key: redis.execute("DEBUG", "DIGEST-VALUE", key) for key in KEYS if redis.execute("EXISTS", key)}


def is_rewriting(redis: RedisServer) -> int:
    """Whether the append only file is being rewritten."""
    return int(redis.client.info("persistence")["aof_rewrite_in_progress"])


class Workload:
    """A random mixture of all writes, including refused ones."""

    def __init__(self, redis: RedisServer, seed: int) -> None:
        self.redis, self.choice, self.choice_of_groups = redis, random.Random(seed), random.Random(-seed - 1)
        self.writers: list[tuple[Writer, dict[int, float]]] = []
        self.born = 0
        self.refusals: list[str] = []

    def run(self, steps: int) -> None:
        """Runs that many commands."""
        for _ in range(steps):
            step = self.choice.choice([self.direct, self.direct, self.direct, self.gauge, self.push, self.push])
            try:
                if self.choice_of_groups.random() < 0.15:
                    self.replace(self.choice_of_groups.choice(KEYS))
                step(self.choice.choice(KEYS))
            except ResponseError as error:
                self.refusals.append(str(error))

    def options(self) -> list[object]:
        """Returns labels, and often a TTL that may end within the test."""
        found: list[object] = ["LABELS", 1, "n", self.choice.randrange(30)]
        if self.choice.random() < 0.3:
            found += ["TTL", self.choice.choice([0, 1, 5, 50, 1_800_000])]
        return found

    def direct(self, key: str) -> None:
        """Runs a command without a writer."""
        number = self.choice.randrange(4)
        words: list[object] = self.choice.choice(
            [
                ["INC", key, f"hits{number}", "BY", self.choice.random(), *self.options()],
                ["INC", key, f"hits{number}", "EXEMPLAR", 1, "trace", self.choice.randrange(99), *self.options()],
                ["OBSERVE", key, f"wait{number}", self.choice.expovariate(3), *self.options()],
                ["OBSERVE", key, f"size{number}", self.choice.expovariate(3), *self.options()],
                ["DECLARE", key, f"size{number}", "NATIVEHISTOGRAM", "SCHEMA", self.choice.choice([-1, 0, 3])],
                ["DECLARE", key, f"wait{number}", "HISTOGRAM", "BUCKETS", 2, "0.1", "1", "TTL", 20],
                ["DECLARE", key, f"state{number}", "STATESET", "HELP", "x"],
                ["SET", key, f"state{number}", self.choice.randrange(2), "LABELS", 1, f"state{number}", "up"],
                ["DECLARE", key, f"build{number}", "INFO"],
                ["SET", key, f"build{number}", 1, "LABELS", 1, "version", self.choice.randrange(3)],
                ["DEL", key, f"hits{number}", *self.options()[:4]],
                ["DEL", key, f"wait{number}"],
                ["TTL", key, f"hits{number}", self.choice.choice([0, 10, 1_800_000])],
            ]
        )
        self.redis.execute(f"METRICS.{words[0]}", *words[1:])

    def gauge(self, key: str) -> None:
        """Runs SET and ADD in every mode, by writers with and without leases, some of which leave."""
        writer = f"w{self.choice.randrange(4)}"
        if self.choice.random() < 0.1:
            self.redis.execute("METRICS.LEAVE", key, writer, 0)
            return
        mode = self.choice.choice(MODES)
        lease = ["LEASE", self.choice.choice([1, 20, LONG_MS, 7_200_000])] if self.choice.random() < 0.7 else []
        command = self.choice.choice(["METRICS.SET", "METRICS.ADD"])
        value = self.choice.choice([1.5, -3, 0.1, "NaN", "+Inf"])
        self.redis.execute(
            command, key, f"depth_{mode}", value, "MODE", mode, "WRITER", writer, *lease, *self.options()
        )

    def replace(self, key: str) -> None:
        """Replaces a group; sometimes without series, or with a series of another owner."""
        job = str(self.choice_of_groups.randrange(3))
        batch, ttl_ms = Batch.full(), self.choice_of_groups.choice([0, 5, 50])
        for number in range(self.choice_of_groups.randrange(4)):
            labels = {"job": job, "n": str(self.choice_of_groups.randrange(6))} if number else {"n": "3"}
            name, is_counter = f"job{number}", self.choice_of_groups.random() < 0.5
            batch.define(counter(name) if is_counter else gauge(name), labels, number, ttl_ms=ttl_ms)
        batches = [batch.encode()] if batch.entries else []
        keep = ["KEEP"] if self.choice_of_groups.random() < 0.3 else []
        self.redis.execute("METRICS.REPLACE", key, len(batches), *batches, "LABELS", 1, "job", job, *keep)

    def push(self, key: str) -> None:
        """Pushes batches of a few writers; sometimes repeated, late, or the last."""
        if len(self.writers) < 5 or self.choice.random() < 0.02:
            self.born += 1
            writer = Writer(self.redis, key=key, id=f"p{self.born}".encode()).begin()
            values = {index: self.choice.random() * 100 for index in range(4)}
            full = (
                Batch.full().define(counter("served"), {"n": "1"}, values[0]).define(counter("failed"), {}, values[1])
            )
            full.define(gauge("busy", self.choice.choice(["livesum", "sum", "max"])), {}, values[2])
            full.define(gauge("seen", "mostrecent"), {}, Timed(values[3], 5), ttl_ms=self.choice.choice([0, 30]))
            full.define(histogram("took"), {}, Buckets(1, [1, 0, 0], ["0.1", "1"]), ttl_ms=40)
            full.define(summary("bytes"), {}, Buckets(1, [1]))
            writer.push(full, lease_ms=self.choice.choice([1, 50, LONG_MS, 7_200_000]))
            self.writers.append((writer, values))
            return
        writer, values = self.choice.choice(self.writers)
        lease = self.choice.choice([1, 50, LONG_MS])
        batch = Batch()
        for index in (0, 1):
            values[index] += self.choice.random()
            batch.value(index, values[index])
        batch.value(2, self.choice.random()).timed(3, self.choice.random(), self.choice.random() * 1e9)
        match self.choice.randrange(20):
            case 0:
                writer.send(writer.seq, batch, lease_ms=lease)
            case 1:
                writer.send(writer.seq + 2, batch, lease_ms=lease)
            case 2:
                writer.leave()
                self.writers.remove((writer, values))
            case 3:
                writer.push(batch.retire(self.choice.randrange(6)), lease_ms=lease)
            case _:
                writer.push(batch, lease_ms=lease)


def server(preamble: str, replica_of: RedisServer | None = None) -> tuple[RedisServer, SkewedClock]:
    """Returns a server with an append only file, and its own clock."""
    settings = {
        "appendonly": "yes",
        "appendfsync": "always",
        "aof-use-rdb-preamble": preamble,
        "enable-debug-command": "local",
        "repl-backlog-size": "32mb",
    }
    arguments = ["writer-retention", "100", "tombstone-retention", "1800000", "healing-time", "20"]
    made = RedisServer(tcp=True, settings=settings, module_arguments=arguments, replica_of=replica_of)
    return made, SkewedClock(made)


@pytest.fixture(
    params=[("yes", 1), ("no", 2), ("yes", 3), ("no", 4)], ids=lambda param: f"preamble-{param[0]}-{param[1]}"
)
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[RedisServer, SkewedClock, RedisServer, SkewedClock, int]]:
    """A primary and a replica with different settings, each with its own clock."""
    preamble, seed = request.param
    primary, primary_clock = server(preamble)
    with primary:
        replica, replica_clock = server("no" if preamble == "yes" else "yes", replica_of=primary)
        replica.module_arguments = ["max-series", "3"]
        with replica:
            eventually(lambda: replica.client.info("replication")["master_link_status"], equals="up")
            yield primary, primary_clock, replica, replica_clock, seed


def at_rest(redis: RedisServer) -> dict[str, object]:
    """Returns the digests of a server that has settled everything that was due."""

    def unchanged() -> dict[str, object]:
        before = digests(redis)
        time.sleep(0.3)
        assert digests(redis) == before
        return before

    return eventually(unchanged)


def test_every_copy_has_the_same_state_though_clocks_jump_by_an_hour(
    pair: tuple[RedisServer, SkewedClock, RedisServer, SkewedClock, int],
) -> None:
    primary, primary_clock, replica, replica_clock, seed = pair
    workload = Workload(primary, seed)
    choice = random.Random(seed)
    for part in range(8):
        workload.run(150)
        primary_clock.skew(choice.choice([0.0, HOUR, -HOUR, 30.0, 0.1, 2 * HOUR]))
        replica_clock.skew(choice.choice([HOUR, -HOUR]))
        if part == 4:
            primary.execute("BGREWRITEAOF")
            replica.execute("BGREWRITEAOF")
        primary.execute("WAIT", 1, 10_000)
        # The time that a reader sees is not part of the state.
        for redis in (primary, replica):
            for key in KEYS:
                redis.execute_all([("METRICS.INFO", key), ("METRICS.WRITERS", key)])
    assert not [refusal for refusal in workload.refusals if "internal" in refusal]
    before = at_rest(primary)
    assert set(before) == set(KEYS)
    info = primary.registry("one")
    assert int(info["expired"]) > 0, "nothing expired: the test has lost its point"
    assert int(info["writers_gone"]) > 0, "no writer has left: the test proves nothing"
    assert abs(primary.client.time()[0] - time.time()) + abs(replica.client.time()[0] - time.time()) > 1_000
    # A clock that went back by seconds stands still for as long, so something may come due at any time.
    eventually(lambda: digests(replica) == digests(primary))
    for redis in (primary, replica):
        eventually(functools.partial(is_rewriting, redis), equals=0)

    before = at_rest(primary)
    primary.execute("DEBUG", "RELOAD")
    assert digests(primary) == before, "RDB"
    eventually(lambda: digests(replica) == digests(primary))
    before = at_rest(primary)
    for clock in (primary_clock, replica_clock):
        clock.skew(choice.choice([HOUR, -HOUR]))
    primary.kill()
    primary.start()
    assert digests(primary) == before, "AOF"
    replica.kill()
    replica.settings.pop("replicaof")
    replica.start()
    assert digests(replica) == before, "the replica's AOF"


def test_writes_of_one_moment_are_replicated_with_one_stamp_even_if_labels_look_like_another() -> None:
    """Only the changed part of a stamp is sent; the value of a label is never taken for a stamp."""
    primary, clock = server("no")
    with primary:
        forged = ("LABELS", 2, "STAMP", 4_000_000_000_000, "00000000000000ff", 4)
        primary.execute("METRICS.INC", KEYS[0], "hits")
        clock.skew(-HOUR)
        primary.execute_all([("METRICS.INC", KEYS[0], "hits")] * 500 + [("METRICS.INC", KEYS[0], "hits", *forged)] * 3)
        clock.skew(0.0)
        primary.execute("METRICS.INC", KEYS[0], "hits", "TTL", 50)
        before = at_rest(primary)
        # One stamp for each millisecond that passed, not for each command; and three that are the client's labels.
        log = b"".join(file.read_bytes() for file in primary.directory.rglob("*.aof"))
        assert log.count(b"METRICS.INC") == 505
        assert 2 + 3 * 2 <= log.count(b"STAMP") < 250
        primary.kill()
        primary.start()
        assert digests(primary) == before
        assert primary.execute("METRICS.GET", KEYS[0], "hits", *forged) == "3"
