"""The clock of Redis' machine is set while applications push: leases and TTLs still end after the right time."""

import time
from collections.abc import Iterator

import pytest
from test_module_push import Writer, page

from harness import RedisServer, eventually
from harness.batch import Batch, counter, gauge
from harness.clock import SkewedClock
from harness.redis import since_7

HOUR = 3600.0
LEASE_MS = 1500


@pytest.fixture
def server() -> Iterator[tuple[RedisServer, SkewedClock]]:
    """A server whose clock can be set."""
    redis = RedisServer()
    clock = SkewedClock(redis)
    with redis:
        yield redis, clock


def alive(redis: RedisServer) -> float:
    """Returns the number of live writers that the page shows."""
    return page(redis).sum("workers")


def worker(redis: RedisServer, *, lease_ms: int, ttl_ms: int = 0) -> Writer:
    """Returns a live writer that has counted something."""
    writer = Writer(redis).begin()
    state = Batch.full(registry_ttl_ms=ttl_ms).define(gauge("workers", "livesum"), {}, 1).define(counter("hits"), {}, 5)
    assert writer.push(state, lease_ms=lease_ms)[0] == "OK"
    return writer


@pytest.mark.parametrize("step", [200.0, HOUR, -HOUR])
def test_a_dead_writer_ends_with_its_lease_although_the_clock_steps_and_returns(
    server: tuple[RedisServer, SkewedClock], step: float
) -> None:
    redis, clock = server
    living = worker(redis, lease_ms=60_000)
    clock.skew(step)
    living.push(Batch())
    worker(redis, lease_ms=LEASE_MS)
    born = time.monotonic()
    assert alive(redis) == 2
    clock.skew(0.0)
    living.push(Batch())
    eventually(lambda: alive(redis), equals=1, within=30)
    lasted_ms = (time.monotonic() - born) * 1000
    # Not sooner, and at most a tenth later (and the time that a slow machine needs to scrape).
    assert LEASE_MS * 0.9 <= lasted_ms < 10 * LEASE_MS


@pytest.mark.parametrize("step", [200.0, HOUR, 24 * HOUR, -HOUR])
def test_a_live_writer_stays_on_the_page_when_the_clock_steps(
    server: tuple[RedisServer, SkewedClock], step: float
) -> None:
    redis, clock = server
    worker(redis, lease_ms=60_000)
    clock.skew(step)
    assert alive(redis) == 1
    redis.execute("METRICS.INC", "m", "other")
    assert alive(redis) == 1
    clock.skew(0.0)
    assert alive(redis) == 1


@since_7
@pytest.mark.parametrize("step", [200.0, -HOUR])
def test_a_key_outlives_a_clock_step_that_is_shorter_than_its_ttl(
    server: tuple[RedisServer, SkewedClock], step: float
) -> None:
    redis, clock = server
    writer = worker(redis, lease_ms=15_000, ttl_ms=300_000)
    clock.skew(step)
    assert writer.push(Batch.full(registry_ttl_ms=300_000), lease_ms=15_000)[0] == "OK"
    assert 310_000 < int(str(redis.execute("PTTL", "m"))) <= 315_100 + max(0, -step) * 1000
    clock.skew(0.0)
    assert writer.push(Batch.full(registry_ttl_ms=300_000), lease_ms=15_000)[0] == "OK"
    assert 310_000 < int(str(redis.execute("PTTL", "m"))) <= 315_100


@since_7
def test_after_a_longer_clock_step_the_key_starts_empty_and_then_stays(server: tuple[RedisServer, SkewedClock]) -> None:
    """Redis expires the key by its own clock: as after any loss, its writers get a new epoch."""
    redis, clock = server
    writer = worker(redis, lease_ms=15_000, ttl_ms=300_000)
    clock.skew(HOUR)
    assert writer.push(Batch(registry_ttl_ms=300_000), lease_ms=15_000)[0] == "RESYNC"
    again = worker(redis, lease_ms=15_000, ttl_ms=300_000)
    clock.skew(2 * HOUR - 3500.0)
    assert again.push(Batch(registry_ttl_ms=300_000), lease_ms=15_000)[0] == "OK"
    assert 310_000 < int(str(redis.execute("PTTL", "m"))) <= 315_100
