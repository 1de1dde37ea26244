"""Each worker class counts exactly what a client has seen, in every shape in which requests come."""

from collections.abc import Iterator
from typing import NamedTuple

import pytest

from harness import Gunicorn, Scrape, Venv, eventually, scrape
from harness.wire import Wire, spell

TOTAL = "gunicorn_http_requests_total"
RECEIVED, SENT = "gunicorn_worker_request_size_bytes_sum", "gunicorn_worker_response_size_bytes_sum"


class Kind(NamedTuple):
    """A worker class in one environment."""

    worker: str
    venv: str
    app: str = "apps.shapes:app"
    keeps: bool = True
    """Whether it keeps connections open."""

    def __str__(self) -> str:
        return f"{self.worker}-{self.venv}"

    @property
    def is_asgi(self) -> bool:
        """Whether the application is one for ASGI."""
        return self.app != "apps.shapes:app"


ASGI = "apps.shapes_asgi:app"
KINDS = [
    Kind("Worker", "frameworks", keeps=False),
    Kind("ThreadWorker", "frameworks"),
    Kind("GeventWorker", "frameworks"),
    Kind("TornadoWorker", "frameworks"),
    Kind("ASGIWorker", "frameworks", ASGI),
    Kind("UvicornWorker", "frameworks", ASGI),
    Kind("Worker", "gunicorn-21.2", keeps=False),
    Kind("ThreadWorker", "gunicorn-21.2"),
    Kind("Worker", "gunicorn-23.0", keeps=False),
    Kind("ThreadWorker", "gunicorn-23.0"),
    Kind("EventletWorker", "gunicorn-23.0"),
]


@pytest.fixture(params=KINDS, ids=str)
def kind(request: pytest.FixtureRequest) -> Kind:
    """One after the other."""
    found: Kind = request.param
    return found


@pytest.fixture
def gunicorn(kind: Kind) -> Iterator[Gunicorn]:
    """One worker of that class."""
    venv = Venv(kind.venv)
    venv.refresh()
    worker = f"gunicorn_prometheus_exporter.Prometheus{kind.worker}"
    with Gunicorn(kind.app, venv=venv, worker_class=worker, arguments=["--keep-alive=20"]) as one:
        yield one


def counted(gunicorn: Gunicorn, requests: int) -> Scrape:
    """The page, once that many requests have ended."""

    def page() -> Scrape:
        seen = scrape(gunicorn.metrics_url)
        assert seen.sum("gunicorn_worker_requests_total") == requests
        assert seen.sum(TOTAL) == requests
        assert seen.sum("gunicorn_http_requests_in_progress") == 0
        return seen

    return eventually(page)


def test_counts_are_those_that_the_client_saw(kind: Kind, gunicorn: Gunicorn) -> None:
    """Kept connections, bodies with a length and in chunks, HEAD, a wait for 100, responses in parts, errors."""
    received = sent = requests = 0
    with Wire(gunicorn.port) as wire:
        for _ in range(3 if kind.keeps else 1):
            answer = wire.request("GET", "/any/thing")
            assert answer == (200, b"hello\n", True)
            requests, sent = requests + 1, sent + 6
    for headers, body in (
        ((), b"x" * 5000),
        (("Transfer-Encoding: chunked",), b"2bc\r\n" + b"y" * 700 + b"\r\n12c\r\n" + b"z" * 300 + b"\r\n0\r\n\r\n"),
    ):
        with Wire(gunicorn.port) as wire:
            answer = wire.request("POST", "/read", *headers, body=body)
            assert answer.body in (b"5000", b"1000")
            requests, sent, received = requests + 1, sent + 4, received + int(answer.body)
    with Wire(gunicorn.port) as wire:
        wire.send(spell("POST", "/read", "Expect: 100-continue", "Content-Length: 4"))
        assert wire.interim() == 100
        wire.send(b"late")
        assert wire.response() == (200, b"4", True)
        requests, sent, received = requests + 1, sent + 1, received + 4
    with Wire(gunicorn.port) as wire:
        assert wire.request("GET", "/parts").body == b"one two "
        requests, sent = requests + 1, sent + 8
    with Wire(gunicorn.port) as wire:
        assert wire.request("GET", "/missing/1").status == 404
        requests += 1
    seen = counted(gunicorn, requests)
    assert (seen.sum(RECEIVED), seen.sum(SENT)) == (received, sent)
    assert seen.sum("gunicorn_http_request_size_bytes_sum") == received
    assert seen.sum("gunicorn_http_response_size_bytes_sum") == sent
    assert seen.value(TOTAL, method="POST", endpoint="/read", status="200") == 3
    assert seen.value(TOTAL, method="GET", endpoint="<unmatched>", status="404") == 1
    assert 0.2 <= seen.value("gunicorn_http_request_duration_seconds_sum", endpoint="/parts") < 5
    assert seen.sum("gunicorn_worker_busy_seconds_total") >= 0.2

    if kind.worker == "TornadoWorker":
        return  # tornado itself breaks off where a WSGI application answers HEAD with a body
    with Wire(gunicorn.port) as wire:
        assert wire.request("HEAD", "/any/thing").status == 200
    seen = counted(gunicorn, requests + 1)
    assert seen.value(TOTAL, method="HEAD", endpoint="/any/thing", status="200") == 1
    assert seen.sum("gunicorn_exporter_errors_total") == 0


def test_a_request_that_fails_is_counted_once(kind: Kind, gunicorn: Gunicorn) -> None:
    """Before its response begins and in the middle of it; and one whose client leaves."""
    if kind.worker == "TornadoWorker":
        pytest.skip("tornado never answers a WSGI application that raises")
    with Wire(gunicorn.port) as wire:
        assert wire.request("GET", "/raise").status == 500
    with Wire(gunicorn.port) as wire:
        assert wire.request("GET", "/raise-late").body == b"begun "
    with Wire(gunicorn.port) as wire:
        wire.send(spell("GET", "/endless"))
        assert wire._receive()
    seen = counted(gunicorn, 3)
    failed = "gunicorn_worker_failed_requests_total"
    assert seen.value(failed, error_type="KeyError") == 1
    assert seen.value(failed, error_type="LookupError") == 1
    assert seen.value("gunicorn_http_exceptions_total", exception="KeyError", handled_by="server", method="GET") == 1
    assert seen.value(TOTAL, status="500") == 1
    assert seen.value("gunicorn_http_exceptions_total", exception="LookupError", handled_by="server") == 1


def test_requests_that_lie_behind_one_another_are_each_counted(kind: Kind, gunicorn: Gunicorn) -> None:
    """As many as were answered: the sync worker closes after the first, and gthread up to 23 forgets the others."""
    answers = 0
    with Wire(gunicorn.port) as wire:
        last = spell("GET", "/any/thing", "Connection: close")
        wire.send(spell("GET", "/any/thing") + spell("GET", "/any/thing") + last)
        while answers < 3 and wire.response().is_complete:
            answers += 1
    assert answers == (3 if kind.keeps and not (kind.worker == "ThreadWorker" and kind.venv != "frameworks") else 1)
    counted(gunicorn, answers)
