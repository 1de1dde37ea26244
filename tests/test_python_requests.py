"""The metrics of requests of every shape."""

import http.client
import socket
from collections.abc import Iterator
from contextlib import suppress

import pytest

from harness import Gunicorn, Scrape, eventually, scrape

SYNC = "gunicorn_prometheus_exporter.PrometheusWorker"
THREADS = "gunicorn_prometheus_exporter.PrometheusThreadWorker"


@pytest.fixture(params=[SYNC, THREADS], ids=["sync", "gthread"])
def gunicorn(request: pytest.FixtureRequest) -> Iterator[Gunicorn]:
    """One worker of each class."""
    with Gunicorn("apps.shapes:app", worker_class=request.param) as one:
        yield one


def page(gunicorn: Gunicorn) -> Scrape:
    """Returns the page as a scraper sees it now."""
    return eventually(lambda: scrape(gunicorn.metrics_url))


def counted(gunicorn: Gunicorn, requests: int) -> Scrape:
    """Returns the page once that many requests have ended: a worker sends the last byte before it counts."""
    eventually(lambda: page(gunicorn).sum("gunicorn_worker_requests_total"), equals=requests)
    return page(gunicorn)


def test_bytes_of_bodies_are_those_that_were_read_and_sent(gunicorn: Gunicorn) -> None:
    """Bodies have a length, come in chunks, are not read at all, or are sent as a file."""
    gunicorn.request("POST", "/read", b"x" * 5000)
    assert counted(gunicorn, 1).value("gunicorn_worker_request_size_bytes_sum") == 5000
    assert page(gunicorn).value("gunicorn_worker_response_size_bytes_sum") == 4  # the text "5000"

    connection = http.client.HTTPConnection("127.0.0.1", gunicorn.port, timeout=30)
    connection.request("POST", "/read", iter([b"y" * 700, b"y" * 300]), encode_chunked=True)
    assert connection.getresponse().read() == b"1000"
    connection.close()
    assert counted(gunicorn, 2).value("gunicorn_worker_request_size_bytes_sum") == 6000

    gunicorn.request("POST", "/ignore", b"z" * 10)
    assert counted(gunicorn, 3).value("gunicorn_worker_request_size_bytes_sum") == 6000

    before = page(gunicorn).value("gunicorn_worker_response_size_bytes_sum")
    assert len(gunicorn.get("/file").body) == 100_000
    assert counted(gunicorn, 4).value("gunicorn_worker_response_size_bytes_sum") - before == 100_000


def test_a_response_in_parts_is_one_request(gunicorn: Gunicorn) -> None:
    """The response has no framing; its duration ends with the last part."""
    assert gunicorn.get("/parts").body == b"one two "
    seen = counted(gunicorn, 1)
    assert seen.value("gunicorn_worker_response_size_bytes_sum") == 8
    assert seen.value("gunicorn_worker_request_duration_seconds_sum") >= 0.2
    assert seen.value("gunicorn_http_request_duration_seconds_count", endpoint="/parts", method="GET") == 1


def test_methods_paths_and_statuses_are_bounded(gunicorn: Gunicorn) -> None:
    """Unknown methods, paths and statuses of a client make no series of their own."""
    for number in range(20):
        gunicorn.request("GET", f"/missing/{number}")
        gunicorn.request(f"WORD{chr(65 + number)}", "/read")
    gunicorn.request("GET", "/refuse")
    seen = counted(gunicorn, 41)
    assert seen.value("gunicorn_http_requests_total", method="GET", endpoint="<unmatched>", status="404") == 20
    assert seen.value("gunicorn_http_requests_total", method="<other>", endpoint="/read", status="200") == 20
    assert seen.value("gunicorn_http_requests_total", method="GET", endpoint="<other>", status="403") == 1


def test_paths_become_labels_up_to_a_limit() -> None:
    """The first hundred paths that were answered; all workers share one table."""
    with Gunicorn("apps.shapes:app", workers=2) as gunicorn:
        for number in range(120):
            assert gunicorn.get(f"/any/{number}").status == 200
        seen = counted(gunicorn, 120)
        endpoints = seen.values_of("endpoint", "gunicorn_http_requests_total")
        assert len(endpoints) == 101
        assert seen.value("gunicorn_http_requests_total", endpoint="<other>") == 20


def test_a_request_that_fails_is_counted_with_its_exception(gunicorn: Gunicorn) -> None:
    """It fails before the response begins, before any of it is sent (the client gets 500), and in the middle of it."""
    assert gunicorn.get("/raise").status == 500
    assert gunicorn.get("/raise-early").status == 500
    with suppress(http.client.HTTPException):
        gunicorn.get("/raise-late")
    seen = counted(gunicorn, 3)
    assert seen.value("gunicorn_worker_failed_requests_total", error_type="KeyError", method="GET") == 1
    assert seen.value("gunicorn_worker_failed_requests_total", error_type="OverflowError", method="GET") == 1
    assert seen.value("gunicorn_worker_failed_requests_total", error_type="LookupError", method="GET") == 1
    assert seen.value("gunicorn_worker_error_handling_total", error_type="KeyError") == 1
    assert seen.sum("gunicorn_http_requests_total") == 3
    assert seen.sum("gunicorn_http_requests_total", status="500") == 2


def test_a_client_that_leaves_has_its_own_error_type(gunicorn: Gunicorn) -> None:
    """It has its own error type, with the bytes that the client has received."""
    with socket.create_connection(("127.0.0.1", gunicorn.port)) as client:
        client.sendall(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
        client.recv(1000)
    seen = counted(gunicorn, 1)
    names = seen.values_of("error_type", "gunicorn_worker_failed_requests_total")
    assert names <= {"BrokenPipeError", "ConnectionResetError"}
    assert len(names) == 1


def test_bytes_that_are_no_request_count_as_an_error_and_not_as_a_request(gunicorn: Gunicorn) -> None:
    """Nothing of it reaches the application."""
    with socket.create_connection(("127.0.0.1", gunicorn.port)) as client:
        client.sendall(b"\x01\x02 nonsense\r\n\r\n")
        assert b"400 Bad Request" in client.recv(1000)
    eventually(lambda: page(gunicorn).sum("gunicorn_worker_error_handling_total"), equals=1)
    seen = page(gunicorn)
    assert seen.sum("gunicorn_worker_error_handling_total", method="<unknown>", endpoint="<unmatched>") == 1
    assert seen.sum("gunicorn_worker_requests_total") == 0


def test_each_request_of_a_kept_connection_counts() -> None:
    """Threads keep connections open."""
    with Gunicorn("apps.shapes:app", worker_class=THREADS) as gunicorn:
        connection = http.client.HTTPConnection("127.0.0.1", gunicorn.port, timeout=30)
        for _ in range(5):
            connection.request("GET", "/any/thing")
            connection.getresponse().read()
        connection.close()
        counted(gunicorn, 5)


def test_flask_names_its_routes_and_its_errors() -> None:
    """Errors that Flask answers itself are named too; nothing of the application changes."""
    with Gunicorn("apps.flask_plain:app") as gunicorn:
        for path in ("/users/1", "/users/2", "/users/x", "/broken", "/teapot", "/expected"):
            gunicorn.get(path)
        gunicorn.request("POST", "/users/1")
        seen = counted(gunicorn, 7)
    requests = "gunicorn_http_requests_total"
    assert seen.value(requests, endpoint="/users/<int:number>", method="GET", status="200") == 2
    assert seen.value(requests, endpoint="<unmatched>", method="GET", status="404") == 1
    assert seen.value(requests, endpoint="/users/<int:number>", method="POST", status="405") == 1
    assert seen.value(requests, endpoint="/teapot", status="418") == 1
    failed, handled = "gunicorn_worker_failed_requests_total", "gunicorn_worker_error_handling_total"
    assert seen.value(failed, endpoint="/broken", error_type="ZeroDivisionError") == 1
    assert seen.value(handled, endpoint="/broken", error_type="ZeroDivisionError") == 1
    assert seen.value(handled, endpoint="/teapot", error_type="ImATeapot") == 1
    assert seen.value(handled, endpoint="/expected", error_type="LookupError") == 1
    assert seen.values_of("error_type", failed) == {"ZeroDivisionError"}
