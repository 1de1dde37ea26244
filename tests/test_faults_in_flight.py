"""The death of a worker: the error log, the metric and `/requests` name exactly the requests that it was answering."""

import contextlib
import os
import random
import signal
import threading
from functools import partial

import pytest

from harness import Gunicorn, Venv, eventually, scrape
from harness.http2 import Http2Client, Http2Request
from harness.in_flight import Sent, all_in_progress, deaths, overview, sent, traces_in_progress
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
        all_in_progress(gunicorn, requests)
        (running,) = overview(gunicorn)["requests"]
        assert running["age"] > 0
        assert running["pid"] == gunicorn.worker_pids()[0]
        age = eventually(lambda: scrape(gunicorn.metrics_url).value("gunicorn_http_longest_request_seconds") or False)
        eventually(lambda: scrape(gunicorn.metrics_url).value("gunicorn_http_longest_request_seconds") > age)
        os.kill(gunicorn.worker_pids()[0], signal.SIGKILL)
        eventually(lambda: len(deaths(gunicorn)) == 1)


@pytest.mark.parametrize("kind", kinds()[:2], ids=str)
def test_an_exporter_that_is_killed_meanwhile_changes_nothing(kind: Kind) -> None:
    """Once it is killed with the worker, once after it has read the worker's last values and given up its store."""
    with started(kind) as gunicorn:
        for number in range(2):
            (worker,) = gunicorn.worker_pids()
            with sent(gunicorn, ("GET", "/wait/1")) as requests:
                all_in_progress(gunicorn, requests)
                exporter = gunicorn.exporter_pid()
                os.kill(gunicorn.pid, signal.SIGSTOP)
                os.kill(worker, signal.SIGKILL)
                if number == 1:
                    counted = partial(_requests, gunicorn)
                    eventually(counted, equals=number + 1)
                os.kill(exporter, signal.SIGKILL)
                os.kill(gunicorn.pid, signal.SIGCONT)
                eventually(partial(has_deaths, gunicorn, number + 1))
            assert requests[0].trace in deaths(gunicorn)[-1].answering
            eventually(partial(aborted, gunicorn), equals={("GET", "/wait/1", "kill"): number + 1})
            assert _requests(gunicorn) == number + 1
            assert overview(gunicorn)["deaths"][0]["pid"] == worker
            eventually(partial(has_another_worker, gunicorn, worker))
        assert has_deaths(gunicorn, 2)


def _requests(gunicorn: Gunicorn) -> float:
    return scrape(gunicorn.metrics_url).sum("gunicorn_worker_requests_total")


def test_a_stopped_worker_is_seen_and_ends_without_a_line() -> None:
    """SIGSTOP: the request grows old on the page. When it has been answered, an orderly end is no news."""
    with started(kinds()[1]) as gunicorn:
        (worker,) = gunicorn.worker_pids()
        with sent(gunicorn, ("GET", "/wait/1")) as requests:
            all_in_progress(gunicorn, requests)
            os.kill(worker, signal.SIGSTOP)
            ages = [overview(gunicorn)["requests"][0]["age"]]
            eventually(lambda: overview(gunicorn)["requests"][0]["age"] > ages[0] + 0.5)
            longest = scrape(gunicorn.metrics_url).value("gunicorn_http_longest_request_seconds")
            assert longest > ages[0] + 0.5
            os.kill(worker, signal.SIGKILL)
            eventually(partial(has_deaths, gunicorn, 1))
        eventually(partial(has_another_worker, gunicorn, worker))
        assert gunicorn.get("/").status == 200
        gunicorn.send(signal.SIGHUP)
        eventually(lambda: gunicorn.log.count("Worker exiting") == 1)
        assert has_deaths(gunicorn, 1)


@pytest.mark.parametrize(("shows", "endpoint"), [("endpoint", "<other>"), ("path", "/wait/reset-token"), ("off", None)])
def test_the_setting_decides_what_is_shown(shows: str, endpoint: str | None) -> None:
    """Never the query. The death of a worker makes its path an endpoint where that may be."""
    with started(
        kinds()[0], GUNICORN_EXPORTER_HTTP_IN_FLIGHT=shows, GUNICORN_EXPORTER_HTTP_ENDPOINT_LIMIT="0"
    ) as gunicorn:
        with sent(gunicorn, ("GET", "/wait/reset-token?password=secret")):
            longest = "gunicorn_http_longest_request_seconds"
            eventually(lambda: scrape(gunicorn.metrics_url).value(longest) > 0)
            if endpoint is None:
                with pytest.raises(OSError, match="404"):
                    overview(gunicorn)
            else:
                (request,) = overview(gunicorn)["requests"]
                assert request["endpoint"] == endpoint
            gunicorn.kill_worker(gunicorn.worker_pids()[0])
            eventually(partial(has_deaths, gunicorn, 1))
        answering = deaths(gunicorn)[0].answering
        assert answering == "1 request" if endpoint is None else answering.startswith(f"GET {endpoint} for ")
        assert "secret" not in gunicorn.log
        eventually(partial(aborted, gunicorn), equals={("GET", "<other>", "kill"): 1})


FRAMEWORKS = {
    "flask": ("PrometheusWorker", "/orders/<int:order>/wait"),
    "django": ("PrometheusThreadWorker", "/orders/<int:order>/wait"),
    "bottle": ("PrometheusGeventWorker", "/orders/<order:int>/wait"),
    "pyramid": ("PrometheusWorker", "/orders/{order}/wait"),
    "falcon": ("PrometheusWorker", "/orders/{order}/wait"),
    "fastapi": ("PrometheusUvicornWorker", "/orders/{order}/wait"),
    "starlette": ("PrometheusASGIWorker", "/orders/{order}/wait"),
    "quart": ("PrometheusUvicornWorker", "/orders/<int:order>/wait"),
    "tornado": ("PrometheusTornadoWorker", "/orders/([0-9]+)/wait"),
}


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_route_is_shown_as_soon_as_it_has_matched(framework: str) -> None:
    """While the handler runs."""
    worker, template = FRAMEWORKS[framework]
    with Gunicorn(
        f"apps.routes_in_flight:{framework}()",
        venv=Venv.frameworks(),
        worker_class=f"gunicorn_prometheus_exporter.{worker}",
        arguments=["--graceful-timeout=1"],
    ) as gunicorn:
        with sent(gunicorn, ("GET", "/orders/17/wait")) as requests:
            all_in_progress(gunicorn, requests)
            eventually(lambda: overview(gunicorn)["requests"][0]["endpoint"], equals=template)
            gunicorn.kill_worker(gunicorn.worker_pids()[0])
            eventually(partial(has_deaths, gunicorn, 1))
        eventually(partial(aborted, gunicorn), equals={("GET", template, "kill"): 1})


def test_streams_of_http2_are_requests_of_their_own() -> None:
    """Each stream has a place in the table."""
    arguments = ["--http-protocols=h2,h1", "--http2-cleartext=prior-knowledge", "--graceful-timeout=1"]
    worker = "gunicorn_prometheus_exporter.PrometheusASGIWorker"
    with Gunicorn("apps.hanging_asgi:app", worker_class=worker, arguments=arguments) as gunicorn:
        client = Http2Client(gunicorn.port)
        asking = threading.Thread(target=_ignoring_its_end, args=(client, 7), daemon=True)
        asking.start()
        eventually(lambda: len(overview(gunicorn)["requests"]), equals=7)
        gunicorn.kill_worker(gunicorn.worker_pids()[0])
        eventually(partial(has_deaths, gunicorn, 1))
        assert deaths(gunicorn)[0].answering.startswith("7 requests: ")
        asking.join(30)
        client.close()


def _ignoring_its_end(client: Http2Client, streams: int) -> None:
    with contextlib.suppress(Exception):
        client.ask(*[Http2Request("/wait/1")] * streams)


@pytest.mark.parametrize("worker", ["TornadoWorker", "UvicornWorker", "ASGIWorker", "GeventWorker"])
def test_a_request_that_has_ended_leaves_the_table(worker: str) -> None:
    """Answered, or abandoned by its client."""
    kind = Kind(worker, "frameworks")
    app = "apps.shapes_asgi:app" if kind.is_asgi else "apps.shapes:app"
    with Gunicorn(app, venv=Venv(kind.venv), worker_class=kind.worker_class) as gunicorn:
        for _ in range(50):
            gunicorn.get("/")
        if worker != "TornadoWorker":  # it collects a WSGI response before it sends any of it
            with sent(gunicorn, ("GET", "/endless")) as requests:
                all_in_progress(gunicorn, requests)
        eventually(partial(traces_in_progress, gunicorn), equals=set())


def test_deaths_survive_an_upgrade() -> None:
    """USR2: the next arbiter has the control memory of the one before."""
    with started(kinds()[1]) as gunicorn:
        (worker,) = gunicorn.worker_pids()
        with sent(gunicorn, ("GET", "/wait/1")) as requests:
            all_in_progress(gunicorn, requests)
            gunicorn.kill_worker(worker)
            eventually(partial(has_deaths, gunicorn, 1))
        eventually(partial(has_another_worker, gunicorn, worker))
        gunicorn.send(signal.SIGUSR2)
        eventually(lambda: gunicorn.log.count("Starting gunicorn") == 2)
        eventually(lambda: [death["pid"] for death in overview(gunicorn)["deaths"]], equals=[worker])
