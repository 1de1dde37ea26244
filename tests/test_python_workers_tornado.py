"""Applications of tornado: streams, errors, HEAD, websockets, clients that leave."""

from collections.abc import Iterator

import pytest

from harness import Gunicorn, Venv
from harness.counted import TOTAL, counted
from harness.paths import TESTS
from harness.wire import Wire, spell

KEY = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
UPGRADE = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", KEY)


@pytest.fixture
def gunicorn() -> Iterator[Gunicorn]:
    """One worker."""
    with Gunicorn(
        "tornado_parts:app",
        venv=Venv.frameworks(),
        worker_class="gunicorn_prometheus_exporter.PrometheusTornadoWorker",
        app_directory=TESTS / "apps" / "routing",
    ) as one:
        yield one


def test_streams_heads_and_errors_are_counted_as_they_were_sent(gunicorn: Gunicorn) -> None:
    """A handler's exception before the response, and in the middle of it; `Finish` is not an error."""
    assert gunicorn.get("/parts").body == b"one two "
    assert gunicorn.request("HEAD", "/done").status == 405
    assert gunicorn.get("/done").status == 204
    assert gunicorn.request("HEAD", "/assets/tornado_parts.py").status == 200
    with Wire(gunicorn.port) as wire:
        assert wire.request("GET", "/late").body == b"begun "
    seen = counted(gunicorn, 5)
    sent = "gunicorn_http_response_size_bytes_sum"
    assert seen.value(sent, endpoint="/parts", method="GET") == 8
    assert seen.value(sent, endpoint="/assets/(.*)", method="HEAD") == 0
    assert seen.value(TOTAL, endpoint="/late", status="200") == 1
    assert seen.value("gunicorn_http_exceptions_total", endpoint="/late", exception="LookupError") == 1
    assert seen.values_of("exception", "gunicorn_http_exceptions_total") == {"LookupError", "HTTPError"}
    assert seen.sum("gunicorn_worker_failed_requests_total") == 1


def test_a_websocket_counts_as_a_request_that_ends_when_it_is_open(gunicorn: Gunicorn) -> None:
    """Messages on it are not part of a response."""
    with Wire(gunicorn.port) as wire:
        wire.send(spell("GET", "/echo", *UPGRADE))
        assert wire.interim() == 101
        seen = counted(gunicorn, 1)
    assert seen.value(TOTAL, endpoint="/echo", status="101") == 1


def test_a_client_that_leaves_a_stream_is_counted_once(gunicorn: Gunicorn) -> None:
    """The request counts with the bytes that were handed over until then."""
    with Wire(gunicorn.port) as wire:
        wire.send(spell("GET", "/parts"))
        assert wire.receive()
    seen = counted(gunicorn, 1)
    assert seen.value(TOTAL, endpoint="/parts", status="200") == 1
    assert seen.sum("gunicorn_exporter_errors_total") == 0
