"""Hundreds of workers die while Redis is away: memory stays bounded, and every request is counted afterwards."""

from pathlib import Path

import pytest

from harness import Exporter, Gunicorn, RedisServer, eventually, scrape

REQUESTS = "gunicorn_worker_requests_total"
DEATHS = 160


def open_files(pid: int) -> int:
    """Returns the number of files that a process has open."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


@pytest.mark.parametrize("before", ["absent", "known"])
def test_workers_that_die_while_redis_is_away_are_counted_when_it_is_back(before: str, redis: RedisServer) -> None:
    """Redis was never there, or knows the first requests. One store carries over the counts of the dead workers."""
    if before == "absent":
        redis.shutdown(keep_data=False)
    with Gunicorn(workers=4, redis=redis) as gunicorn:
        instance = f"{gunicorn.metrics_url}/instance"
        requests = 0
        if before == "known":
            for _ in range(40):
                assert gunicorn.get("/order").status == 200
            requests += 40
            with Exporter(redis=redis) as exporter:
                eventually(lambda: scrape(exporter.metrics_url).sum(REQUESTS), equals=requests)
            redis.shutdown(keep_data=True)
        deaths = 0
        while deaths < DEATHS:
            for _ in range(8):
                requests += gunicorn.get("/order").status == 200
            victims = gunicorn.worker_pids()
            for pid in victims:
                gunicorn.kill_worker(pid)
            deaths += len(victims)
            eventually(lambda: len(gunicorn.worker_pids()) == 4 and not set(victims) & set(gunicorn.worker_pids()))
        eventually(lambda: scrape(instance).sum("gunicorn_worker_restart_total"), equals=deaths)
        eventually(lambda: scrape(instance).sum(REQUESTS), equals=requests)
        # 64 stores may wait for Redis, with a descriptor each.
        for pid in (gunicorn.pid, gunicorn.exporter_pid()):
            assert open_files(pid) < 64 + 60

        redis.start()
        with Exporter(redis=redis) as exporter:
            eventually(lambda: scrape(exporter.metrics_url).sum(REQUESTS), equals=requests)
            page = scrape(exporter.metrics_url)
            assert page.sum("shop_orders_total") == requests
            assert page.sum("shop_order_seconds_count") == requests
            # A worker that was killed right after its answer has not counted the duration.
            aborted = page.sum("gunicorn_http_aborted_total")
            assert page.sum("gunicorn_worker_request_duration_seconds_count") == requests - aborted
            assert page.sum("shop_carts") <= 4
            # The count stays the same.
            assert gunicorn.get("/order").status == 200
            eventually(lambda: scrape(exporter.metrics_url).sum(REQUESTS), equals=requests + 1)
        eventually(lambda: open_files(gunicorn.exporter_pid()) < 60)
