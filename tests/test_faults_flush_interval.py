"""Redis restarts with data that are older than the last flush: `flush_interval` must not matter."""

import contextlib
import time

import pytest

from harness import Exporter, Gunicorn, RedisServer, Scrape, eventually, scrape

REQUESTS = "gunicorn_worker_requests_total"
# An exporter says what a registry has lost within a second, and its page is back after two.
PATIENCE = 6.0


@pytest.mark.parametrize("flush_interval", [1, 10])
def test_totals_are_exact_and_soon_there_when_redis_restarts_with_older_data(
    redis: RedisServer, flush_interval: int
) -> None:
    """The scraped exporter only reads, so no scrape pushes anything."""
    environment = {"GUNICORN_EXPORTER_FLUSH_INTERVAL": str(flush_interval)}
    with (
        Gunicorn(workers=2, redis=redis, environment=environment) as gunicorn,
        Exporter(redis=redis) as exporter,
    ):
        saved = _count(gunicorn, exporter, 30, before=0)
        redis.execute("SAVE")
        # Redis acknowledges these, and forgets them.
        pushed = _count(gunicorn, exporter, 30, before=saved)
        redis.kill()
        for _ in range(10):
            assert gunicorn.get("/order").status == 200
        sent = pushed + 10
        redis.start()
        back = [page.sum(REQUESTS) for page in _pages(exporter)]
        assert back, "the page was not back in time"
        assert min(back) >= pushed, f"a page shows less than Redis had acknowledged: {back}"
        # What came since the last flush is there at the next one, or as soon as this instance is scraped.
        eventually(lambda: scrape(gunicorn.metrics_url).sum(REQUESTS), equals=float(sent))
        eventually(lambda: scrape(exporter.metrics_url).sum(REQUESTS), equals=float(sent))
        assert scrape(exporter.metrics_url).sum("shop_orders_total") == 10


def _count(gunicorn: Gunicorn, exporter: Exporter, requests: int, *, before: int) -> int:
    for _ in range(requests):
        assert gunicorn.get("/").status == 200
    # A scrape of the instance pushes at once, whatever the interval is.
    eventually(lambda: scrape(gunicorn.metrics_url).sum(REQUESTS), equals=float(before + requests))
    eventually(lambda: scrape(exporter.metrics_url).sum(REQUESTS), equals=float(before + requests))
    return before + requests


def _pages(exporter: Exporter) -> list[Scrape]:
    """Pages of the first second in which there are any; those of the time before are refused."""
    pages: list[Scrape] = []
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and len(pages) < 10:
        with contextlib.suppress(OSError):
            pages.append(scrape(exporter.metrics_url))
        time.sleep(0.1)
    return pages
