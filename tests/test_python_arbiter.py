"""The arbiter, its workers and its exporter affect each other as intended; the user's hooks and settings stay."""

import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from harness import Gunicorn, Scrape, Venv, eventually, scrape
from harness.venvs import GUNICORN_VERSIONS

MASTER = "gunicorn_master_worker_restart_total"


def page(gunicorn: Gunicorn) -> Scrape:
    """Returns the page as a scraper sees it now."""
    return eventually(lambda: scrape(gunicorn.metrics_url))


@pytest.mark.parametrize("version", GUNICORN_VERSIONS)
def test_workers_come_and_go_with_signals_and_every_request_is_counted(version: str) -> None:
    """HUP, TTIN, TTOU, USR1, and a worker that ends by itself."""
    with Gunicorn(venv=Venv.gunicorn(version), workers=2) as gunicorn:
        requests = 0

        def ask(times: int = 10) -> None:
            nonlocal requests
            for _ in range(times):
                assert gunicorn.get().status == 200
            requests += times

        ask()
        for name, workers in (("HUP", 2), ("TTIN", 3), ("TTOU", 2), ("USR1", 2)):
            before = gunicorn.worker_pids()
            os.kill(gunicorn.pid, getattr(signal, f"SIG{name}"))
            eventually(lambda name=name: page(gunicorn).value(MASTER, reason=name.lower()), equals=1)  # type: ignore[misc]
            eventually(lambda: len(gunicorn.worker_pids()), equals=workers)
            if name == "HUP":
                eventually(lambda before=before: not set(before) & set(gunicorn.worker_pids()))  # type: ignore[misc]
            ask()
        os.kill(gunicorn.worker_pids()[0], signal.SIGKILL)
        eventually(lambda: page(gunicorn).sum("gunicorn_worker_restart_total", reason="kill"), equals=1)
        ask()

        eventually(lambda: page(gunicorn).sum("gunicorn_worker_requests_total"), equals=requests)
        ends = page(gunicorn)
        assert ends.sum("gunicorn_worker_restart_total", reason="hup") == 2
        assert ends.sum("gunicorn_worker_restart_total", reason="ttou") == 1
        assert ends.sum("gunicorn_master_worker_restart_count_total", restart_type="graceful") == 3
        eventually(lambda: len(page(gunicorn).samples("gunicorn_worker_state", state="running")), equals=2)


def test_the_users_hooks_run_beside_our_own() -> None:
    """Each hook runs at its place, once, with the arguments of Gunicorn."""
    config = "\n".join(
        [
            "import os, pathlib",
            "def write(name):",
            "    with open('hooks', 'a') as file: file.write(name + '\\n')",
            "def when_ready(server): write('when_ready')",
            "def post_fork(server, worker): write('post_fork')",
            "def pre_request(worker, req): write('pre_request ' + req.path)",
            "def post_request(worker, req, environ, resp): write('post_request ' + resp.status)",
            "def child_exit(server, worker): write('child_exit')",
            "def on_exit(server): write('on_exit')",
        ]
    )
    with Gunicorn(config=config) as gunicorn:
        gunicorn.get("/order")
        eventually(lambda: page(gunicorn).value("gunicorn_worker_requests_total"), equals=1)
        hooks = Path(gunicorn.directory / "hooks")
        eventually(lambda: "post_request" in hooks.read_text())
        gunicorn.stop()
        assert hooks.read_text().split("\n")[:-1] == [
            "when_ready",
            "post_fork",
            "pre_request /order",
            "post_request 200 OK",
            "child_exit",
            "on_exit",
        ]


def test_an_exporter_that_is_killed_is_replaced_and_nothing_is_lost() -> None:
    """The port answers throughout, because the arbiter holds it."""
    with Gunicorn(workers=2) as gunicorn:
        for _ in range(20):
            gunicorn.get()
        eventually(lambda: page(gunicorn).sum("gunicorn_worker_requests_total"), equals=20)
        for _ in range(2):
            killed = gunicorn.exporter_pid()
            os.kill(killed, signal.SIGKILL)
            gunicorn.get()
            page(gunicorn)
            eventually(lambda killed=killed: gunicorn.exporter_pid() != killed)  # type: ignore[misc]
        eventually(lambda: page(gunicorn).sum("gunicorn_worker_requests_total"), equals=22)


def test_the_exporter_survives_signals_to_the_whole_group() -> None:
    """It ignores INT, QUIT, HUP and TERM, because workers are still finishing requests."""
    with Gunicorn() as gunicorn:
        pid = eventually(gunicorn.exporter_pid)
        eventually(lambda: page(gunicorn))
        for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTERM):
            os.kill(pid, number)
        eventually(lambda: page(gunicorn))
        assert gunicorn.exporter_pid() == pid


def test_the_exporter_inherits_no_descriptor_of_the_application() -> None:
    """Above all not the application's listener, which would stay open after the application."""
    with Gunicorn() as gunicorn:
        eventually(lambda: page(gunicorn))
        theirs = {str(fd.readlink()) for fd in Path(f"/proc/{gunicorn.pid}/fd").iterdir()}
        listener = _inode_of_listener(gunicorn.port)
        assert f"socket:[{listener}]" in theirs
        exporter = {str(fd.readlink()) for fd in Path(f"/proc/{gunicorn.exporter_pid()}/fd").iterdir()}
        assert f"socket:[{listener}]" not in exporter
        assert not any("wgunicorn" in name for name in exporter)


def test_no_process_outlives_the_application() -> None:
    """This holds after TERM, and after the arbiter was killed."""
    with Gunicorn() as gunicorn:
        exporter = eventually(gunicorn.exporter_pid)
        eventually(lambda: page(gunicorn))
        os.kill(gunicorn.pid, signal.SIGTERM)
        eventually(lambda: not Path(f"/proc/{exporter}").exists())
    with Gunicorn() as gunicorn:
        exporter = eventually(gunicorn.exporter_pid)
        eventually(lambda: page(gunicorn))
        os.kill(gunicorn.pid, signal.SIGKILL)
        eventually(lambda: not Path(f"/proc/{exporter}").exists())


def test_a_metrics_port_in_use_is_one_error_and_is_taken_when_free() -> None:
    """The application serves meanwhile, and its requests are counted."""
    gunicorn = Gunicorn()
    with socket.create_server(("127.0.0.1", gunicorn.metrics_port)) as other:
        with gunicorn:
            eventually(lambda: f"port {gunicorn.metrics_port} (PROMETHEUS_BIND_ADDRESS" in gunicorn.log)
            assert gunicorn.get().status == 200
            other.close()
            eventually(lambda: page(gunicorn).value("gunicorn_worker_requests_total"), equals=1)
            errors = [line for line in gunicorn.log.splitlines() if "[ERROR]" in line]
            assert len(errors) == 1, errors


def test_worker_ids_begin_with_the_instance_and_are_used_again() -> None:
    """A worker that restarts makes no new series."""
    with Gunicorn(workers=2, environment={"GUNICORN_EXPORTER_INSTANCE": "shop-7"}) as gunicorn:
        requests = "gunicorn_worker_requests_total"
        eventually(lambda: page(gunicorn).values_of("worker_id", requests), equals={"shop-7:0", "shop-7:1"})
        for pid in gunicorn.worker_pids():
            gunicorn.kill_worker(pid)
            eventually(lambda pid=pid: pid not in gunicorn.worker_pids() and len(gunicorn.worker_pids()) == 2)  # type: ignore[misc]
        eventually(lambda: page(gunicorn).sum("gunicorn_worker_restart_total"), equals=2)
        assert page(gunicorn).values_of("worker_id", requests) == {"shop-7:0", "shop-7:1"}


@pytest.mark.parametrize("version", GUNICORN_VERSIONS)
def test_a_wrong_setting_is_one_line_and_nothing_starts(version: str) -> None:
    """The line names the variable, the value, and what is allowed."""
    gunicorn = Gunicorn(venv=Venv.gunicorn(version), environment={"PROMETHEUS_METRICS_PORT": "many"})
    run = subprocess.run(
        gunicorn.command(),
        cwd=gunicorn.directory,
        env={**os.environ, **gunicorn.environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode != 0
    assert "PROMETHEUS_METRICS_PORT" in run.stderr
    assert "many" in run.stderr
    assert "Traceback" not in run.stderr


def test_importing_the_package_changes_nothing() -> None:
    """It sets no environment variable and no logging, imports no worker library, and opens no connection."""
    program = (
        "import logging, os, sys\n"
        "before = dict(os.environ), logging.getLogger().handlers[:]\n"
        "import gunicorn_prometheus_exporter\n"
        "assert (dict(os.environ), logging.getLogger().handlers[:]) == before\n"
        "others = {'gevent', 'eventlet', 'tornado', 'uvicorn', 'flask', 'prometheus_client', 'redis'}\n"
        "loaded = others & set(sys.modules)\n"
        "assert not loaded, loaded\n"
        "try:\n"
        "    gunicorn_prometheus_exporter.PrometheusFutureWorker\n"
        "except ImportError as error:\n"
        "    print(error)\n"
    )
    said = Venv.default().run("-c", program)
    assert "this version has PrometheusWorker, PrometheusThreadWorker" in said


def _inode_of_listener(port: int) -> str:
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
            return fields[9]
    raise AssertionError(f"no process listens on port {port}")
