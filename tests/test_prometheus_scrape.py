"""A real Prometheus, and parsers of other projects, read our pages."""

from collections.abc import Iterator

import pytest

from harness import Exporter, Gunicorn, Prometheus, RedisServer, eventually, scrape
from harness.prometheus import assert_promtool_accepts
from harness.scrape import OPENMETRICS

REQUESTS = 40


@pytest.fixture
def instances(redis: RedisServer) -> Iterator[list[Gunicorn]]:
    """Two instances that share a Redis and have answered requests, some of which failed."""
    with Gunicorn(redis=redis, workers=2) as first, Gunicorn(redis=redis, workers=2) as second:
        for turn in range(REQUESTS // 4):
            for path in ("/", "/order", "/missing", "/boom"):
                (first, second)[turn % 2].get(path)
        yield [first, second]


def test_prometheus_counts_what_was_sent(redis: RedisServer, instances: list[Gunicorn]) -> None:
    """Prometheus scrapes the shared registry through the standalone exporter, and an instance's own page."""
    own = f"127.0.0.1:{instances[0].metrics_port}"
    with (
        Exporter(redis=redis) as exporter,
        Prometheus({"shared": [f"127.0.0.1:{exporter.port}"], "one": [own]}) as prometheus,
    ):
        for job in ("shared", "one"):
            eventually(lambda: prometheus.value(f'up{{job="{job}"}}'), equals=1.0)
            total = f'sum(gunicorn_worker_requests_total{{job="{job}"}})'
            eventually(lambda: prometheus.value(total), equals=float(REQUESTS))
        assert [target["lastError"] for target in prometheus.targets()] == ["", ""]
        assert len(prometheus.query('gunicorn_worker_state{job="shared",state="running"} == 1')) == 4
        assert prometheus.value('shop_orders_total{job="shared"}') == REQUESTS / 4


def test_promtool_and_both_parsers_accept_the_page(instances: list[Gunicorn]) -> None:
    """Text 0.0.4 and OpenMetrics 1.0.0 have the same values."""
    url = instances[0].metrics_url
    eventually(lambda: scrape(url).sum("gunicorn_worker_requests_total"), equals=float(REQUESTS))
    text, openmetrics = scrape(url), scrape(url, accept=OPENMETRICS)
    assert text.content_type.startswith("text/plain; version=0.0.4")
    assert openmetrics.content_type.startswith("application/openmetrics-text; version=1.0.0")
    assert_promtool_accepts(text.body)
    assert text.families.keys() == openmetrics.families.keys()
    for page in (text, openmetrics):
        assert page.sum("gunicorn_worker_requests_total") == REQUESTS
        assert page.value("shop_order_seconds_count") == REQUESTS / 4


def test_the_embedded_page_is_accepted_too() -> None:
    """The same code renders it, in the exporter's own process."""
    with Gunicorn(workers=2) as gunicorn:
        gunicorn.get("/order")
        gunicorn.get("/boom")
        eventually(lambda: scrape(gunicorn.metrics_url).sum("gunicorn_worker_requests_total"), equals=2.0)
        text, openmetrics = scrape(gunicorn.metrics_url), scrape(gunicorn.metrics_url, accept=OPENMETRICS)
        assert_promtool_accepts(text.body)
        assert text.families.keys() == openmetrics.families.keys()
        assert openmetrics.value("shop_orders_total", kind="book") == 1
