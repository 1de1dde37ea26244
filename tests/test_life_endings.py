"""Why a worker has ended: every way has its own reason, and is counted once."""

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import Exporter, Gunicorn, RedisServer, Scrape, Venv, eventually, scrape
from harness.exporter import redis_environment

VERSIONS = ["21.2", "newest"]
APP = "apps.ending:app"
RESTARTS = "gunicorn_worker_restart_total"
BY_TYPE = "gunicorn_worker_restart_count_total"
BY_MASTER = "gunicorn_master_worker_restart_count_total"


def page(gunicorn: Gunicorn) -> Scrape:
    """Returns the page as a scraper sees it now."""
    return eventually(lambda: scrape(gunicorn.metrics_url))


def reasons(gunicorn: Gunicorn) -> dict[str, float]:
    """Returns the count of each reason, over all workers."""
    found = page(gunicorn)
    names = found.values_of("reason", RESTARTS)
    return {name: found.sum(RESTARTS, reason=name) for name in names}


def to_worker(number: signal.Signals) -> Callable[[Gunicorn], None]:
    """Sends a signal to the oldest worker."""
    return lambda gunicorn: os.kill(gunicorn.worker_pids()[0], number)


def to_arbiter(number: signal.Signals) -> Callable[[Gunicorn], None]:
    """Sends a signal to the arbiter."""
    return lambda gunicorn: gunicorn.send(number)


def ask(path: str) -> Callable[[Gunicorn], None]:
    """Sends a request that its worker does not survive."""

    def request(gunicorn: Gunicorn) -> None:
        with pytest.raises(OSError):
            gunicorn.get(path)

    return request


def answered(gunicorn: Gunicorn) -> None:
    """Sends a request, after which `--max-requests=1` ends the worker."""
    assert gunicorn.get().status == 200


ENDINGS = {
    "quit": (to_worker(signal.SIGQUIT), "graceful"),
    "term": (to_worker(signal.SIGTERM), "graceful"),
    "kill": (to_worker(signal.SIGKILL), "forced"),
    "hup": (to_arbiter(signal.SIGHUP), "graceful"),
    "ttou": (to_arbiter(signal.SIGTTOU), "graceful"),
    "max_requests": (answered, "graceful"),
    "segv": (ask("/signal?number=11"), "crash"),
    "exit": (ask("/exit?code=9"), "crash"),
}


@pytest.mark.parametrize("version", VERSIONS)
def test_every_way_in_which_a_worker_ends_has_a_reason_and_counts_once(version: str) -> None:
    """One after the other; a way that needs an argument of Gunicorn has its own instance."""
    for reason, (end, restart_type) in ENDINGS.items():
        workers = 2 if reason == "ttou" else 1
        arguments = ["--max-requests=1"] if reason == "max_requests" else []
        with Gunicorn(APP, venv=Venv.gunicorn(version), workers=workers, arguments=arguments) as gunicorn:
            before = gunicorn.worker_pids()
            eventually(lambda: len(page(gunicorn).samples("gunicorn_worker_state", state="running")), equals=workers)
            end(gunicorn)
            eventually(lambda: reasons(gunicorn), equals={reason: 1.0})
            by_type = page(gunicorn).samples(BY_TYPE)
            assert [(s.labels["reason"], s.labels["restart_type"], s.value) for s in by_type] == [
                (reason, restart_type, 1.0)
            ]
            by_master = page(gunicorn).sum(BY_MASTER)
            assert by_master == (1 if reason in ("hup", "ttou") else 0), reason
            expected = 1 if reason == "ttou" else workers
            eventually(lambda: len(gunicorn.worker_pids()), equals=expected)
            assert before != gunicorn.worker_pids()


REAPS_LATE = """
def when_ready(server):
    import time
    reap = server.reap_workers
    def late():
        time.sleep(1.5)
        server.manage_workers()
        reap()
    server.reap_workers = late
"""


@pytest.mark.parametrize("version", VERSIONS)
def test_the_reason_is_known_when_the_exporter_sees_the_end_before_the_arbiter(version: str) -> None:
    """A busy arbiter reaps late, long after the worker's store was released."""
    with Gunicorn(APP, venv=Venv.gunicorn(version), arguments=["--max-requests=1"], config=REAPS_LATE) as gunicorn:
        eventually(lambda: len(page(gunicorn).samples("gunicorn_worker_state", state="running")), equals=1)
        answered(gunicorn)
        eventually(lambda: reasons(gunicorn), equals={"max_requests": 1.0})


ENDS_BADLY = """
import os, signal

def worker_exit(server, worker):
    {how}
"""


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("how", "reason"), [("os.kill(os.getpid(), signal.SIGSEGV)", "segv"), ("os._exit(9)", "exit")])
def test_a_worker_that_crashes_or_fails_while_it_ends_in_order_has_that_reason(
    how: str, reason: str, version: str
) -> None:
    """HUP asks it to end, and it begins to: but it ends by a signal of its own, or with an error status."""
    with Gunicorn(APP, venv=Venv.gunicorn(version), config=ENDS_BADLY.format(how=how)) as gunicorn:
        eventually(lambda: len(page(gunicorn).samples("gunicorn_worker_state")), equals=1)
        gunicorn.send(signal.SIGHUP)
        eventually(lambda: reasons(gunicorn), equals={reason: 1.0})


IS_DEAD_BEFORE = """
import contextlib, os, signal

def die(server):
    for pid in list(server.WORKERS):
        os.kill(pid, signal.SIG{number})
        with contextlib.suppress(ChildProcessError):  # Gunicorn may reap it at once, in a signal handler
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)

def on_reload(server):
    die(server)

def when_ready(server):
    murder = server.murder_workers
    def after_death():
        if os.path.exists("times_out"):
            os.remove("times_out")
            for worker in server.WORKERS.values():
                worker.tmp.last_update = lambda: -1000
            die(server)
        murder()
    server.murder_workers = after_death
"""


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("number", "expected"), [("SEGV", "segv"), ("KILL", "kill"), ("TERM", "term")])
@pytest.mark.parametrize("signalled_by", ["HUP", "timeout"])
def test_a_worker_that_is_dead_when_the_arbiter_signals_it_has_the_reason_of_its_death(
    version: str, number: str, expected: str, signalled_by: str
) -> None:
    """It waits to be reaped when HUP arrives, or when its time is over."""
    config = IS_DEAD_BEFORE.replace("{number}", number)
    with Gunicorn(APP, venv=Venv.gunicorn(version), config=config) as gunicorn:
        eventually(lambda: len(page(gunicorn).samples("gunicorn_worker_state", state="running")), equals=1)
        if signalled_by == "HUP":
            gunicorn.send(signal.SIGHUP)
            # The worker that reload() has started dies with the old one.
        else:
            (gunicorn.directory / "times_out").touch()
        eventually(lambda: set(reasons(gunicorn)), equals={expected})


KILLS_ANOTHER_MEANWHILE = """
import os, signal

def child_exit(server, worker):
    for pid in list(server.WORKERS)[:1]:
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
"""


@pytest.mark.parametrize("version", VERSIONS)
def test_the_reason_is_known_of_workers_that_die_while_gunicorn_reaps_others(version: str) -> None:
    """Each worker that is reaped brings the death of the next one, before Gunicorn asks again."""
    venv = Venv.gunicorn(version)
    with Gunicorn(APP, venv=venv, workers=4, config=KILLS_ANOTHER_MEANWHILE) as gunicorn:
        eventually(lambda: len(page(gunicorn).samples("gunicorn_worker_state")), equals=4)
        gunicorn.kill_worker(gunicorn.worker_pids()[0])
        eventually(lambda: reasons(gunicorn), equals={"kill": 4.0})


@pytest.mark.parametrize("version", VERSIONS)
def test_a_worker_that_times_out_is_aborted_and_its_request_is_not_lost(version: str) -> None:
    """The arbiter sends SIGABRT; the request reached the application."""
    with Gunicorn(APP, venv=Venv.gunicorn(version), arguments=["--timeout=1"]) as gunicorn:
        assert gunicorn.get().status == 200
        with contextlib.suppress(OSError):
            gunicorn.get("/slow?seconds=8")
        eventually(lambda: reasons(gunicorn), equals={"abort": 1.0})
        eventually(lambda: page(gunicorn).sum("gunicorn_worker_requests_total"), equals=2)


@pytest.mark.parametrize("version", VERSIONS)
def test_an_edited_application_is_a_reload(version: str, tmp_path: Path) -> None:
    """Gunicorn runs with `--reload`, and one of the application's files changes."""
    (tmp_path / "edited.py").write_text("from apps.plain import app\n")
    arguments = ["--reload", "--reload-engine=poll", f"--pythonpath={tmp_path},{Path(__file__).parent}"]
    with Gunicorn("edited:app", venv=Venv.gunicorn(version), arguments=arguments) as gunicorn:
        assert gunicorn.get().status == 200
        before = gunicorn.worker_pids()
        eventually(lambda: _edit(tmp_path / "edited.py") and gunicorn.worker_pids() not in ([], before))
        eventually(lambda: set(reasons(gunicorn)), equals={"reload"})
        assert gunicorn.get().status == 200
        eventually(lambda: page(gunicorn).sum("gunicorn_worker_requests_total"), equals=2)


def _edit(path: Path) -> bool:
    """The reloader must see the file before and after the change."""
    os.utime(path, (time.time(), path.stat().st_mtime + 1))
    return True


@pytest.mark.parametrize("version", VERSIONS)
def test_a_worker_that_cannot_boot_is_a_boot_error(version: str, tmp_path: Path) -> None:
    """The application is broken when a later worker starts; Gunicorn ends, and its counts are pushed."""
    broken = tmp_path / "broken.py"
    broken.write_text("from apps.plain import app\n")
    arguments = [f"--pythonpath={tmp_path},{Path(__file__).parent}"]
    gunicorn = Gunicorn("broken:app", venv=Venv.gunicorn(version), arguments=arguments)
    with RedisServer() as redis, Exporter(redis=redis) as exporter:
        gunicorn.environment |= redis_environment(redis)
        with gunicorn:
            assert gunicorn.get().status == 200
            broken.write_text("raise ValueError('it is broken now')\n")
            gunicorn.kill_worker(gunicorn.worker_pids()[0])
            eventually(lambda: gunicorn.process is not None and gunicorn.process.poll() is not None)
            found = eventually(lambda: _with_boot_error(exporter.metrics_url))
        assert found.sum(RESTARTS, reason="kill") == 1
        assert found.sum("gunicorn_worker_requests_total") == 1


def _with_boot_error(url: str) -> Scrape:
    found = scrape(url)
    assert found.sum(RESTARTS, reason="boot_error") == 1
    return found


def test_a_worker_killed_for_lack_of_memory_has_the_reason_oom() -> None:
    """The worker runs in its own control group, which has a memory limit."""
    group = Path("/sys/fs/cgroup/memory") / f"gunicorn-test-{os.getpid()}"
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(200 << 20))
    except OSError:
        pytest.skip("control groups (version 1) cannot be made here")
    try:
        with Gunicorn(APP, config=f"open({str(group / 'cgroup.procs')!r}, 'w').write('0')") as gunicorn:
            assert gunicorn.get().status == 200
            with pytest.raises(OSError):
                gunicorn.get("/hog?mib=400")
            eventually(lambda: reasons(gunicorn), equals={"oom": 1.0})
            assert gunicorn.get().status == 200
            eventually(lambda: page(gunicorn).sum("gunicorn_worker_requests_total"), equals=3)
            gunicorn.kill_worker(gunicorn.worker_pids()[0])
            eventually(lambda: reasons(gunicorn), equals={"oom": 1.0, "kill": 1.0})
    finally:
        eventually(lambda: _remove(group))


def _remove(group: Path) -> bool:
    group.rmdir()
    return True
