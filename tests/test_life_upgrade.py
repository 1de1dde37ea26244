"""USR2: a new arbiter replaces the old one, and back. `/metrics` answers throughout, and nothing is lost."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import Gunicorn, Load, RedisServer, Scrape, Venv, eventually, scrape
from harness.process import Task, children, descendants, end_all, task

REQUESTS = "gunicorn_worker_requests_total"


class Upgradable(Gunicorn):
    """A gunicorn whose arbiter may change; the test ends all of them."""

    arbiters: list[int]

    def start(self) -> None:
        """Starts the first arbiter."""
        super().start()
        self.arbiters = [self.pid]

    def upgrade(self) -> int:
        """Sends USR2; returns the new arbiter, once it has workers."""
        old = self.arbiters[-1]
        known = set(children(old))
        os.kill(old, signal.SIGUSR2)
        new = eventually(lambda: _new_arbiter(old, known))
        self.arbiters.append(new)
        eventually(lambda: len(workers_of(new)), equals=self.workers)
        return new

    def stop(self, *, patience: float = 15.0) -> int:
        """Stops all arbiters."""
        family: list[Task] = []
        for arbiter in self.arbiters[1:]:
            family += [*filter(None, [task(arbiter)]), *descendants(arbiter)]
            with contextlib.suppress(ProcessLookupError):
                os.kill(arbiter, signal.SIGTERM)
        code = super().stop(patience=patience)
        end_all(family)
        return code


def workers_of(arbiter: int) -> list[int]:
    """Returns the children that are in the session of the arbiter and run the same program."""
    session = os.getsid(arbiter)
    return [pid for pid in children(arbiter) if _session(pid) == session and pid not in _arbiters(arbiter)]


def exporters_of(*arbiters: int) -> list[int]:
    """Returns the children that lead their own session."""
    return [pid for arbiter in arbiters for pid in children(arbiter) if _session(pid) == pid]


def _arbiters(parent: int) -> list[int]:
    """Returns the children that have children: an arbiter has an exporter or workers."""
    return [pid for pid in children(parent) if children(pid)]


def _new_arbiter(old: int, known: set[int]) -> int:
    found = [pid for pid in children(old) if pid not in known and _session(pid) != pid and children(pid)]
    assert len(found) == 1, found
    return found[0]


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None


class Scraper:
    """Scrapes repeatedly, and keeps all errors and every page's total."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.failures: list[str] = []
        self.totals: list[float] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while not self._stop.wait(0.05):
            try:
                self.totals.append(scrape(self.url).sum(REQUESTS))
            except (OSError, AssertionError) as error:
                self.failures.append(repr(error))

    def __enter__(self) -> "Scraper":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


@pytest.fixture(
    params=[("21.2", "memory"), ("newest", "memory"), ("newest", "redis"), ("newest", "directory")],
    ids="-".join,
)
def gunicorn(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Upgradable]:
    """Two workers; their metrics in memory, in Redis, or in a directory."""
    version, place = request.param
    with contextlib.ExitStack() as stack:
        redis = stack.enter_context(RedisServer()) if place == "redis" else None
        one = Upgradable(venv=Venv.gunicorn(version), workers=2, redis=redis)
        if place == "directory":
            one.environment["PROMETHEUS_MULTIPROC_DIR"] = str(tmp_path)
        yield stack.enter_context(one)


def settled(gunicorn: Upgradable, requests: int) -> Scrape:
    """Returns the page, once it has that many requests and does not change any more."""

    def look() -> Scrape:
        page = scrape(gunicorn.metrics_url)
        assert page.sum(REQUESTS) == requests
        assert page.sum("gunicorn_worker_request_duration_seconds_count") == requests
        return page

    return eventually(look)


def test_an_upgrade_loses_nothing_and_metrics_answer_throughout(gunicorn: Upgradable) -> None:
    """The old arbiter ends; the new one has its counts, its listener and the only exporter."""
    old = gunicorn.pid
    with Scraper(gunicorn.metrics_url) as scraper, Load([gunicorn.port], ["/", "/order"]) as load:
        load.wait_for(50)
        new = gunicorn.upgrade()
        eventually(lambda: len(exporters_of(new)), equals=1)
        eventually(lambda: exporters_of(old), equals=[])
        load.wait_for(50)
        os.kill(old, signal.SIGTERM)
        eventually(lambda: task(old) is None)
        load.wait_for(50)
    assert scraper.failures == []
    assert scraper.totals == sorted(scraper.totals), "a total went down"
    assert load.statuses() == {200: len(load.outcomes)}
    page = settled(gunicorn, len(load.outcomes))
    assert page.sum("shop_orders_total") == sum(outcome.path == "/order" for outcome in load.outcomes)
    assert page.value("gunicorn_master_worker_restart_total", reason="usr2") == 1
    eventually(lambda: len(scrape(gunicorn.metrics_url).samples("gunicorn_worker_state", state="running")), equals=2)


def test_a_rollback_loses_nothing_and_metrics_answer_throughout(gunicorn: Upgradable) -> None:
    """The new arbiter ends; the old one's exporter takes over again, with the counts of the new one's workers."""
    with Scraper(gunicorn.metrics_url) as scraper, Load([gunicorn.port], ["/", "/order"]) as load:
        load.wait_for(50)
        new = gunicorn.upgrade()
        eventually(lambda: len(exporters_of(new)), equals=1)
        eventually(lambda: exporters_of(gunicorn.pid), equals=[])
        load.wait_for(50)
        os.kill(new, signal.SIGTERM)
        eventually(lambda: task(new) is None)
        gunicorn.arbiters.remove(new)
        eventually(lambda: len(exporters_of(gunicorn.pid)), equals=1)
        load.wait_for(50)
    assert scraper.failures == []
    assert scraper.totals == sorted(scraper.totals), "a total went down"
    assert load.statuses() == {200: len(load.outcomes)}
    settled(gunicorn, len(load.outcomes))
    # Upgrades again, and this time the new arbiter stays.
    new = gunicorn.upgrade()
    os.kill(gunicorn.pid, signal.SIGTERM)
    eventually(lambda: task(gunicorn.arbiters[0]) is None)
    gunicorn.get()
    settled(gunicorn, len(load.outcomes) + 1)


@pytest.mark.parametrize("victim", ["old", "new", "exporter"])
def test_either_arbiter_or_the_exporter_may_be_killed_during_an_upgrade(gunicorn: Upgradable, victim: str) -> None:
    """SIGKILL while there are two arbiters."""
    old = gunicorn.pid
    for _ in range(20):
        assert gunicorn.get().status == 200
    new = gunicorn.upgrade()
    eventually(lambda: len(exporters_of(new)), equals=1)
    for _ in range(20):
        assert gunicorn.get().status == 200
    killed = {"old": old, "new": new, "exporter": exporters_of(new)[0]}[victim]
    os.kill(killed, signal.SIGKILL)
    eventually(lambda: task(killed) is None)
    survivor = old if victim == "new" else new
    # Workers of a killed arbiter end by themselves.
    eventually(lambda: len(exporters_of(survivor)), equals=1)
    for _ in range(20):
        eventually(lambda: gunicorn.get().status, equals=200)
    eventually(lambda: _at_least(gunicorn, 60))
    expected = {"old": 2, "new": 2, "exporter": 4}[victim]
    running = "gunicorn_worker_state"
    eventually(lambda: len(scrape(gunicorn.metrics_url).samples(running, state="running")), equals=expected)


@pytest.mark.parametrize("named", ["50", "50:0:0", "50:{device}:{inode}", "2:0:0", "nothing", "-1:1:1", "99:1:1"])
def test_a_descriptor_that_is_no_handover_is_left_to_the_application(named: str) -> None:
    """The variable may come from anywhere: a program that the application starts has all of its environment."""
    config = (
        "import os, socket\n"
        "mine, other = socket.socketpair()\n"
        "other.sendall(b'for the application')\n"
        "os.dup2(mine.fileno(), 50)\n"
        "there = os.fstat(50)\n"
        f"os.environ['GUNICORN_EXPORTER_HANDOVER'] = {named!r}.format(device=there.st_dev, inode=there.st_ino + 1)\n"
        "def post_worker_init(worker):\n"
        "    worker.log.info('kept: %s', socket.socket(fileno=os.dup(50)).recv(100))\n"
    )
    with Gunicorn(config=config) as gunicorn:
        assert gunicorn.get().status == 200
        eventually(lambda: scrape(gunicorn.metrics_url).sum(REQUESTS), equals=1.0)
        assert "kept: b'for the application'" in gunicorn.log
        lines = [line for line in gunicorn.log.splitlines() if "this arbiter begins anew" in line]
        assert len(lines) == 1, gunicorn.log
        assert "is not the socket of an old arbiter" in lines[0]


def _at_least(gunicorn: Upgradable, requests: int) -> None:
    page = scrape(gunicorn.metrics_url)
    assert page.sum("gunicorn_worker_request_duration_seconds_count") >= requests
