"""A gunicorn in a chosen environment, with our worker class."""

import http.client
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from harness.exporter import redis_environment
from harness.paths import TESTS
from harness.ports import free_port
from harness.process import Guard, children
from harness.redis import RedisServer
from harness.venvs import Venv

WORKER = "gunicorn_prometheus_exporter.PrometheusWorker"


class Answer(NamedTuple):
    """One response."""

    status: int
    body: bytes


class Gunicorn(Guard):
    """One instance of an application: an arbiter, its workers and its exporter."""

    name = "gunicorn"

    def __init__(
        self,
        app: str = "apps.plain:app",
        *,
        venv: Venv | None = None,
        workers: int = 1,
        worker_class: str = WORKER,
        config: str = "",
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        redis: RedisServer | None = None,
        app_directory: Path = TESTS,
    ) -> None:
        """`config` is the text of gunicorn.conf.py. Gunicorn imports the application from `app_directory`."""
        self.venv = venv or Venv.default()
        self.port = free_port()
        self.metrics_port = free_port()
        settings = {"PROMETHEUS_METRICS_PORT": str(self.metrics_port), "PROMETHEUS_BIND_ADDRESS": "127.0.0.1"}
        if redis is not None:
            settings |= redis_environment(redis)
        super().__init__(environment={**settings, **(environment or {})})
        self.app = app
        self.workers = workers
        self.worker_class = worker_class
        self.arguments = arguments
        self.app_directory = app_directory
        self.config_path = self.directory / "gunicorn.conf.py"
        self.config_path.write_text(config)

    def command(self) -> Sequence[str | Path]:
        """The command that a user would type."""
        return [
            self.venv.bin / "gunicorn",
            f"--config={self.config_path}",
            f"--bind=127.0.0.1:{self.port}",
            f"--workers={self.workers}",
            f"--worker-class={self.worker_class}",
            f"--pythonpath={self.app_directory}",
            *self.arguments,
            self.app,
        ]

    @property
    def base_url(self) -> str:
        """The address of the application, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def metrics_url(self) -> str:
        """The address of the page of this instance's exporter."""
        return f"http://127.0.0.1:{self.metrics_port}/metrics"

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Sends one request on a new connection; an answer with an error status raises nothing."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            return Answer(response.status, response.read())
        finally:
            connection.close()

    def get(self, path: str = "/") -> Answer:
        """Sends a GET request."""
        return self.request("GET", path)

    def assert_ready(self) -> None:
        """All workers have been forked and the listener accepts. This sends no request, so that none is counted."""
        pids = self.worker_pids()
        assert len(pids) >= self.expected_workers, f"{len(pids)} workers of {self.expected_workers}"
        assert "Booting worker" in self.log, "no worker has booted"

    @property
    def expected_workers(self) -> int:
        """The number of workers when it is ready."""
        return self.workers

    def worker_pids(self) -> list[int]:
        """The process ids of the workers, oldest first."""
        session = os.getsid(self.pid)
        return [child for child in children(self.pid) if _session(child) == session]

    def exporter_pid(self) -> int:
        """The exporter's process: the arbiter's child that leads its own session."""
        found = [child for child in children(self.pid) if _session(child) == child]
        assert len(found) == 1, f"{len(found)} exporter processes, expected one"
        return found[0]

    def kill_worker(self, pid: int) -> None:
        """Sends SIGKILL to one worker."""
        os.kill(pid, signal.SIGKILL)


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None
