"""Redis at a limit: values that it leaves out, also of workers that die, are counted when the limit is lifted."""

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
    """The values were never accepted; Redis knows some of the workers, and others not."""
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
                # Each request makes a new label set.
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
        # The dead workers have left: two workers, the arbiter and the exporter are alive.
        eventually(lambda: _live(redis), equals=4)
        assert scrape(own).sum("gunicorn_exporter_given_up_series_total") == 0
        page, of_instance = scrape(exporter.metrics_url), scrape(instance)
        for family in ("gunicorn_http_requests_total", "gunicorn_worker_request_duration_seconds_count"):
            assert page.sum(family) == of_instance.sum(family), family


def test_an_instance_that_ends_counts_and_logs_the_series_it_gives_up(redis: RedisServer) -> None:
    """The end of an instance does not wait for Redis: values that are left out then are lost, and one line says so."""
    redis.client.config_set("maxmemory", "1")
    with Gunicorn(redis=redis) as gunicorn:
        assert gunicorn.get("/order").status == 200
        eventually(lambda: "the shared registry has to wait" in gunicorn.log)
        gunicorn.stop()
        lines = [line for line in gunicorn.log.splitlines() if "are given up" in line]
    assert len(lines) == 1, lines


def _live(redis: RedisServer) -> int:
    """Returns the number of writers in the registry that are alive."""
    return str(redis.execute("METRICS.WRITERS", "gunicorn:metrics")).count("'live'")
