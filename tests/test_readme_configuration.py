"""The two configurations of the original package's README work unchanged."""

import fcntl
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import Gunicorn, Venv, eventually, own_network, scrape
from harness.venvs import GUNICORN_VERSIONS

YAML = """\
exporter:
  prometheus:
    metrics_port: 9091
    bind_address: "0.0.0.0"
    multiproc_dir: "/tmp/prometheus_multiproc"
  gunicorn:
    workers: 2
    timeout: 30
    keepalive: 2
  redis:
    enabled: false
  ssl:
    enabled: false
  cleanup:
    db_files: true
"""

WITH_YAML = """\
from gunicorn_prometheus_exporter import load_yaml_config

# Load YAML configuration
load_yaml_config("gunicorn-prometheus-exporter.yml")

# Import hooks after loading YAML config
from gunicorn_prometheus_exporter.hooks import (
    default_when_ready,
    default_on_starting,
    default_worker_int,
    default_on_exit,
    default_post_fork,
)

# Gunicorn settings
bind = "0.0.0.0:8000"
workers = 2
worker_class = "gunicorn_prometheus_exporter.PrometheusWorker"

# Use pre-built hooks
when_ready = default_when_ready
on_starting = default_on_starting
worker_int = default_worker_int
on_exit = default_on_exit
post_fork = default_post_fork
"""

WITHOUT_YAML = """\
# Basic configuration
bind = "0.0.0.0:8000"

# Worker configuration based on workload type
# For I/O-bound applications (typical web apps):
workers = 9  # 2 × CPU cores + 1 (classic Gunicorn formula)

# For CPU-bound applications:
# workers = 4  # 1 × CPU cores

# Prometheus exporter worker classes
# Sync workers (blocking I/O) - good for most web applications
worker_class = "gunicorn_prometheus_exporter.PrometheusWorker"

# Async workers (non-blocking I/O) - for high-concurrency apps
# worker_class = "gunicorn_prometheus_exporter.PrometheusEventletWorker"
# worker_connections = 1000  # connections per worker (async only)

# Optional: Custom hooks for advanced setup
def when_ready(server):
    from gunicorn_prometheus_exporter.hooks import default_when_ready
    default_when_ready(server)
"""


class ReadmeGunicorn(Gunicorn):
    """Runs `gunicorn -c gunicorn.conf.py app:app`, without any environment variable of ours."""

    def __init__(self, venv: Venv, config: str, workers: int) -> None:
        """The files are beside each other, as in the README."""
        super().__init__(venv=venv, config=config, workers=workers)
        for variable in ("PROMETHEUS_METRICS_PORT", "PROMETHEUS_BIND_ADDRESS"):
            del self.environment[variable]
        self.port, self.metrics_port = 8000, 9091
        (self.directory / "gunicorn-prometheus-exporter.yml").write_text(YAML)
        (self.directory / "app.py").write_text((Path(__file__).parent / "apps" / "plain.py").read_text())

    def command(self) -> list[str | Path]:
        """The command of the README."""
        return [self.venv.bin / "gunicorn", "-c", "gunicorn.conf.py", "app:app"]


@pytest.fixture
def readme_machine() -> Iterator[None]:
    """The ports and the directory that the README names, for one test at a time."""
    with Path("/tmp/prometheus_multiproc.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        shutil.rmtree("/tmp/prometheus_multiproc", ignore_errors=True)
        with own_network():
            yield
        shutil.rmtree("/tmp/prometheus_multiproc", ignore_errors=True)


@pytest.mark.usefixtures("readme_machine")
@pytest.mark.parametrize(("config", "workers"), [(WITH_YAML, 2), (WITHOUT_YAML, 9)], ids=["with-yaml", "without-yaml"])
@pytest.mark.parametrize("version", GUNICORN_VERSIONS)
def test_the_configurations_of_the_original_readme_work_unchanged(version: str, config: str, workers: int) -> None:
    """Every request is counted, and the page shows every worker."""
    with ReadmeGunicorn(Venv.gunicorn(version), config, workers) as gunicorn:
        for _ in range(30):
            assert gunicorn.get("/order").status == 200
        eventually(lambda: scrape(gunicorn.metrics_url).sum("gunicorn_worker_requests_total"), equals=30)
        # The last of them may still be starting.
        states = "gunicorn_worker_state"
        eventually(lambda: len(scrape(gunicorn.metrics_url).samples(states, state="running")), equals=workers)
        page = scrape(gunicorn.metrics_url)
        assert page.sum("gunicorn_worker_request_duration_seconds_count") == 30
        assert page.value("shop_orders_total") == 30
