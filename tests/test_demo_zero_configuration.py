"""One flag is enough: `gunicorn -k gunicorn_prometheus_exporter.PrometheusWorker app:app`, without configuration."""

import subprocess
import sys
import urllib.error
from collections.abc import Sequence
from pathlib import Path

import pytest

from harness import Gunicorn, Scrape, Venv, eventually, own_network, scrape
from harness.gunicorn import WORKER
from harness.paths import VENVS, wheel

WORKER_FAMILIES = {
    "gunicorn_worker_requests": "counter",
    "gunicorn_worker_request_duration_seconds": "histogram",
    "gunicorn_worker_request_size_bytes": "histogram",
    "gunicorn_worker_response_size_bytes": "histogram",
    "gunicorn_worker_failed_requests": "counter",
    "gunicorn_worker_error_handling": "counter",
    "gunicorn_worker_memory_bytes": "gauge",
    "gunicorn_worker_cpu_percent": "gauge",
    "gunicorn_worker_uptime_seconds": "gauge",
    "gunicorn_worker_state": "gauge",
}


class BareGunicorn(Gunicorn):
    """Runs exactly the command of the documentation, in a directory that contains only the application."""

    def command(self) -> Sequence[str | Path]:
        """No configuration file, no bind address, no number of workers."""
        return [self.venv.bin / "gunicorn", "-k", WORKER, "app:app"]


@pytest.fixture(scope="module")
def empty_venv(tmp_path_factory: pytest.TempPathFactory) -> Venv:
    """A new environment into which pip installed only the built wheel and its dependencies."""
    directory = tmp_path_factory.mktemp("empty") / "venv"
    subprocess.run([sys.executable, "-m", "venv", directory], check=True)
    venv = Venv(str(directory))
    venv.run("-m", "pip", "install", "--quiet", "--no-index", f"--find-links={VENVS / 'wheelhouse'}", str(wheel()))
    return venv


def test_one_flag_gives_every_family_with_samples(empty_venv: Venv) -> None:
    """The application fails once and answers three times; every documented family has a sample."""
    with own_network():
        gunicorn = BareGunicorn(venv=empty_venv)
        for variable in ("PROMETHEUS_METRICS_PORT", "PROMETHEUS_BIND_ADDRESS"):
            del gunicorn.environment[variable]
        gunicorn.port, gunicorn.metrics_port = 8000, 9091
        (gunicorn.directory / "app.py").write_text((Path(__file__).parent / "apps" / "plain.py").read_text())
        with gunicorn:
            for _ in range(3):
                assert gunicorn.get("/order").status == 200
            assert gunicorn.get("/boom").status == 500

            page = eventually(lambda: _complete(gunicorn.metrics_url))

            assert {name: page.families[name].type for name in WORKER_FAMILIES} == WORKER_FAMILIES
            assert all(page.families[name].samples for name in WORKER_FAMILIES)
            assert page.value("gunicorn_worker_state", state="running") == 1
            assert page.value("gunicorn_worker_memory_bytes") > 1_000_000
            assert page.value("gunicorn_worker_failed_requests_total", error_type="ValueError") == 1
            assert page.value("gunicorn_worker_error_handling_total", error_type="ValueError") == 1
            assert page.value("shop_orders_total", kind="book") == 3
            assert page.value("shop_order_seconds_count") == 3
            with pytest.raises(urllib.error.HTTPError, match="404"):
                scrape(f"http://127.0.0.1:{gunicorn.metrics_port}/nothing")


def _complete(url: str) -> Scrape:
    page = scrape(url)
    assert page.value("gunicorn_worker_requests_total") == 4
    missing = WORKER_FAMILIES.keys() - page.families.keys()
    assert not missing, f"missing: {missing}"
    return page
