"""The death of a worker: the error log, the metric and `/requests` name exactly the requests that it was answering."""

import os
import random
import signal
import time
from functools import partial

import pytest

from harness import Gunicorn, Venv, eventually, scrape
from harness.in_flight import Sent, all_in_progress, deaths, overview, sent
from harness.kinds import Kind, kinds

#: Number of deaths of each worker class; `make test-deaths` sets more.
DEATHS = int(os.environ.get("HARNESS_DEATHS", "3"))
ENDS = {
    "segv": ("segv", "was killed by SIGSEGV"),
    "exit": ("exit", "exited with status 9 (exit)"),
    "memory": ("kill", "was killed by SIGKILL"),
}


def started(kind: Kind, timeout: int = 300, **more: str) -> Gunicorn:
    """An instance with one worker that can have some requests at once."""
    return Gunicorn(
        "apps.hanging_asgi:app" if kind.is_asgi else "apps.hanging:app",
        venv=Venv(kind.venv),
        worker_class=kind.worker_class,
        arguments=[
            f"--timeout={timeout}",
            "--graceful-timeout=1",
            *(["--threads=4"] if "Thread" in kind.worker else []),
        ],
        environment=more,
    )


def at_once(kind: Kind) -> int:
    """How many requests one worker answers at once."""
    if kind.worker == "ThreadWorker":
        return 4
    return 1 if kind.worker in ("Worker", "TornadoWorker") else 8


def aborted(gunicorn: Gunicorn) -> dict[tuple[str, str, str], float]:
    """Returns the counts of the metric by method, endpoint and reason."""
    samples = scrape(gunicorn.metrics_url).samples("gunicorn_http_aborted_total")
    return {(s.labels["method"], s.labels["endpoint"], s.labels["reason"]): s.value for s in samples}


def expected(
    requests: list[Sent], reason: str, before: dict[tuple[str, str, str], float]
) -> dict[tuple[str, str, str], float]:
    """Returns the counts after those requests were cut off."""
    counts = dict(before)
    for request in requests:
        key = (request.method, request.path, reason)
        counts[key] = counts.get(key, 0) + 1
    return counts


def has_deaths(gunicorn: Gunicorn, number: int) -> bool:
    """Whether the error log has that many lines about deaths."""
    return len(deaths(gunicorn)) == number


def has_another_worker(gunicorn: Gunicorn, dead: int) -> bool:
    """Whether another worker has taken the place of the dead one."""
    return gunicorn.worker_pids() not in ([], [dead])


@pytest.mark.parametrize("kind", kinds(), ids=str)
def test_a_death_names_exactly_the_requests_in_flight(kind: Kind) -> None:
    """By SIGKILL from outside, a crash in C, an exit, a lack of memory; with one request or several."""
    with started(kind) as gunicorn:
        counts: dict[tuple[str, str, str], float] = {}
        for number in range(DEATHS):
            (worker,) = gunicorn.worker_pids()
            end = random.choice(["sigkill", *ENDS])
            waiting = random.randint(1, at_once(kind)) - (end != "sigkill")
            chosen = [(random.choice(["GET", "POST"]), f"/wait/{random.randint(1, 3)}") for _ in range(waiting)]
            with sent(gunicorn, *chosen) as requests:
                all_in_progress(gunicorn, requests)
                if end == "sigkill":
                    reason, how = "kill", "was killed by SIGKILL"
                    os.kill(worker, signal.SIGKILL)
                    ended = requests
                else:
                    reason, how = ENDS[end]
                    with sent(gunicorn, ("GET", f"/die/{end}")) as last:
                        ended = [*requests, *last]
                        eventually(partial(has_deaths, gunicorn, number + 1))
                eventually(partial(has_deaths, gunicorn, number + 1))
            line = deaths(gunicorn)[-1]
            assert (line.pid, line.how) == (worker, how)
            for request in ended[:5]:
                assert f"{request.method} {request.path} for " in line.answering
                assert request.trace in line.answering
            assert (f"and {len(ended) - 5} more" in line.answering) == (len(ended) > 5)
            counts = expected(ended, reason, counts)
            eventually(partial(aborted, gunicorn), equals=counts)
            newest = overview(gunicorn)["deaths"][0]
            assert (newest["pid"], newest["reason"]) == (worker, reason)
            assert len(newest["requests"]) + newest["more"] == len(ended)
            assert {request["trace"] for request in newest["requests"]} <= {request.trace for request in ended}
            eventually(partial(has_another_worker, gunicorn, worker))
        assert len(overview(gunicorn)["deaths"]) == min(DEATHS, 50)
        page = scrape(gunicorn.metrics_url)
        assert page.sum("gunicorn_worker_requests_total") == sum(counts.values())


@pytest.mark.parametrize("kind", kinds(), ids=str)
def test_a_timeout_tells_where_the_worker_hung(kind: Kind) -> None:
    """Python can still run, in the thread or task that has the request."""
    if kind.worker in ("ThreadWorker", "TornadoWorker"):
        pytest.skip("the application runs in a thread, which does not keep this worker from its signs of life")
    with started(kind, timeout=2) as gunicorn:
        with sent(gunicorn, ("GET", "/spin")) as requests:
            eventually(lambda: len(deaths(gunicorn)) == 1)
        (line,) = deaths(gunicorn)
        assert "(timeout of 2 s)" in line.how
        assert "GET /spin for " in line.answering
        assert requests[0].trace in line.answering
        assert line.answering.endswith("; it was in")
        (death,) = overview(gunicorn)["deaths"]
        assert death["reason"] == "abort"
        assert death["stack"][-1].endswith("in spin")
        assert len(death["stack"]) <= 30
        eventually(lambda: aborted(gunicorn) == {("GET", "/spin", "abort"): 1})


@pytest.mark.parametrize("kind", kinds(), ids=str)
def test_a_worker_that_hangs_in_c_is_seen_while_it_hangs(kind: Kind) -> None:
    """No Python code of the worker can run: the exporter reads its memory."""
    with started(kind) as gunicorn, sent(gunicorn, ("GET", "/block")) as requests:
        begin = time.monotonic()
        all_in_progress(gunicorn, requests)
        assert time.monotonic() - begin < 5  # a second, and the time that a busy machine may take
        (running,) = overview(gunicorn)["requests"]
        assert running["age"] > 0
        assert running["pid"] == gunicorn.worker_pids()[0]
        age = eventually(lambda: scrape(gunicorn.metrics_url).value("gunicorn_http_longest_request_seconds") or False)
        eventually(lambda: scrape(gunicorn.metrics_url).value("gunicorn_http_longest_request_seconds") > age)
        os.kill(gunicorn.worker_pids()[0], signal.SIGKILL)
        eventually(lambda: len(deaths(gunicorn)) == 1)
