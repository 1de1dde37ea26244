"""Redis goes away under load and comes back, with its data and without: requests continue, counts stay exact."""

import time
from collections.abc import Iterator

import pytest

from harness import Exporter, Gunicorn, Load, Recorder, RedisServer, eventually, scrape

OUTAGE_SECONDS = 10.0
REQUESTS = "gunicorn_worker_requests_total"


@pytest.fixture
def gunicorn(redis: RedisServer) -> Iterator[Gunicorn]:
    """Two workers, each of which has answered."""
    with Gunicorn(redis=redis, workers=2) as one:
        with Load([one.port]):
            eventually(lambda: len(scrape(one.metrics_url).samples(REQUESTS)) == 2)
            eventually(lambda: min(s.value for s in scrape(one.metrics_url).samples(REQUESTS)) > 0)
        yield one


@pytest.fixture
def exporter(redis: RedisServer) -> Iterator[Exporter]:
    """An exporter that only reads, so that a scrape causes no push."""
    with Exporter(redis=redis) as one:
        yield one


def test_an_outage_with_data_kept_costs_nothing(redis: RedisServer, gunicorn: Gunicorn, exporter: Exporter) -> None:
    """Counts are exact, and never went down meanwhile."""
    before = _total(gunicorn)
    with Recorder(exporter.metrics_url) as recorder, Load([gunicorn.port]) as load:
        load.wait_for(500)
        redis.shutdown(keep_data=True)
        _outage(load)
        redis.start()
        eventually(lambda: scrape(exporter.metrics_url))
        load.wait_for(200)
    eventually(lambda: scrape(exporter.metrics_url).sum(REQUESTS), equals=before + len(load.outcomes))
    recorder.take()
    assert load.statuses() == {200: len(load.outcomes)}
    assert load.slowest() < OUTAGE_SECONDS / 2, "a request waited for Redis"
    assert recorder.resets(REQUESTS) == 0
    assert recorder.failures > 0, "the outage was not seen by the scraper"


def test_an_outage_with_data_lost_shows_every_request_once(
    redis: RedisServer, gunicorn: Gunicorn, exporter: Exporter
) -> None:
    """Counters restart near zero with a new start time; `increase()` over the scrapes equals what the clients got."""
    before = _total(gunicorn)
    eventually(lambda: scrape(exporter.metrics_url).sum(REQUESTS), equals=before)
    with Recorder(exporter.metrics_url) as recorder:
        recorder.take()
        # Much more before the outage than in it: counters must restart lower, or the restart would be invisible.
        with Load([gunicorn.port]) as busy:
            busy.wait_for(3000)
        with Load([gunicorn.port], ["/slow?seconds=0.05"], clients=2) as load:
            load.wait_for(20)
            # Values acknowledged after the last scrape would be in no scrape: from here on Redis acknowledges nothing.
            redis.execute("CLIENT", "PAUSE", 600_000, "WRITE")
            last = recorder.take()
            created = _created(redis)
            redis.kill()
            redis.forget()
            _outage(load)
            redis.start()
            eventually(lambda: recorder.take().sum(REQUESTS) > 0)
            load.wait_for(40)
        sent = len(busy.outcomes) + len(load.outcomes)
        eventually(lambda: (recorder.take(), recorder.increase(REQUESTS))[1], equals=float(sent))
    assert busy.statuses() + load.statuses() == {200: sent}
    assert load.slowest() < OUTAGE_SECONDS / 2, "a request waited for Redis"
    assert recorder.resets(REQUESTS) == 2, "each worker's counter restarts once"
    assert recorder.scrapes[-1].sum(REQUESTS) < last.sum(REQUESTS)
    assert min(_created(redis).values()) > max(created.values())


def _total(gunicorn: Gunicorn) -> float:
    """Returns the count when no client sends requests any more."""

    def settled() -> float:
        first, second = (scrape(gunicorn.metrics_url).sum(REQUESTS) for _ in range(2))
        finished = scrape(gunicorn.metrics_url).sum("gunicorn_worker_request_duration_seconds_count")
        assert first == second == finished
        return second

    return eventually(settled)


def _outage(load: Load) -> None:
    """Lets time pass, with requests that are answered."""
    end, answered = time.monotonic() + OUTAGE_SECONDS, load.answered
    eventually(lambda: time.monotonic() > end, within=2 * OUTAGE_SECONDS)
    assert load.answered > answered


def _created(redis: RedisServer) -> dict[str, float]:
    """Returns the start times of the request counters, by worker."""
    page = str(redis.execute("METRICS.EXPOSE", "gunicorn:metrics", "FORMAT", "OPENMETRICS", "CREATED"))
    lines = [line for line in page.splitlines() if line.startswith("gunicorn_worker_requests_created")]
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}
