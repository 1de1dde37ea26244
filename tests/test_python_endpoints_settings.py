"""The settings `exporter.http` change what is recorded, and labels stay bounded for any requests."""

from pathlib import Path

import pytest

from harness import Gunicorn, RedisServer, Scrape, eventually, scrape
from harness.scrape import OPENMETRICS

TOTAL = "gunicorn_http_requests_total"
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def counted(gunicorn: Gunicorn, requests: int) -> Scrape:
    """Returns the page, once that many requests have ended."""

    def page() -> Scrape:
        seen = scrape(gunicorn.metrics_url)
        assert seen.sum("gunicorn_worker_requests_total") == requests
        return seen

    return eventually(page)


def test_skipped_paths_and_methods_are_not_recorded() -> None:
    environment = {
        "GUNICORN_EXPORTER_HTTP_SKIP_PATHS": "/healthz,/any/x",
        "GUNICORN_EXPORTER_HTTP_SKIP_METHODS": "options",
    }
    with Gunicorn("apps.shapes:app", environment=environment) as gunicorn:
        for path in ("/healthz", "/any/x?full=1", "/any/y"):
            assert gunicorn.get(path).status == 200
        assert gunicorn.request("OPTIONS", "/any/y").status == 200
        seen = counted(gunicorn, 1)
    assert [sample.labels["endpoint"] for sample in seen.samples(TOTAL)] == ["/any/y"]
    assert seen.sum("gunicorn_http_requests_in_progress") == 0


@pytest.mark.parametrize("kept_in", ["redis", "directory"])
def test_paths_are_no_endpoints_where_metrics_outlive_the_instance(
    redis: RedisServer, tmp_path: Path, kept_in: str
) -> None:
    """Each start would add its own paths, without end."""
    environment = {} if kept_in == "redis" else {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    shared = redis if kept_in == "redis" else None
    for start in range(2):
        with Gunicorn("apps.shapes:app", environment=environment, redis=shared) as gunicorn:
            gunicorn.get(f"/any/{start}")
            gunicorn.get("/nowhere/else")
            eventually(lambda: scrape(gunicorn.metrics_url).sum(TOTAL) >= 2 * (start + 1))
            assert scrape(gunicorn.metrics_url).values_of("endpoint", TOTAL) <= {"<other>", "<unmatched>"}
    environment["GUNICORN_EXPORTER_HTTP_ENDPOINT_LIMIT"] = "1"
    with Gunicorn("apps.shapes:app", environment=environment, redis=shared) as gunicorn:
        gunicorn.get("/any/wanted")
        eventually(lambda: "/any/wanted" in scrape(gunicorn.metrics_url).values_of("endpoint", TOTAL), equals=True)


def test_statuses_can_be_grouped_and_bounds_chosen() -> None:
    environment = {
        "GUNICORN_EXPORTER_HTTP_GROUP_STATUS": "true",
        "GUNICORN_EXPORTER_HTTP_BUCKETS": "0.5,2",
        "GUNICORN_EXPORTER_HTTP_SIZE_BUCKETS": "4,8",
    }
    with Gunicorn("apps.shapes:app", environment=environment) as gunicorn:
        gunicorn.get("/any/y")
        gunicorn.get("/refuse")
        seen = counted(gunicorn, 2)
    assert seen.values_of("status", TOTAL) == {"2xx", "4xx"}
    duration = "gunicorn_http_request_duration_seconds_bucket"
    assert seen.values_of("le", duration) == {"0.5", "2.0", "+Inf"}
    sizes = seen.samples("gunicorn_http_response_size_bytes_bucket", endpoint="/any/y")
    assert {sample.labels["le"]: sample.value for sample in sizes} == {"4.0": 0, "8.0": 1, "+Inf": 1}


def test_headers_of_a_proxy_give_the_queue_time_and_the_trace() -> None:
    """The trace is kept only if exemplars are on and the trace is sampled."""
    with Gunicorn("apps.shapes:app", environment={"GUNICORN_EXPORTER_HTTP_EXEMPLARS": "true"}) as gunicorn:
        headers = {"X-Request-Start": "t=1700000000.0", "traceparent": f"00-{TRACE}-{SPAN}-01"}
        gunicorn.request("GET", "/any/y", headers=headers)
        # A time that is years ago comes from a wrong clock, and is ignored.
        assert counted(gunicorn, 1).sum("gunicorn_http_request_queue_seconds_count") == 0
        gunicorn.request("GET", "/any/y", headers={"X-Request-Start": "t=99999999999.0"})
        page = scrape(gunicorn.metrics_url, accept=OPENMETRICS)
    exemplars = [sample.exemplar for sample in page.all_samples if sample.exemplar is not None]
    assert {(exemplar.labels["trace_id"], exemplar.labels["span_id"]) for exemplar in exemplars} == {(TRACE, SPAN)}


def test_a_worker_has_at_most_a_hundred_classes_of_exceptions() -> None:
    """All further classes share one label."""
    with Gunicorn("apps.shapes:app") as gunicorn:
        for number in range(130):
            assert gunicorn.get(f"/raise-any/Error{number}").status == 500
        seen = counted(gunicorn, 130)
    exceptions = "gunicorn_http_exceptions_total"
    assert len(seen.values_of("exception", exceptions)) == 101
    assert seen.value(exceptions, exception="<other>", handled_by="server") == 30
    assert len(seen.values_of("error_type", "gunicorn_worker_failed_requests_total")) == 101
