"""Signals, restarts and kills that a server may meet: every count is exact, and no process is left over."""

import contextlib
import http.client
import os
import pty
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import Exporter, Gunicorn, Load, RedisServer, Scrape, eventually, scrape
from harness.process import children, descendants, task

APP = "apps.ending:app"
REQUESTS = "gunicorn_worker_requests_total"
FINISHED = "gunicorn_worker_request_duration_seconds_count"


@pytest.fixture
def exporter(redis: RedisServer) -> Iterator[Exporter]:
    """An exporter that also answers while the application does not run."""
    with Exporter(redis=redis) as one:
        yield one


def settled(gunicorn: Gunicorn, requests: int) -> Scrape:
    """Returns the page once it has that many requests, all of them finished."""

    def look() -> Scrape:
        page = scrape(gunicorn.metrics_url)
        assert page.sum(REQUESTS) == requests
        assert page.sum(FINISHED) == requests
        return page

    return eventually(look)


@pytest.mark.parametrize("arguments", [["--preload"], ["--max-requests=7"], ["--timeout=5", "--threads=1"]])
def test_signals_and_restarts_under_load_cost_no_count(arguments: list[str]) -> None:
    """HUP, TTIN, TTOU and USR1, one after the other, under constant load."""
    with Gunicorn(workers=2, arguments=arguments) as gunicorn:
        with Load([gunicorn.port], ["/", "/order"], clients=3) as load:
            for number in (signal.SIGHUP, signal.SIGTTIN, signal.SIGUSR1, signal.SIGTTOU, signal.SIGHUP):
                load.wait_for(25)
                gunicorn.send(number)
            load.wait_for(25)
        answered = load.statuses()[200]
        # A worker that has just begun to end may have a connection that it does not answer.
        page = eventually(lambda: _with_all(gunicorn, answered, len(load.outcomes)))
        orders = sum(outcome.path == "/order" and outcome.status == 200 for outcome in load.outcomes)
        assert orders <= page.sum("shop_orders_total") <= orders + load.unanswered
        eventually(
            lambda: len(scrape(gunicorn.metrics_url).samples("gunicorn_worker_state", state="running")), equals=2
        )


def _with_all(gunicorn: Gunicorn, answered: int, asked: int) -> Scrape:
    page = scrape(gunicorn.metrics_url)
    assert answered <= page.sum(FINISHED) <= asked
    assert page.sum(REQUESTS) == page.sum(FINISHED) + page.sum("gunicorn_http_aborted_total")
    return page


def test_winch_leaves_a_daemon_without_workers_and_with_its_counts(tmp_path: Path) -> None:
    """`--daemon`: the arbiter is no child of the test; WINCH ends its workers, HUP starts new ones, TERM ends all."""
    pidfile = tmp_path / "pid"
    gunicorn = Gunicorn(arguments=["--daemon", f"--pid={pidfile}"])
    subprocess.run(
        [str(word) for word in gunicorn.command()],
        cwd=gunicorn.directory,
        env=gunicorn.environment,
        check=True,
        timeout=60,
    )
    arbiter = eventually(lambda: int(pidfile.read_text()))
    try:
        eventually(lambda: gunicorn.get().status, equals=200)
        settled(gunicorn, 1)
        os.kill(arbiter, signal.SIGWINCH)
        eventually(lambda: len(children(arbiter)), equals=1)
        page = settled(gunicorn, 1)
        assert page.sum("gunicorn_worker_restart_total", reason="winch") == 1
        assert len(page.samples("gunicorn_worker_state", state="stopped")) == 1
        assert page.samples("gunicorn_worker_memory_bytes") == []
        os.kill(arbiter, signal.SIGHUP)
        eventually(lambda: gunicorn.get().status, equals=200)
        settled(gunicorn, 2)
    finally:
        family = [*descendants(arbiter)]
        os.kill(arbiter, signal.SIGTERM)
        eventually(lambda: task(arbiter) is None)
    eventually(lambda: not any(one.alive() for one in family))


@pytest.mark.parametrize("how", ["group", "terminal"])
def test_a_slow_request_is_counted_when_the_whole_group_gets_a_signal(
    how: str, tmp_path: Path, redis: RedisServer, exporter: Exporter
) -> None:
    """TERM to the whole process group, and Ctrl-C in a terminal: both also reach the workers directly."""
    template = Gunicorn(redis=redis)  # for its command and its ports
    arrivals = tmp_path / "arrivals"
    environment = {**template.environment, "ARRIVALS": str(arrivals)}
    command = [str(word) for word in template.command()]
    # `setsid`: a separate process group.
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(template.directory)
        os.execve(command[0], command, environment)
    try:
        eventually(lambda: template.get().status, equals=200)
        settled(template, 1)
        answers: list[int] = []
        client = threading.Thread(target=_ask_slowly, args=(template, answers))
        client.start()
        eventually(lambda: arrivals.stat().st_size, equals=2)
        family = [*descendants(pid)]
        if how == "terminal":
            os.write(terminal, b"\x03")
        else:
            os.killpg(pid, signal.SIGTERM)
        client.join(30)
        eventually(lambda: os.waitpid(pid, os.WNOHANG)[0], equals=pid)
        eventually(lambda: not any(one.alive() for one in family))
    finally:
        os.close(terminal)
    # Redis has the counts of the last moment: TERM lets workers finish, INT ends them at once.
    page = eventually(lambda: scrape(exporter.metrics_url))
    assert page.sum(REQUESTS) == 2
    assert page.sum(FINISHED) == 1 + len(answers)
    assert page.sum("gunicorn_http_aborted_total") == 1 - len(answers)
    assert answers == [200] or how == "terminal"


def _ask_slowly(gunicorn: Gunicorn, answers: list[int]) -> None:
    with contextlib.suppress(OSError, http.client.HTTPException):
        answers.append(gunicorn.get("/slow?seconds=1").status)


def test_a_worker_without_memory_continues_and_its_requests_are_counted() -> None:
    """`ulimit -v`: requests that fail for lack of memory are requests too."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_AS, (600 << 20, 600 << 20))"
    config = f"def post_fork(server, worker):\n    {limit}\n"
    with Gunicorn(APP, config=config) as gunicorn:
        statuses = [gunicorn.get("/hog?mib=200").status for _ in range(6)]
        assert 500 in statuses
        statuses += [gunicorn.get().status for _ in range(10)]
        page = settled(gunicorn, len(statuses))
        assert page.sum("gunicorn_worker_failed_requests_total") == statuses.count(500)


def test_after_the_arbiter_is_killed_all_processes_end_and_redis_has_every_count(
    redis: RedisServer, exporter: Exporter
) -> None:
    """Workers notice within seconds; the exporter pushes their last values, and ends too."""
    with Gunicorn(workers=2, redis=redis) as gunicorn:
        with Load([gunicorn.port]) as load:
            load.wait_for(100)
            family = [*descendants(gunicorn.pid)]
            gunicorn.send(signal.SIGKILL)
            load.wait_for(20)
        # A sync worker checks for its parent when no connection waits.
        eventually(lambda: not any(one.alive() for one in family))
        assert gunicorn.process is not None
        gunicorn.process.wait()
        gunicorn.process = None
    page = eventually(lambda: scrape(exporter.metrics_url))
    assert load.answered <= page.sum(REQUESTS) <= load.answered + load.unanswered
    assert page.samples("gunicorn_http_requests_in_progress") == []
