"""Gunicorn that begins again under the process ids of the one before, as in a container that restarts."""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from harness import Gunicorn, RedisServer, Scrape, eventually, scrape
from harness.process import children

REQUESTS = "gunicorn_worker_requests_total"
# The worker has the id 5000 after each start, whatever threads have taken others before it.
CONFIG = """
# Its thread begins anew with each worker, and would take the worker's id.
control_socket_disable = True

def pre_fork(server, worker):
    with open("/proc/sys/kernel/ns_last_pid", "w") as file:
        file.write("4999")
"""
NAMESPACE = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]


def may_make_namespaces() -> bool:
    """Returns whether this user and machine can start processes with ids of their own."""
    if shutil.which("unshare") is None:
        return False
    return (
        subprocess.run(
            [*NAMESPACE, "sh", "-c", "echo 4999 >/proc/sys/kernel/ns_last_pid"], capture_output=True, check=False
        ).returncode
        == 0
    )


pytestmark = pytest.mark.skipif(
    not may_make_namespaces(), reason="this machine lets us make no namespaces of processes"
)


class Contained(Gunicorn):
    """A gunicorn that has the process id 1, and its workers and its exporter the same ids after each start."""

    def command(self) -> Sequence[str | Path]:
        """The usual command, in a namespace of its own."""
        return [*NAMESPACE, *super().command()]

    @property
    def pid(self) -> int:
        """The arbiter's id, as seen from here."""
        assert self.process is not None
        found = children(self.process.pid)
        assert len(found) == 1, found
        return found[0]

    def stop(self, *, patience: float = 15.0) -> int:
        """Ends the arbiter, and the namespace with it."""
        if self.process is not None and children(self.process.pid):
            os.kill(self.pid, signal.SIGTERM)
            self.process.wait(patience)
        return super().stop(patience=patience)


def id_inside(pid: int) -> int:
    """Returns the id that a process has in its own namespace."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[-1]) for line in status.splitlines() if line.startswith("NSpid:"))


def values(page: Scrape, mode: str) -> dict[str, float]:
    """Returns the values of the gauge by their label `pid`; each pid is there once."""
    samples = page.samples("jobs")
    found = {sample.labels.get("pid", mode): sample.value for sample in samples}
    assert len(found) == len(samples), samples
    return found


@pytest.mark.parametrize("end", ["stop", "kill"])
@pytest.mark.parametrize("mode", ["all", "liveall", "max", "livesum", "mostrecent"])
def test_counters_go_on_and_gauges_are_there_once(redis: RedisServer, tmp_path: Path, mode: str, end: str) -> None:
    """The new process has its predecessor's ids, and its value replaces the old one."""
    declaration = {"type": "gauge", "help": "Jobs", "multiprocess_mode": mode}
    (tmp_path / "declaration.json").write_text(json.dumps(declaration))
    settings = {"DECLARED_FOLDER": str(tmp_path), "GUNICORN_EXPORTER_INSTANCE": "shop"}
    names = {"shop:5000"} if mode in ("all", "liveall") else {mode}
    with Contained("apps.declared:app", environment=settings, redis=redis, config=CONFIG) as gunicorn:
        for number in (1, 2, 3):
            if id_inside(gunicorn.worker_pids()[0]) != 5000:
                pytest.skip("a thread was faster than the worker and took its id")
            for _ in range(5):
                assert gunicorn.get(f"/?value={number}").status == 200
            eventually(lambda: scrape(gunicorn.metrics_url).sum(REQUESTS), equals=5.0 * number)
            found = eventually(lambda n=number: _with_value(gunicorn, mode, n))  # type: ignore[misc]
            assert found.keys() == names
            assert sum(value == number for value in found.values()) == 1, found
            eventually(lambda: len(scrape(gunicorn.metrics_url).samples("gunicorn_worker_uptime_seconds")), equals=1)
            assert scrape(gunicorn.metrics_url).sum("gunicorn_http_requests_total") == 5 * number
            if number < 3:
                gunicorn.kill() if end == "kill" else gunicorn.stop()
                gunicorn.start()


def _with_value(gunicorn: Gunicorn, mode: str, value: float) -> dict[str, float]:
    found = values(scrape(gunicorn.metrics_url), mode)
    assert value in found.values(), found
    return found
