"""What prometheus_client's documentation shows works over processes, with its oldest, a middle and newest version."""

import pytest

from harness import Gunicorn, Scrape, Venv, eventually, scrape
from harness.ports import free_port
from harness.scrape import OPENMETRICS

VERSIONS = ("0.19", "0.22", "newest")
TEXT = "text/plain"
REQUESTS = 12


@pytest.mark.parametrize("version", VERSIONS)
def test_what_an_application_does_every_day(version: str) -> None:
    """Decorators, timers, exceptions, namespaces, removals, and pages of its own; exact over two workers."""
    with Gunicorn("apps.everyday:app", workers=2, venv=Venv.prometheus_client(version)) as gunicorn:
        for _ in range(REQUESTS):
            assert gunicorn.get("/work").status == 200
        eventually(lambda: scrape(gunicorn.metrics_url).sum("gunicorn_worker_requests_total"), equals=REQUESTS)
        seen = scrape(gunicorn.metrics_url, accept=OPENMETRICS)
        assert seen.value("shop_front_day_calls_total", kind="work") == 2.5 * REQUESTS
        assert seen.value("day_failures_total") == REQUESTS
        assert (seen.value("day_parallel"), seen.value("day_peak")) == (0, 1)
        assert seen.value("day_waited_seconds_count") == REQUESTS
        assert seen.value("day_lasted_seconds_bucket", part="inner", le="0.5") == REQUESTS
        bounds = ("1.0", "10.0", "100.0", "+Inf")
        assert [seen.value("day_sizes_bucket", le=le) / REQUESTS for le in bounds] == [2, 2, 3, 4]
        assert seen.value("day_sizes_sum") == 1051.5 * REQUESTS
        for _ in range(4):
            assert Scrape(gunicorn.get("/textfile").body.decode(), TEXT).value("day_jobs_total") == REQUESTS
            restricted = Scrape(gunicorn.get("/restricted").body.decode(), TEXT)
            assert {sample.name for sample in restricted.all_samples} == {"day_sizes_count", "day_failures_total"}
            assert restricted.value("day_sizes_count") == 4 * REQUESTS
        gunicorn.get("/series")
        eventually(lambda: scrape(gunicorn.metrics_url).value("shop_front_day_calls_total", kind="2"), equals=1)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_server_of_the_applications_own_shows_all_processes(version: str) -> None:
    """`start_http_server` in one worker, as somebody may have it from before."""
    port = free_port()
    config = (
        "def post_worker_init(worker):\n"
        "    import prometheus_client\n"
        f"    if worker.age == 1: prometheus_client.start_http_server({port}, '127.0.0.1')\n"
    )
    venv = Venv.prometheus_client(version)
    with Gunicorn("apps.everyday:app", workers=2, venv=venv, config=config) as gunicorn:
        for _ in range(REQUESTS):
            gunicorn.get("/work")
        own = f"http://127.0.0.1:{port}/metrics"
        eventually(lambda: scrape(own).value("day_failures_total"), equals=REQUESTS)
