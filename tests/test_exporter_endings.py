"""SIGTERM ends an exporter within its limit, whatever it is waiting for."""

import socket
import time
from pathlib import Path

import pytest

from harness import Exporter, Gunicorn, eventually, scrape
from harness.preloaded import library

# A container is killed ten seconds after it was asked to end, by Docker; by Kubernetes after thirty.
PATIENCE = 8.0


def hanging() -> dict[str, str]:
    """Redis by a name that no resolver answers for."""
    return {"REDIS_ENABLED": "true", "REDIS_HOST": "redis.never", "LD_PRELOAD": str(library("hanging_resolver"))}


def ended(guard: Exporter | Gunicorn) -> int:
    """The exit code; one that had to be killed has -9."""
    began = time.monotonic()
    code = guard.stop(patience=PATIENCE)
    assert time.monotonic() - began < PATIENCE
    return code


def test_a_standalone_exporter_whose_resolver_hangs() -> None:
    with Exporter(environment=hanging()) as exporter:
        with pytest.raises(OSError, match="503"):
            scrape(exporter.metrics_url)
        assert ended(exporter) == 0
        assert "redis.never" in exporter.log


def test_an_instance_whose_resolver_hangs() -> None:
    """Requests, the instance's own page and the end of Gunicorn: none of them waits."""
    with Gunicorn(environment=hanging()) as gunicorn:
        assert gunicorn.get("/").status == 200
        page = f"{gunicorn.metrics_url}/instance"
        eventually(lambda: scrape(page).sum("gunicorn_worker_requests_total"), equals=1.0)
        eventually(lambda: "redis at redis.never:6379" in gunicorn.log)
        assert ended(gunicorn) == 0


@pytest.mark.parametrize("waits_for", ["a directory", "its turn", "its port"])
def test_a_sidecar_that_waits(tmp_path: Path, waits_for: str) -> None:
    directory = tmp_path / "metrics"
    settings = {"PROMETHEUS_MULTIPROC_DIR": str(directory)}
    if waits_for == "a directory":
        directory.write_text("none")
        sidecar = Waiting("sidecar", environment=settings)
        with sidecar:
            eventually(lambda: "cannot be used" in sidecar.log)
            assert ended(sidecar) == 0
    elif waits_for == "its turn":
        with Exporter("sidecar", environment=settings), Waiting("sidecar", environment=settings) as sidecar:
            eventually(lambda: "another process reads" in sidecar.log)
            assert ended(sidecar) == 0
    else:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])
            with Waiting("sidecar", environment={**settings, "PROMETHEUS_METRICS_PORT": port}) as sidecar:
                eventually(lambda: port in sidecar.log)
                assert ended(sidecar) == 0


class Waiting(Exporter):
    """One that does not serve yet."""

    def assert_ready(self) -> None:
        """It has said something."""
        assert self.log
