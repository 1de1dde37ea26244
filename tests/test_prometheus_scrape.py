"""A real Prometheus, and parsers of other projects, read our pages."""

from collections.abc import Iterator

import pytest

from harness import Exporter, Gunicorn, Prometheus, RedisServer, eventually, scrape
from harness.prometheus import assert_promtool_accepts, prometheus_3
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


@pytest.mark.parametrize("version", ["2", "3"])
def test_names_of_prometheus_own_series_are_passed_on_as_by_every_client_library(version: str) -> None:
    """Prometheus keeps the page's series if it has the same labels as its own; a label of its own avoids that."""
    config = (
        "from prometheus_client import Gauge\n"
        "def post_request(worker, request, environ, response):\n"
        "    for gauge in gauges: gauge.set(7)\n"
        "    part.labels('db').set(0)\n"
        "gauges = [Gauge(name, '', multiprocess_mode='max') for name in ('up', 'scrape_samples_scraped')]\n"
        "part = Gauge('scrape_duration_seconds', '', ['part'], multiprocess_mode='max')\n"
    )
    binary = "prometheus" if version == "2" else prometheus_3()
    with Gunicorn(config=config) as gunicorn:
        assert gunicorn.get("/").status == 200
        eventually(lambda: scrape(gunicorn.metrics_url).value("up"), equals=7)
        with Prometheus({"app": [f"127.0.0.1:{gunicorn.metrics_port}"]}, binary=binary) as prometheus:
            eventually(lambda: prometheus.value('scrape_duration_seconds{part="db"}'), equals=0)
            assert prometheus.value("up") == prometheus.value("scrape_samples_scraped") == 7
            assert prometheus.value('scrape_duration_seconds{part=""}') > 0
            assert [target["health"] for target in prometheus.targets()] == ["up"]
