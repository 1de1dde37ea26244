"""The README of the original package: its images, its sidecar manifest and its queries work as it has them."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from harness import Exporter, Gunicorn, Load, Prometheus, RedisServer, eventually, own_network, scrape
from harness.paths import EXPORTER, ROOT, built
from harness.prometheus import prometheus_3

SHOP = ROOT / "examples" / "flask_app"
NOTHING = "there is nothing to serve yet: REDIS_HOST names a Redis"


class Container(Exporter):
    """The exporter's image: no command word, so the environment decides."""

    def command(self) -> Sequence[str | Path]:
        """The entry point alone."""
        return [built(EXPORTER), *self.arguments]


def _ask(exporter: Exporter, path: str, accept: str = "*/*") -> tuple[int, str]:
    done = subprocess.run(
        ["curl", "-s", "-H", f"Accept: {accept}", "-w", "\n%{http_code}", f"{exporter.url}{path}"],
        capture_output=True,
        text=True,
        check=True,
    )
    body, _, status = done.stdout.rpartition("\n")
    return int(status), body


def _health(exporter: Exporter) -> subprocess.CompletedProcess[str]:
    command: list[str | Path] = [built(EXPORTER), "health"]
    return subprocess.run(command, env=exporter.environment, capture_output=True, text=True, check=False, timeout=30)


def test_a_container_without_any_setting_answers_and_says_what_to_do() -> None:
    """`docker run --rm -p 9091:9091 IMAGE`: a valid page; healthy, but neither ready nor able to serve."""
    with Container() as exporter:
        assert scrape(exporter.metrics_url).all_samples == []
        status, page = _ask(exporter, "/", "text/html")
        assert status == 200
        assert "There is nothing to serve yet: REDIS_HOST" in page
        assert "PROMETHEUS_MULTIPROC_DIR" in page
        assert _ask(exporter, "/healthz") == (200, "ok\n")
        status, line = _ask(exporter, "/readyz")
        assert (status, line.startswith(NOTHING)) == (503, True)
        asked = _health(exporter)
        assert asked.returncode == 1
        assert NOTHING in asked.stderr
        assert exporter.log.count("WARN") == 1
        assert exporter.stop() == 0


def test_a_container_with_a_redis_serves_what_applications_share() -> None:
    """REDIS_HOST is enough: a container without an application has no other use for it."""
    with RedisServer(tcp=True) as redis, Gunicorn(redis=redis) as gunicorn:
        gunicorn.get("/order")
        environment = {"REDIS_HOST": "127.0.0.1", "REDIS_PORT": str(redis.port)}
        with Container(environment=environment) as exporter:
            eventually(lambda: scrape(exporter.metrics_url).sum("gunicorn_worker_requests_total"), equals=1)
            assert _health(exporter).returncode == 0
            redis.stop()
            eventually(lambda: _health(exporter).returncode, equals=1)
            assert "cannot be reached" in _health(exporter).stderr
            assert _ask(exporter, "/healthz")[0] == 200


def test_a_container_with_a_directory_reads_it_and_says_what_a_redis_would_need(tmp_path: Path) -> None:
    environment = {"REDIS_HOST": "cache.internal", "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    with Container(environment=environment) as exporter:
        assert _health(exporter).returncode == 0
        assert "REDIS_HOST is set and REDIS_ENABLED is not, so the metrics are not shared" in exporter.log
        assert f"serving {tmp_path}" in exporter.log


@contextlib.contextmanager
def _pod(directory: Path, first: str) -> Iterator[tuple[Gunicorn, Container]]:
    """The containers of the manifest: one network, so one port 9091, and one directory."""
    shared = {"PROMETHEUS_MULTIPROC_DIR": str(directory), "PROMETHEUS_METRICS_PORT": "9091"}
    with own_network():
        app = Gunicorn("shop:app", workers=4, environment=shared, app_directory=SHOP)
        sidecar = Container(environment={**shared, "PROMETHEUS_BIND_ADDRESS": "0.0.0.0"})
        app.metrics_port = sidecar.port = 9091
        order = (app, sidecar) if first == "app" else (sidecar, app)
        with order[0], order[1]:
            yield app, sidecar


@pytest.mark.parametrize("first", ["app", "sidecar"])
def test_the_sidecar_manifest_works_as_it_stands(first: str, tmp_path: Path) -> None:
    """Whichever container starts first; also when the application's container starts again. No line is an error."""

    def requests() -> float:
        return scrape("http://127.0.0.1:9091/metrics").sum("gunicorn_worker_requests_total")

    with _pod(tmp_path, first) as (app, sidecar):
        for _ in range(10):
            app.get("/books/1")
        eventually(requests, equals=10)
        assert _ask(sidecar, "/readyz") == (200, "ready\n")
        assert _health(sidecar).returncode == 0
        app.stop()
        app.start()
        app.get("/")
        eventually(requests, equals=11)
        assert _health(sidecar).returncode == 0
        for log in (app.log, sidecar.log):
            assert "ERROR" not in log
            # For each of the two starts: the port is the sidecar's, and so is the directory.
            assert log.count("WARN") <= 4, log


# In the order of the README. It writes the two counters of errors without `_total`.
QUERIES = (
    "sum(gunicorn_worker_requests_total)",
    "rate(gunicorn_worker_request_duration_seconds_sum[5m]) / rate(gunicorn_worker_request_duration_seconds_count[5m])",
    "gunicorn_worker_memory_bytes",
    "gunicorn_worker_cpu_percent",
    "sum by (endpoint) (rate(gunicorn_worker_failed_requests[5m]))",
    "sum by (worker_id) (rate(gunicorn_worker_error_handling[5m]))",
    "sum by (reason) (rate(gunicorn_master_worker_restart_total[5m]))",
    "sum by (worker_id) (rate(gunicorn_worker_restart_total[5m]))",
    "histogram_quantile(0.95, rate(gunicorn_worker_request_size_bytes_bucket[5m]))",
    "histogram_quantile(0.99, rate(gunicorn_worker_request_duration_seconds_bucket[5m]))",
)


def test_every_query_of_the_readme_returns_numbers() -> None:
    """With deploy/prometheus/original-names.yml, in the newest Prometheus."""
    rules = [ROOT / "deploy" / "prometheus" / "original-names.yml"]
    with Gunicorn("shop:app", workers=2, app_directory=SHOP) as gunicorn:
        target = {"shop": [f"127.0.0.1:{gunicorn.metrics_port}"]}
        gunicorn.get("/broken")
        with Prometheus(target, rules=rules, binary=prometheus_3()) as prometheus:
            eventually(lambda: prometheus.value('up{job="shop"}'), equals=1)
            gunicorn.kill_worker(gunicorn.worker_pids()[0])
            os.kill(gunicorn.pid, signal.SIGHUP)
            with Load([gunicorn.port], ["/", "/books/1", "/broken"], clients=1):
                for query in QUERIES:
                    eventually(lambda query=query: _numbers(prometheus, query), within=60)  # type: ignore[misc]


def _numbers(prometheus: Prometheus, query: str) -> list[float]:
    numbers = [float(element["value"][1]) for element in prometheus.query(query)]
    assert any(number == number for number in numbers), f"no number: {query}"
    return numbers


def test_the_names_without_total_are_those_of_the_readme() -> None:
    """The rules have no other names, and promtool accepts them."""
    rules = ROOT / "deploy" / "prometheus" / "original-names.yml"
    subprocess.run(["promtool", "check", "rules", rules], check=True, capture_output=True)
    for name in ("gunicorn_worker_failed_requests", "gunicorn_worker_error_handling"):
        assert f"record: {name}\n        expr: {name}_total\n" in rules.read_text()
        assert any(name in query for query in QUERIES)
