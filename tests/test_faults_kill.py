"""`kill -9` of workers and of the exporter, under load, in both storage modes: nothing is lost or doubled."""

import contextlib
import http.client
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import Gunicorn, Load, RedisServer, Scrape, eventually, scrape

KILLS = 12


@pytest.fixture(params=["embedded", "redis"])
def storage(request: pytest.FixtureRequest) -> Iterator[RedisServer | None]:
    """Where the metrics are: in the instance (None), or in a Redis."""
    if request.param == "embedded":
        yield None
    else:
        with RedisServer() as server:
            yield server


class CountingGunicorn(Gunicorn):
    """Three workers of an application that counts its requests in a file, one byte each."""

    def __init__(self, storage: RedisServer | None) -> None:
        """The file is in the guard's directory."""
        super().__init__(redis=storage, workers=3)
        self.arrivals = self.directory / "arrivals"
        self.environment["ARRIVALS"] = str(self.arrivals)

    @property
    def arrived(self) -> int:
        """Returns the number of requests that reached the application."""
        return Path(self.arrivals).stat().st_size


@pytest.fixture
def gunicorn(storage: RedisServer | None) -> Iterator[CountingGunicorn]:
    """A running instance that has had no request."""
    with CountingGunicorn(storage) as one:
        yield one


@pytest.mark.parametrize("when", ["before", "during", "after"])
def test_a_worker_killed_in_a_request_has_counted_it(gunicorn: CountingGunicorn, when: str) -> None:
    """Killed before the response begins, in the middle of it, and after its last byte."""
    with Load([gunicorn.port], clients=2) as load:
        for _ in range(KILLS):
            with contextlib.suppress(OSError, http.client.HTTPException):
                gunicorn.get(f"/die?when={when}")
            load.wait_for(20)
    page = _complete_page(gunicorn)
    finished = page.sum("gunicorn_worker_request_duration_seconds_count")
    requests = page.sum("gunicorn_worker_requests_total")
    assert requests == gunicorn.arrived
    assert requests - finished == KILLS, "each killed worker cut one request off"
    answered = load.answered + (KILLS if when == "after" else 0)
    assert finished <= answered <= requests


def test_workers_killed_at_any_time_lose_nothing(gunicorn: CountingGunicorn) -> None:
    """Killed from outside, at any moment."""
    with Load([gunicorn.port], ["/", "/order", "/slow?seconds=0.003"]) as load:
        for _ in range(KILLS):
            load.wait_for(50)
            gunicorn.kill_worker(gunicorn.worker_pids()[0])
    page = _complete_page(gunicorn)
    finished = page.sum("gunicorn_worker_request_duration_seconds_count")
    requests = page.sum("gunicorn_worker_requests_total")
    assert finished <= load.answered <= requests
    assert requests - finished <= KILLS, "a worker has one request at a time"
    # A request is counted just before the application is called: for each kill, at most one request is between the two.
    assert gunicorn.arrived <= requests <= gunicorn.arrived + KILLS
    assert page.value("shop_orders_total") == pytest.approx(page.value("shop_order_seconds_count"), abs=KILLS)


def test_a_killed_exporter_loses_and_doubles_nothing(gunicorn: CountingGunicorn) -> None:
    """Another exporter takes over, from the values that the first had committed and from the stores of live workers."""
    with Load([gunicorn.port], ["/", "/order"]) as load:
        for turn in range(6):
            load.wait_for(100)
            victim = eventually(gunicorn.exporter_pid)
            if turn % 2:  # a worker dies with it, so that no process holds its last values
                gunicorn.kill_worker(gunicorn.worker_pids()[0])
            os.kill(victim, signal.SIGKILL)
            eventually(lambda: gunicorn.exporter_pid() != victim)
    page = _complete_page(gunicorn)
    finished = page.sum("gunicorn_worker_request_duration_seconds_count")
    requests = page.sum("gunicorn_worker_requests_total")
    assert finished <= load.answered <= requests
    assert requests - finished <= 3
    assert gunicorn.arrived <= requests <= gunicorn.arrived + 3
    assert load.unanswered <= 3, "only a killed worker cuts a request off"


def test_an_exporter_killed_alone_costs_no_request_and_no_count(gunicorn: CountingGunicorn) -> None:
    """Workers notice nothing."""
    with Load([gunicorn.port]) as load:
        for _ in range(6):
            load.wait_for(100)
            victim = eventually(gunicorn.exporter_pid)
            os.kill(victim, signal.SIGKILL)
            eventually(lambda: gunicorn.exporter_pid() != victim)
    assert load.statuses() == {200: len(load.outcomes)}
    page = _complete_page(gunicorn)
    assert page.sum("gunicorn_worker_requests_total") == len(load.outcomes) == gunicorn.arrived
    assert page.sum("gunicorn_worker_request_duration_seconds_count") == len(load.outcomes)


def test_the_gauges_of_a_dead_worker_are_gone_and_it_is_stopped(gunicorn: CountingGunicorn) -> None:
    """The worker is killed and not replaced: it gets a signal to leave while it is stopped, and is then killed."""
    with Load([gunicorn.port], ["/order"]):
        eventually(lambda: scrape(gunicorn.metrics_url).value("shop_carts"), equals=3.0)
    victim = gunicorn.worker_pids()[0]
    os.kill(victim, signal.SIGSTOP)
    gunicorn.send(signal.SIGTTOU)
    eventually(lambda: "Handling signal: ttou" in gunicorn.log)
    orders = eventually(lambda: scrape(gunicorn.metrics_url)).value("shop_orders_total")
    os.kill(victim, signal.SIGKILL)

    page = eventually(lambda: _without_victim(gunicorn))

    stopped = page.values_of("worker_id", "gunicorn_worker_state", state="stopped")
    running = page.values_of("worker_id", "gunicorn_worker_state", state="running")
    assert (len(stopped), len(running), stopped & running) == (1, 2, set())
    assert page.sum("gunicorn_worker_state", state="stopped") == 0
    for name in ("memory_bytes", "cpu_percent", "uptime_seconds"):
        assert page.values_of("worker_id", f"gunicorn_worker_{name}") == running
    assert page.value("shop_orders_total") == orders


def _without_victim(gunicorn: Gunicorn) -> Scrape:
    page = scrape(gunicorn.metrics_url)
    assert page.value("shop_carts") == 2
    assert len(page.samples("gunicorn_worker_state", state="stopped")) == 1
    return page


def _complete_page(gunicorn: CountingGunicorn) -> Scrape:
    """Returns the complete page: requests in flight have ended, and the exporter has read every dead worker."""

    def settled() -> Scrape:
        page = scrape(gunicorn.metrics_url)
        requests = page.sum("gunicorn_worker_requests_total")
        assert requests >= gunicorn.arrived, f"{requests:g} requests counted of {gunicorn.arrived}"
        again = scrape(gunicorn.metrics_url)
        assert again.sum("gunicorn_worker_requests_total") == requests
        finished = page.sum("gunicorn_worker_request_duration_seconds_count")
        assert again.sum("gunicorn_worker_request_duration_seconds_count") == finished
        aborted = again.sum("gunicorn_http_aborted_total")
        assert requests == finished + aborted, f"{requests:g} requests, {finished:g} finished, {aborted:g} aborted"
        return again

    return eventually(settled)
