"""All uses in prometheus_client's documentation work across processes, on its oldest, a middle and newest version."""

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from harness import Gunicorn, Scrape, Venv, eventually, scrape
from harness.ports import free_port
from harness.scrape import OPENMETRICS

VERSIONS = ("0.19", "0.22", "newest")
TEXT = "text/plain"
REQUESTS = 12


@pytest.mark.parametrize("version", VERSIONS)
def test_everyday_use_of_prometheus_client_is_exact(version: str) -> None:
    """Decorators, timers, exceptions, namespaces, removals, and its own pages; exact over two workers."""
    with Gunicorn("apps.everyday:app", workers=2, venv=Venv.prometheus_client(version)) as gunicorn:
        for _ in range(REQUESTS):
            assert gunicorn.get("/work").status == 200
        eventually(lambda: scrape(gunicorn.metrics_url).sum("gunicorn_worker_requests_total"), equals=REQUESTS)
        seen = scrape(gunicorn.metrics_url, accept=OPENMETRICS)
        assert seen.value("shop_front_day_calls_total", kind="work") == 2.5 * REQUESTS
        assert seen.value("day_failures_total") == REQUESTS
        assert (seen.value("day_parallel"), seen.value("day_peak")) == (0, 1)
        assert seen.value("day_waited_seconds_count") == REQUESTS
        assert seen.value("day_lasted_seconds_bucket", part="inner", le="0.5") == REQUESTS
        bounds = ("1.0", "10.0", "100.0", "+Inf")
        assert [seen.value("day_sizes_bucket", le=le) / REQUESTS for le in bounds] == [2, 2, 3, 4]
        assert seen.value("day_sizes_sum") == 1051.5 * REQUESTS
        assert seen.samples("day_jobs_total") == [], "it is in a registry of the application's own"
        own: dict[str, float] = {}
        eventually(lambda: _jobs_of_both(gunicorn, own), equals=REQUESTS)
        for _ in range(4):
            restricted = Scrape(gunicorn.get("/restricted").body.decode(), TEXT)
            assert {sample.name for sample in restricted.all_samples} == {"day_sizes_count", "day_failures_total"}
            assert restricted.value("day_sizes_count") == 4 * REQUESTS
        gunicorn.get("/series")
        eventually(lambda: scrape(gunicorn.metrics_url).value("shop_front_day_calls_total", kind="2"), equals=1)


def _jobs_of_both(gunicorn: Gunicorn, own: dict[str, float]) -> float:
    """Adds up the values of a private registry, which shows only those of the process that answers."""
    page = gunicorn.get("/textfile").body.decode()
    own[page.rpartition("# pid ")[2]] = Scrape(page, TEXT).value("day_jobs_total")
    return sum(own.values())


@pytest.mark.parametrize("version", VERSIONS)
def test_an_applications_own_metrics_server_shows_all_processes(version: str) -> None:
    """`start_http_server` in one worker, as an existing application may have it."""
    port = free_port()
    config = (
        "def post_worker_init(worker):\n"
        "    import prometheus_client\n"
        f"    if worker.age == 1: prometheus_client.start_http_server({port}, '127.0.0.1')\n"
    )
    venv = Venv.prometheus_client(version)
    with Gunicorn("apps.everyday:app", workers=2, venv=venv, config=config) as gunicorn:
        for _ in range(REQUESTS):
            gunicorn.get("/work")
        own = f"http://127.0.0.1:{port}/metrics"
        eventually(lambda: scrape(own).value("day_failures_total"), equals=REQUESTS)


@pytest.mark.parametrize("version", VERSIONS)
def test_existing_hooks_and_pushes_to_a_gateway_still_work(version: str) -> None:
    """`mark_process_dead` in `child_exit`, as prometheus_client's documentation says, and `push_to_gateway`."""
    config = (
        "from prometheus_client import multiprocess\n"
        "def child_exit(server, worker):\n"
        "    multiprocess.mark_process_dead(worker.pid)\n"
    )
    venv = Venv.prometheus_client(version)
    with Gateway() as gateway, Gunicorn("apps.everyday:app", workers=2, venv=venv, config=config) as gunicorn:
        for _ in range(REQUESTS):
            gunicorn.get("/work")
        gunicorn.kill_worker(gunicorn.worker_pids()[0])
        kill = {"reason": "kill"}
        eventually(lambda: scrape(gunicorn.metrics_url).sum("gunicorn_worker_restart_total", **kill), equals=1)
        assert scrape(gunicorn.metrics_url).value("day_failures_total") == REQUESTS
        assert "Traceback" not in gunicorn.log
        counted = float(gunicorn.get(f"/push?127.0.0.1:{gateway.server_port}").body)
        assert Scrape(gateway.pushed.decode(), TEXT).value("day_jobs_total") == counted


class Gateway(HTTPServer):
    """Keeps the last push."""

    pushed = b""

    def __init__(self) -> None:
        """Listens on a free port."""
        super().__init__(("127.0.0.1", 0), Receiver)
        self.thread = threading.Thread(target=self.serve_forever, daemon=True)

    def __enter__(self) -> "Gateway":
        """Starts to listen."""
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Closes the socket and ends the thread."""
        self.shutdown()
        self.thread.join()
        self.server_close()


class Receiver(BaseHTTPRequestHandler):
    """Receives a page."""

    def do_PUT(self) -> None:
        """Answers as a Pushgateway does."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert isinstance(self.server, Gateway)
        self.server.pushed = body
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Writes no log."""
