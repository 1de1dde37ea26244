"""HTTP/2 requests are counted like others: each stream is a request."""

import pytest

from harness import Gunicorn, Scrape, eventually, scrape
from harness.http2 import Http2Client, Http2Request

CLEARTEXT = ["--http-protocols=h2,h1", "--http2-cleartext=prior-knowledge"]
KINDS = {
    "gthread": ("PrometheusThreadWorker", "apps.shapes:app"),
    "gevent": ("PrometheusGeventWorker", "apps.shapes:app"),
    "asgi": ("PrometheusASGIWorker", "apps.shapes_asgi:app"),
}
# What Gunicorn answers `KeyError("/raise")` with.
ERROR_PAGES = {"gthread": "'/raise'", "gevent": "'/raise'", "asgi": "Internal Server Error"}
# Many times the window of flow control, which begins with 64 KiB.
LARGE = b"b" * 300_000


@pytest.mark.parametrize("kind", KINDS)
def test_streams_are_counted_with_received_and_sent_bytes(kind: str) -> None:
    worker, app = KINDS[kind]
    with Gunicorn(app, worker_class=f"gunicorn_prometheus_exporter.{worker}", arguments=CLEARTEXT) as gunicorn:
        client = Http2Client(gunicorn.port)
        assert client.ask(
            Http2Request("/"), Http2Request("/read", LARGE, "POST"), Http2Request("/missing"), Http2Request("/file")
        ) == [
            200,
            200,
            404,
            200,
        ]
        assert client.ask(*[Http2Request("/parts")] * 10) == [200] * 10
        assert client.ask(Http2Request("/raise")) == [500]
        client.leave_half_way(Http2Request("/endless"))
        assert client.ask(Http2Request("/")) == [200]
        client.close()
        seen = eventually(lambda: _with(scrape(gunicorn.metrics_url), 17))
    requests = {
        ("/", "200"): 2,
        ("/read", "200"): 1,
        ("<unmatched>", "404"): 1,
        ("/file", "200"): 1,
        ("/parts", "200"): 10,
    }
    requests |= {("<other>", "500"): 1, ("/endless", "200"): 1}
    found = {
        (sample.labels["endpoint"], sample.labels["status"]): sample.value
        for sample in seen.samples("gunicorn_http_requests_total")
    }
    assert found == requests
    assert seen.value("gunicorn_http_request_size_bytes_sum", endpoint="/read") == len(LARGE)
    assert seen.sum("gunicorn_http_request_size_bytes_sum") == len(LARGE)
    assert seen.value("gunicorn_http_response_size_bytes_sum", endpoint="/file") == 100_000
    assert seen.value("gunicorn_http_response_size_bytes_sum", endpoint="/parts") == 10 * len("one two ")
    assert seen.value("gunicorn_http_response_size_bytes_sum", endpoint="/endless") > 0
    assert seen.value("gunicorn_http_response_size_bytes_sum", endpoint="<other>") == len(ERROR_PAGES[kind])
    assert seen.value("gunicorn_http_exceptions_total", exception="KeyError") == 1
    assert seen.sum("gunicorn_http_requests_in_progress") == 0
    assert seen.sum("gunicorn_http_aborted_total") == 0


def _with(seen: Scrape, requests: int) -> Scrape:
    assert seen.sum("gunicorn_worker_requests_total") == requests
    return seen
