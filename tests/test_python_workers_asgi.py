"""ASGI: the lifespan, websockets and clients that leave, under Gunicorn's own worker and uvicorn's."""

from collections.abc import Iterator

import pytest

from harness import Gunicorn, Venv
from harness.counted import TOTAL, counted
from harness.paths import TESTS
from harness.wire import Wire, spell

KEY = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
UPGRADE = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", KEY)


@pytest.fixture(params=["PrometheusASGIWorker", "PrometheusUvicornWorker"])
def gunicorn(request: pytest.FixtureRequest) -> Iterator[Gunicorn]:
    """One worker with an application that has a lifespan."""
    with Gunicorn(
        "lifespan:app",
        venv=Venv.frameworks(),
        worker_class=f"gunicorn_prometheus_exporter.{request.param}",
        app_directory=TESTS / "apps" / "routing",
    ) as one:
        yield one


def test_the_lifespan_reaches_the_application_and_is_not_counted(gunicorn: Gunicorn) -> None:
    """Requests see the state that it has set up, and it runs again at the end."""
    assert gunicorn.get("/state").body == b"started\n"
    seen = counted(gunicorn, 1)
    assert seen.value(TOTAL, endpoint="/state", status="200") == 1
    gunicorn.stop()
    assert "the application has stopped" in gunicorn.log


def test_a_websocket_is_not_counted_as_a_request(gunicorn: Gunicorn) -> None:
    """It is opened and answered as without this package; other requests are counted."""
    with Wire(gunicorn.port) as wire:
        wire.send(spell("GET", "/echo", *UPGRADE))
        assert wire.interim() == 101
        assert gunicorn.get("/state").status == 200
        seen = counted(gunicorn, 1)
    assert seen.values_of("endpoint", TOTAL) == {"/state"}


def test_a_client_that_leaves_a_stream_is_counted_once(gunicorn: Gunicorn) -> None:
    """It counts as soon as the application has noticed the end."""
    with Wire(gunicorn.port) as wire:
        wire.send(spell("GET", "/stream"))
        assert wire.receive()
    seen = counted(gunicorn, 1)
    assert seen.value(TOTAL, endpoint="/stream", status="200") == 1
    assert seen.value("gunicorn_http_response_size_bytes_sum", endpoint="/stream") >= 5
    assert seen.sum("gunicorn_exporter_errors_total") == 0
