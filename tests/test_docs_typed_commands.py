"""Every command of the documentation does what the text beside it says."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from harness import eventually, own_network, scrape
from harness.paths import EXPORTER, ROOT, TARGET, VENVS, built

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
GUNICORN = "gunicorn -k gunicorn_prometheus_exporter.PrometheusWorker app:app"
# Commands that need a whole machine, or a real network.
TYPED_BY_OTHERS = {
    "make demo": "tests/test_demo.py",
    "make test": ".ci/run",
    "docker-compose up --build": "scripts/docker-smoke",
    "helm install metrics deploy/helm --set app.image=registry.example.com/shop:2.4.1": "tests/test_deploy_helm.py",
    "promtool test rules deploy/prometheus/rules.test.yml": "tests/test_deploy_prometheus.py",
}
PAGE = "http://127.0.0.1:9091/metrics"
APPLICATION = "http://127.0.0.1:8000/order"


def commands() -> set[str]:
    """Returns the commands of indented blocks, without their comments."""
    found = set()
    for page in PAGES:
        text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
        found |= {line.split("  #")[0].strip() for line in re.findall(r"^    (\S.*)$", text, re.MULTILINE)}
    return found


class Shell:
    """A user's shell, in a directory with the application and the results of `make build`, and without a network."""

    def __init__(self, directory: Path) -> None:
        """Makes a Python environment in which nothing is installed."""
        self.directory = directory
        self.typed: set[str] = set()
        (directory / "target").symlink_to(TARGET)
        shutil.copy(ROOT / "tests" / "apps" / "plain.py", directory / "app.py")
        subprocess.run([sys.executable, "-m", "venv", directory / "venv"], check=True)
        path = f"{directory / 'venv' / 'bin'}:{built(EXPORTER).parent}:{os.environ['PATH']}"
        self.environment = {
            "PATH": path,
            "HOME": str(directory),
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(VENVS / "wheelhouse"),
        }

    def run(self, line: str) -> str:
        """Runs a command that ends; returns its output."""
        done = subprocess.run(
            self._words(line), cwd=self.directory, env=self.environment, capture_output=True, timeout=120
        )
        assert done.returncode == 0, (line, done.stderr.decode())
        return done.stdout.decode()

    @contextmanager
    def running(self, line: str) -> Iterator[None]:
        """Runs a server, sends SIGTERM, and expects that it ends without an error."""
        with (self.directory / "log").open("ab") as log:
            process = subprocess.Popen(
                self._words(line),
                cwd=self.directory,
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            try:
                yield
                process.send_signal(signal.SIGTERM)
                assert process.wait(30) == 0, (line, (self.directory / "log").read_text())
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()

    def _words(self, line: str) -> list[str]:
        self.typed.add(line)
        # The documentation names one host, which is this machine here.
        return ["bash", "-c", f"exec env {line}".replace("redis.internal", "127.0.0.1")]


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A shell on the default ports."""
    with own_network():
        yield Shell(tmp_path_factory.mktemp("typed"))


def test_each_command_of_the_documentation_is_typed_and_does_its_work(shell: Shell) -> None:
    shell.run("pip install target/wheels/*.whl")
    _without_configuration(shell)
    _with_redis(shell, "redis-server --loadmodule target/release/libredis_metrics.so")
    _with_redis(shell, "redis-server --loadmodule ./target/release/libredis_metrics.so")
    _with_a_sidecar(shell)
    (shell.directory / "exporter.yml").write_text(_yaml_of_the_documentation())
    assert "gunicorn-prometheus-exporter" in shell.run("gunicorn-prometheus-exporter --version")
    said = shell.run("gunicorn-prometheus-exporter check-config --config exporter.yml")
    assert "metrics_port: 9100" in said
    for line, by in TYPED_BY_OTHERS.items():
        assert (ROOT / by).exists(), f"{line} is typed by {by}, which is not there"
    assert commands() - shell.typed == set(TYPED_BY_OTHERS)


def _without_configuration(shell: Shell) -> None:
    with shell.running(GUNICORN):
        _order_one()
        eventually(lambda: "shop_orders_total" in shell.run(f"curl {PAGE}"))
        assert scrape(PAGE).sum("gunicorn_worker_requests_total") == 1


def _with_redis(shell: Shell, server: str) -> None:
    exporters = [
        "REDIS_HOST=redis.internal python -m gunicorn_prometheus_exporter standalone",
        "REDIS_HOST=redis.internal gunicorn-prometheus-exporter standalone",
    ]
    with shell.running(server):
        with shell.running(f"REDIS_ENABLED=true REDIS_HOST=redis.internal {GUNICORN}"):
            _order_one()
            eventually(lambda: scrape(PAGE).sum("shop_orders_total"), equals=1)
        for exporter in exporters:
            with shell.running(exporter):
                eventually(lambda: scrape(PAGE).sum("shop_orders_total"), equals=1)
        assert shell.run("redis-cli METRICS.INC gunicorn:metrics deploys LABELS 1 version 2.4.1") == "1\n"
        page = shell.run("redis-cli METRICS.EXPOSE gunicorn:metrics")
        assert 'deploys_total{version="2.4.1"} 1' in page
    # With its default configuration the server has saved its data.
    (shell.directory / "dump.rdb").unlink()


def _with_a_sidecar(shell: Shell) -> None:
    directory = shell.directory / "stores"
    directory.mkdir()
    shell.typed.add("export PROMETHEUS_MULTIPROC_DIR=$(mktemp -d)")
    shell.environment["PROMETHEUS_MULTIPROC_DIR"] = str(directory)
    with ExitStack() as stack:
        stack.enter_context(shell.running("target/release/gunicorn-prometheus-exporter sidecar"))
        stack.enter_context(shell.running(f"SIDECAR_MODE=true {GUNICORN}"))
        _order_one()
        eventually(lambda: scrape(PAGE).sum("shop_orders_total"), equals=1)
    del shell.environment["PROMETHEUS_MULTIPROC_DIR"]


def _order_one() -> None:
    eventually(lambda: subprocess.run(["curl", "--silent", "--fail", APPLICATION], capture_output=True).returncode == 0)


def _yaml_of_the_documentation() -> str:
    [yaml] = re.findall(
        r"^```yaml\n(.*?)^```", (ROOT / "docs" / "configuration.md").read_text(), re.MULTILINE | re.DOTALL
    )
    return str(yaml)
