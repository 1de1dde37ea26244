"""Each worker class counts exactly the requests that a client has seen, in every shape of request.

`make test` runs some of the versions, `make test-matrix` all of them (harness/kinds.py). Tests that a class cannot
pass are skipped by name, with the reason.
"""

import contextlib
import socket
from collections.abc import Iterator

import pytest

from harness import Gunicorn, Scrape, Venv, eventually, scrape
from harness.kinds import Kind, kinds
from harness.wire import Wire, spell

TOTAL = "gunicorn_http_requests_total"
RECEIVED, SENT = "gunicorn_worker_request_size_bytes_sum", "gunicorn_worker_response_size_bytes_sum"
FAILED, EXCEPTIONS = "gunicorn_worker_failed_requests_total", "gunicorn_http_exceptions_total"
# These never answer a request that arrived together with the one before it.
FORGETS = {*(("ThreadWorker", version) for version in range(21, 27)), ("ASGIWorker", 25), ("ASGIWorker", 26)}


class Ledger:
    """The counts that the page has added since this was made."""

    def __init__(self, gunicorn: Gunicorn) -> None:
        """Must be made while no request is in progress."""
        self._gunicorn = gunicorn
        self._before = eventually(self._quiet)
        self._after = self._before

    def sees(self, requests: int, *, received: int = 0, sent: int | None = None) -> None:
        """Exactly that many requests have ended, with bodies of that many bytes (sent None: any number)."""

        def page() -> Scrape:
            self._after = self._quiet()
            assert self.sum("gunicorn_worker_requests_total") == requests
            assert self.sum(TOTAL) == requests
            assert self.sum("gunicorn_worker_request_duration_seconds_count") == requests
            # A page may be rendered in the middle of an update.
            assert self.sum(RECEIVED) == self.sum("gunicorn_http_request_size_bytes_sum") == received
            assert self.sum(SENT) == self.sum("gunicorn_http_response_size_bytes_sum")
            assert sent is None or self.sum(SENT) == sent
            assert self._after.sum("gunicorn_exporter_errors_total") == 0
            return self._after

        eventually(page)

    def sum(self, name: str, **labels: str) -> float:
        """Returns the growth of the sum."""
        return self._after.sum(name, **labels) - self._before.sum(name, **labels)

    def _quiet(self) -> Scrape:
        seen = scrape(self._gunicorn.metrics_url)
        assert seen.sum("gunicorn_http_requests_in_progress") == 0
        return seen


@pytest.fixture(params=kinds(), ids=str, scope="module")
def kind(request: pytest.FixtureRequest) -> Kind:
    """One kind after the other."""
    found: Kind = request.param
    return found


@pytest.fixture(scope="module")
def gunicorn(kind: Kind) -> Iterator[Gunicorn]:
    """One worker of that class, for all these tests."""
    venv = Venv(kind.venv)
    venv.refresh()
    with Gunicorn(kind.app, venv=venv, worker_class=kind.worker_class, arguments=["--keep-alive=5"]) as one:
        yield one


@pytest.fixture
def ledger(gunicorn: Gunicorn) -> Ledger:
    """Counts from here on."""
    return Ledger(gunicorn)


def test_requests_of_a_kept_connection_are_each_counted(kind: Kind, gunicorn: Gunicorn, ledger: Ledger) -> None:
    """The sync worker closes after each request; the others do not."""
    requests = 0
    with Wire(gunicorn.port) as wire:
        for _ in range(3):
            if not wire.request("GET", "/any/thing").is_complete:
                break
            requests += 1
    assert requests == (3 if kind.keeps else 1)
    ledger.sees(requests, sent=6 * requests)
    assert ledger.sum(TOTAL, method="GET", endpoint="/any/thing", status="200") == requests


def test_pipelined_requests_are_each_counted(kind: Kind, gunicorn: Gunicorn, ledger: Ledger) -> None:
    """Exactly the answered requests count. The sync worker closes after the first."""
    forgets = (kind.worker, kind.gunicorn) in FORGETS
    answers = 0
    with Wire(gunicorn.port) as wire, contextlib.suppress(TimeoutError):
        last = spell("GET", "/any/thing", "Connection: close")
        wire.send(spell("GET", "/any/thing") + spell("GET", "/any/thing") + last)
        while answers < 3 and wire.response().is_complete:
            answers += 1
            wire.patience = 8 if forgets else 30
    assert answers == 3 or not kind.keeps or forgets
    assert answers >= 1
    ledger.sees(answers, sent=6 * answers)


def test_a_body_is_counted_with_a_length_and_in_chunks(gunicorn: Gunicorn, ledger: Ledger) -> None:
    """The bytes of the body, not those of the framing."""
    with Wire(gunicorn.port) as wire:
        assert wire.request("POST", "/read", body=b"x" * 5000).body == b"5000"
    ledger.sees(1, received=5000, sent=4)
    chunks = b"2bc\r\n" + b"y" * 700 + b"\r\n12c\r\n" + b"z" * 300 + b"\r\n0\r\n\r\n"
    with Wire(gunicorn.port) as wire:
        assert wire.request("POST", "/read", "Transfer-Encoding: chunked", body=chunks).body == b"1000"
    ledger.sees(2, received=6000, sent=8)
    assert ledger.sum(TOTAL, method="POST", endpoint="/read", status="200") == 2


def test_a_client_that_waits_for_100_is_one_request(kind: Kind, gunicorn: Gunicorn, ledger: Ledger) -> None:
    """The interim response is not counted."""
    if kind.worker == "ASGIWorker" and kind.gunicorn < 27:
        pytest.skip("Gunicorn's own ASGI worker never sends 100 before 27")
    with Wire(gunicorn.port) as wire:
        wire.send(spell("POST", "/read", "Expect: 100-continue", "Content-Length: 4"))
        assert wire.interim() == 100
        wire.send(b"late")
        assert wire.response() == (200, b"4", True)
    ledger.sees(1, received=4, sent=1)


def test_a_response_in_parts_is_one_request_until_its_last_part(gunicorn: Gunicorn, ledger: Ledger) -> None:
    """Background work of an ASGI application comes after it."""
    with Wire(gunicorn.port) as wire:
        assert wire.request("GET", "/parts", "Connection: close").body == b"one two "
    ledger.sees(1, sent=8)
    assert ledger.sum("gunicorn_http_request_duration_seconds_sum", endpoint="/parts") >= 0.2
    assert ledger.sum("gunicorn_worker_busy_seconds_total") >= 0.2


def test_a_file_is_counted_with_all_its_bytes(gunicorn: Gunicorn, ledger: Ledger) -> None:
    """The worker sends the file by sendfile, if it can."""
    with Wire(gunicorn.port) as wire:
        answer = wire.request("GET", "/file")
    assert (answer.status, len(answer.body), answer.is_complete) == (200, 100_000, True)
    ledger.sees(1, sent=100_000)


def test_a_head_request_is_counted_with_the_bytes_that_are_sent(kind: Kind, gunicorn: Gunicorn, ledger: Ledger) -> None:
    """The application handles HEAD (/head), or leaves it to the server; bytes that are sent count."""
    with Wire(gunicorn.port) as wire:
        assert wire.request("HEAD", "/head").status == 200
    ledger.sees(1, sent=0)
    assert ledger.sum(TOTAL, method="HEAD", endpoint="/head", status="200") == 1
    if kind.is_tornado:
        pytest.skip("tornado itself breaks off where a WSGI application answers HEAD with a body")
    with Wire(gunicorn.port) as wire:
        wire.send(spell("HEAD", "/any/thing", "Connection: close"))
        head, _, body = b"".join(iter(wire.receive, b"")).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK")
    ledger.sees(2, sent=len(body))  # Gunicorn up to 23 sends it
    assert ledger.sum(TOTAL, method="HEAD", endpoint="/any/thing", status="200") == 1


def test_the_counted_status_is_the_one_that_the_client_saw(gunicorn: Gunicorn, ledger: Ledger) -> None:
    """This holds for statuses without a body too; a path without a route makes no series."""
    for path, status in (("/missing/1", 404), ("/refuse", 403), ("/nothing", 204)):
        with Wire(gunicorn.port) as wire:
            assert wire.request("GET", path).status == status
    ledger.sees(3, sent=0)
    assert ledger.sum(TOTAL, endpoint="<unmatched>", status="404") == 1
    assert ledger.sum(TOTAL, endpoint="<other>", status="403") == 1
    assert ledger.sum(TOTAL, endpoint="/nothing", status="204") == 1


def test_an_exception_before_the_response_is_counted_once(kind: Kind, gunicorn: Gunicorn, ledger: Ledger) -> None:
    """The client gets 500; from tornado it gets no answer, and the connection stays open."""
    with Wire(gunicorn.port) as wire:
        wire.send(spell("GET", "/raise"))
        if not kind.is_tornado:
            assert wire.response().status == 500
        ledger.sees(1, sent=None)
    assert ledger.sum(TOTAL, status="<none>" if kind.is_tornado else "500") == 1
    _failed_once(ledger, "KeyError")


def test_an_exception_within_the_response_is_counted_once(kind: Kind, gunicorn: Gunicorn, ledger: Ledger) -> None:
    """The status and the bytes that were sent count; tornado sends nothing before the response is complete."""
    with Wire(gunicorn.port) as wire:
        wire.send(spell("GET", "/raise-late"))
        if not kind.is_tornado:
            answer = wire.response()
            assert (answer.status, answer.body) == (200, b"begun ")
        ledger.sees(1, sent=0 if kind.is_tornado else 6)
    assert ledger.sum(TOTAL, status="<none>" if kind.is_tornado else "200") == 1
    _failed_once(ledger, "LookupError")


def _failed_once(ledger: Ledger, name: str) -> None:
    assert ledger.sum(FAILED) == ledger.sum(FAILED, error_type=name, method="GET") == 1
    assert ledger.sum(EXCEPTIONS) == ledger.sum(EXCEPTIONS, exception=name, method="GET", handled_by="server") == 1


def test_a_client_that_leaves_within_its_response_is_counted(kind: Kind, gunicorn: Gunicorn, ledger: Ledger) -> None:
    """Once, as soon as the server notices it."""
    if kind.is_tornado:
        pytest.skip("tornado collects a WSGI response before it sends any of it; this one has no end")
    with Wire(gunicorn.port) as wire:
        wire.send(spell("GET", "/endless"))
        assert wire.receive()
    ledger.sees(1, sent=None)
    assert ledger.sum(TOTAL, endpoint="/endless", status="200") == 1
    assert ledger.sum(SENT) >= 1
    # An exception that the server then raises is an error of that request; most ASGI applications notice it and return.
    names = ("BrokenPipeError", "ConnectionResetError", "CancelledError")
    assert ledger.sum(FAILED) == sum(ledger.sum(FAILED, error_type=name) for name in names) <= 1


def test_a_client_that_leaves_within_its_request_is_counted(kind: Kind, gunicorn: Gunicorn, ledger: Ledger) -> None:
    """The request counts with the bytes that the application has received."""
    with socket.create_connection(("127.0.0.1", gunicorn.port)) as client:
        client.sendall(spell("POST", "/read", "Content-Length: 5000") + b"x" * 100)
    cancels = (kind.worker, kind.gunicorn) == ("ASGIWorker", 24)
    ledger.sees(1, received=0 if cancels else 100, sent=None)


def test_a_request_that_outlasts_the_timeout_is_counted(kind: Kind) -> None:
    """It reached the application; neither its count nor that of earlier requests is lost."""
    if kind.worker == "ThreadWorker":
        pytest.skip("no request of a pool of threads can keep its worker from saying that it is alive")
    venv = Venv(kind.venv)
    arguments = ["--timeout=2", "--graceful-timeout=1"]
    with Gunicorn(kind.app, venv=venv, worker_class=kind.worker_class, arguments=arguments) as gunicorn:
        assert gunicorn.get("/any/thing").status == 200
        # Gunicorn ends no worker that has never reported; tornado's worker reports first after a second.
        eventually(lambda: scrape(gunicorn.metrics_url).sum("gunicorn_worker_uptime_seconds") > 2)
        with Wire(gunicorn.port) as wire:
            wire.send(spell("GET", "/stuck"))
            while wire.receive():
                pass

        def seen() -> Scrape:
            page = scrape(gunicorn.metrics_url)
            assert page.sum("gunicorn_worker_requests_total") == 2
            assert page.sum("gunicorn_http_requests_in_progress") == 0
            assert page.sum(TOTAL) + page.sum("gunicorn_http_aborted_total") == 2
            assert page.sum("gunicorn_worker_restart_total", reason="abort") >= 1  # the next one may boot too slowly
            return page

        eventually(seen)
        assert gunicorn.get("/any/thing").status == 200
        eventually(lambda: scrape(gunicorn.metrics_url).sum("gunicorn_worker_requests_total"), equals=3)
