"""Redis at a limit: what it leaves out is kept, also of workers that die, and counted when the limit is lifted."""

import pytest

from harness import Exporter, Gunicorn, RedisServer, eventually, scrape
from harness.redis import since_7

REQUESTS = "gunicorn_worker_requests_total"
LEFT_OUT = "gunicorn_exporter_left_out_series"

LIMITS = [
    pytest.param("maxmemory", "1", "0", id="maxmemory"),
    pytest.param("metrics.max-series", "1", "1000000", marks=since_7, id="max-series"),
    pytest.param("metrics.max-label-bytes", "1", "4096", marks=since_7, id="max-label-bytes"),
]


@pytest.mark.parametrize("are_known", [False, True], ids=["new workers", "known workers"])
@pytest.mark.parametrize(("name", "reached", "lifted"), LIMITS)
def test_workers_that_die_at_a_limit_are_counted_when_it_is_lifted(
    name: str, reached: str, lifted: str, are_known: bool, redis: RedisServer
) -> None:
    """Values that were never accepted, of workers that Redis does not know and of those that it does."""
    if not are_known:
        redis.client.config_set(name, reached)
    with Gunicorn(workers=2, redis=redis) as gunicorn, Exporter(redis=redis) as exporter:
        instance = f"{gunicorn.metrics_url}/instance"
        requests = 0
        if are_known:
            assert gunicorn.get("/order").status == 200
            requests += 1
            eventually(lambda: scrape(exporter.metrics_url).sum(REQUESTS), equals=requests)
            redis.client.config_set(name, reached)
        for _ in range(2):
            victims = gunicorn.worker_pids()
            for _ in range(10):
                # Each is a label set that is new.
                requests += gunicorn.get(f"/new-{requests}").status in (200, 404)
            for pid in victims:
                gunicorn.kill_worker(pid)
            eventually(lambda: len(gunicorn.worker_pids()) == 2 and not set(victims) & set(gunicorn.worker_pids()))
        eventually(lambda: scrape(instance).sum(REQUESTS), equals=requests)
        assert scrape(exporter.metrics_url).sum(REQUESTS) < requests

        redis.client.config_set(name, lifted)
        eventually(lambda: scrape(exporter.metrics_url).sum(REQUESTS), equals=requests)
        own = gunicorn.metrics_url.replace("/metrics", "/-/metrics")
        eventually(lambda: scrape(own).sum(LEFT_OUT), equals=0)
        # Those that died have left: what lives is two workers, the arbiter and the exporter.
        eventually(lambda: _live(redis), equals=4)
        assert scrape(own).sum("gunicorn_exporter_given_up_series_total") == 0
        page, of_instance = scrape(exporter.metrics_url), scrape(instance)
        for family in ("gunicorn_http_requests_total", "gunicorn_worker_request_duration_seconds_count"):
            assert page.sum(family) == of_instance.sum(family), family


def test_what_an_ending_instance_has_left_is_counted_and_logged(redis: RedisServer) -> None:
    """Its end does not wait for Redis: what is left out then is lost, with a line that says so."""
    redis.client.config_set("maxmemory", "1")
    with Gunicorn(redis=redis) as gunicorn:
        assert gunicorn.get("/order").status == 200
        eventually(lambda: "the shared registry has to wait" in gunicorn.log)
        gunicorn.stop()
        lines = [line for line in gunicorn.log.splitlines() if "are given up" in line]
    assert len(lines) == 1, lines


def _live(redis: RedisServer) -> int:
    """How many writers the registry has that are alive."""
    return str(redis.execute("METRICS.WRITERS", "gunicorn:metrics")).count("'live'")
