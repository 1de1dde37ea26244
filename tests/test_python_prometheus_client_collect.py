"""Metrics that must be evaluated for a scrape, and applications that show their metrics themselves."""

import os
import signal
import time

import pytest

from harness import Gunicorn, Scrape, eventually, scrape
from harness.scrape import OPENMETRICS

TEXT = "text/plain"


def test_custom_collectors_and_functions_are_on_the_page() -> None:
    """Gauges of two workers are shown by process, counters and histograms are summed, functions follow their mode."""
    with Gunicorn("apps.collectors:app", workers=2) as gunicorn:
        eventually(lambda: _both_were_asked(gunicorn))
        seen = scrape(gunicorn.metrics_url, accept=OPENMETRICS)
        assert {s.value for s in seen.samples("pool_connections", state="idle")} == {3}
        assert len(seen.values_of("pid", "pool_connections")) == 2
        assert [seen.value("pool_waited_bucket", le=le) for le in ("1.0", "5.0", "+Inf")] == [4, 10, 14]
        assert seen.value("pool_waited_sum") == 42
        assert (seen.value("pool_used_count"), seen.value("pool_used_sum")) == (8, 20)
        assert seen.value("pool_info", driver="none") == 1
        assert seen.value("asked_uptime_seconds") > 0
        assert seen.value("gunicorn_exporter_collected_timestamp_seconds") > 1e9


def _both_were_asked(gunicorn: Gunicorn) -> None:
    assert scrape(gunicorn.metrics_url).value("pool_waits_total") == 14


def test_collectors_are_called_only_while_pages_are_read() -> None:
    """The number of requests does not matter."""
    with Gunicorn("apps.collectors:app") as gunicorn:
        eventually(lambda: gunicorn.get("/asked").body == b"1")
        for _ in range(50):
            gunicorn.get("/asked")
        assert gunicorn.get("/asked").body == b"1"
        scrape(gunicorn.metrics_url)
        eventually(lambda: gunicorn.get("/asked").body, equals=b"2")


@pytest.mark.parametrize("path", ["/latest", "/multiprocess"])
def test_an_application_shows_what_all_workers_have_counted(path: str) -> None:
    """This holds at once, and whichever worker answers."""
    with Gunicorn("apps.collectors:app", workers=3) as gunicorn:
        for _ in range(20):
            gunicorn.get("/")
        for _ in range(6):
            seen = Scrape(gunicorn.get(path).body.decode(), TEXT)
            assert seen.value("shown_requests_total") == 20
        if path == "/latest":
            assert seen.families["process_open_fds"].samples, "what is about this process only is its own"
        else:
            assert seen.sum("gunicorn_worker_requests_total") > 20


def test_an_applications_own_page_has_start_times() -> None:
    """It has them in the same cases as without this package."""
    started = time.time()
    with Gunicorn("apps.collectors:app", workers=2) as gunicorn:
        gunicorn.get("/")
        seen = Scrape(gunicorn.get("/latest").body.decode(), TEXT)
        assert started - 1 < seen.value("shown_requests_created") <= time.time()
        assert "_created" not in gunicorn.get("/multiprocess").body.decode()
    with Gunicorn("apps.collectors:app", environment={"PROMETHEUS_DISABLE_CREATED_SERIES": "true"}) as gunicorn:
        gunicorn.get("/")
        assert "_created" not in gunicorn.get("/latest").body.decode()


@pytest.mark.parametrize("path", ["/latest", "/only"])
def test_families_that_only_another_worker_has_declared_are_shown(path: str) -> None:
    """The other worker declares them at its first request, as libraries do. Other registries are not shown."""
    with Gunicorn("apps.collectors:app", workers=3) as gunicorn:
        gunicorn.get("/late")
        for _ in range(6):
            seen = Scrape(gunicorn.get(path).body.decode(), TEXT)
            assert seen.value("declared_late_total") == 1
            assert seen.samples("kept_apart_total") == []
            assert seen.samples("gunicorn_workers") == []
        assert scrape(gunicorn.metrics_url).samples("kept_apart_total") == []
        assert path != "/only" or set(seen.families) == {"declared_late"}


def test_without_an_exporter_an_application_shows_its_own_numbers() -> None:
    """A worker waits at most one second for an exporter that hangs; the failure is counted."""
    with Gunicorn("apps.collectors:app") as gunicorn:
        gunicorn.get("/")
        exporter = gunicorn.exporter_pid()
        os.kill(exporter, signal.SIGSTOP)
        try:
            seen = Scrape(gunicorn.get("/latest").body.decode(), TEXT)
            assert seen.value("shown_requests_total") == 1
        finally:
            os.kill(exporter, signal.SIGCONT)
        counted = "gunicorn_exporter_errors_total"
        eventually(lambda: scrape(gunicorn.metrics_url).value(counted, where="generate_latest"), equals=1)


@pytest.mark.parametrize("gap", ["/fails", "/empty"])
def test_a_collector_that_returns_after_a_gap_is_not_counted_again(gap: str) -> None:
    """Its numbers are those that it has counted itself, however often they were absent."""
    with Gunicorn("apps.changing_collector:app") as gunicorn:
        for state in ("/", gap, "/", gap, "/"):
            assert gunicorn.get(state).status == 200
            asked = scrape(gunicorn.metrics_url).sum("evaluations_total")
            eventually(lambda asked=asked: scrape(gunicorn.metrics_url).sum("evaluations_total") >= asked + 2)  # type: ignore[misc]
            page = scrape(gunicorn.metrics_url)
            # A counter stays when its series has ended, as that of a worker that has ended; a gauge goes.
            assert page.value("rows_total") == 100
            assert (page.value("waited_count"), page.value("waited_sum")) == (5, 21)
            assert page.value("waited_bucket", le="1.0") == 2
            assert len(page.samples("connections")) == (0 if state == "/empty" else 1)
