"""The exporter as a process: its environment, and applications that cannot start one."""

import os
import signal
import sys
import textwrap
from pathlib import Path

import pytest

from harness import Gunicorn, eventually, scrape
from harness.paths import EXPORTER, built
from harness.process import children

APP = "apps.strange:app"
SECRETS = {"SECRET_KEY": "hush-hush", "DATABASE_URL": "postgres://u:p@db/shop", "AWS_SESSION_TOKEN": "t"}


def test_the_exporter_has_nothing_of_the_applications_environment() -> None:
    """Its command line names it, and contains no source code."""
    with Gunicorn(APP, environment=SECRETS) as gunicorn:
        process = Path("/proc") / str(gunicorn.exporter_pid())
        names = {
            entry.partition(b"=")[0].decode() for entry in (process / "environ").read_bytes().split(b"\0") if entry
        }
        allowed = {"PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "LD_PRELOAD", "RUST_LOG"}
        assert names <= allowed | {"SSL_CERT_FILE", "SSL_CERT_DIR", "RUST_BACKTRACE", "GUNICORN_EXPORTER_PROCESS"}
        words = (process / "cmdline").read_bytes().split(b"\0")
        assert any(word.endswith(b"run_exporter.py") for word in words)
        assert not any(b"\n" in word or b"import" in word for word in words)
        assert scrape(gunicorn.metrics_url).families


FROZEN = "import sys\nsys.frozen = True\n"


def test_a_frozen_program_without_the_exporters_program_runs_unmetered() -> None:
    """It starts nothing, and logs one line."""
    with Gunicorn(APP, config=FROZEN, environment={"PATH": "/nonexistent"}) as gunicorn:
        for _ in range(3):
            assert gunicorn.get("/pool?fork").status == 200
        assert gunicorn.log.count("nothing is metered") == 1
        assert "there is no program gunicorn-prometheus-exporter" in gunicorn.log
        assert children(gunicorn.pid) == gunicorn.worker_pids()


def test_a_frozen_program_starts_the_exporters_program_if_there_is_one(tmp_path: Path) -> None:
    """PATH contains it; it serves as usual."""
    (tmp_path / EXPORTER.name).symlink_to(built(EXPORTER))
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", **SECRETS}
    with Gunicorn(APP, config=FROZEN, environment=environment) as gunicorn:
        assert gunicorn.get("/").status == 200
        eventually(lambda: scrape(gunicorn.metrics_url).sum("gunicorn_worker_requests_total"), equals=1)
        words = Path(f"/proc/{gunicorn.exporter_pid()}/cmdline").read_bytes().split(b"\0")
        assert words[1] == b"instance"
        os.kill(gunicorn.exporter_pid(), signal.SIGKILL)
        eventually(lambda: scrape(gunicorn.metrics_url).sum("gunicorn_worker_requests_total"), equals=1)


@pytest.mark.parametrize("name", ["shop", "uwsgi", "my-python-app"])
def test_an_executable_that_is_no_python_is_not_started(name: str, tmp_path: Path) -> None:
    """`sys.frozen` is not set, but the named interpreter would be the application again."""
    program = tmp_path / name
    program.write_text(f"#!/bin/sh\necho started >> {tmp_path}/started\nexec sleep 30\n")
    program.chmod(0o755)
    config = f"import sys\nsys.executable = {str(program)!r}\n"
    with Gunicorn(APP, config=config, environment={"PATH": "/nonexistent"}) as gunicorn:
        assert gunicorn.get("/").status == 200
        eventually(lambda: "nothing is metered" in gunicorn.log)
        assert not (tmp_path / "started").exists()


def test_an_exporter_starts_no_exporter() -> None:
    """Whatever is wrong about the interpreter, a second level of exporters never starts."""
    with Gunicorn(APP, environment={"GUNICORN_EXPORTER_PROCESS": "1"}) as gunicorn:
        assert gunicorn.get("/").status == 200
        assert gunicorn.log.count("nothing is metered") == 1
        assert children(gunicorn.pid) == gunicorn.worker_pids()


def test_a_listener_that_no_exporter_can_serve_is_closed() -> None:
    """A scraper is refused, and does not wait for an answer that never comes."""
    config = textwrap.dedent(
        f"""
        from gunicorn_prometheus_exporter import exporter_command
        exporter_command.find = lambda: (["{sys.executable}-of-which-there-is-none"], True)
        """
    )
    with Gunicorn(APP, config=config) as gunicorn:
        assert gunicorn.get("/").status == 200
        eventually(lambda: "cannot start the metrics exporter" in gunicorn.log)
        with pytest.raises(OSError, match=r"refused|reset"):
            scrape(gunicorn.metrics_url)
        assert gunicorn.log.count("cannot start the metrics exporter") == 1
