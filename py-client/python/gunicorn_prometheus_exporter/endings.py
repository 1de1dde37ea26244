"""Finds out why a worker has ended, and counts each end once."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gunicorn.arbiter import Arbiter

from . import _native

_GRACEFUL = {"hup", "quit", "int", "term", "ttou", "winch", "max_requests", "reload", "halt"}
_FORCED = {"abort", "kill", "oom"}
_WAITPID = os.waitpid
# Linux counts in KiB, others in bytes.
_MAXRSS_UNIT = 1024 if sys.platform == "linux" else 1
#: Signals by which a worker is asked to end.
_ENDS_IN_ORDER = {signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM}


@contextlib.contextmanager
def statuses_noted(workers: dict[int, Any]) -> Iterator[None]:
    """Notes the exit status of each worker that Gunicorn reaps meanwhile, because Gunicorn does not pass it on.

    Gunicorn asks ``os.waitpid`` until nothing is left to reap, also for workers that die in between. So the answers
    themselves are read: whatever is looked at beforehand misses those.
    """
    original = os.waitpid
    # Another library may have replaced it, and then it alone knows how to wait.
    waits = _wait4 if original is _WAITPID else lambda pid, options: (*original(pid, options), 0)

    def waitpid(pid: int, options: int) -> tuple[int, int]:
        ended, status, memory = waits(pid, options)
        worker = workers.get(ended)
        if worker is not None:
            worker.metrics_status = os.waitstatus_to_exitcode(status)
            worker.metrics_memory = memory
        return ended, status

    os.waitpid = waitpid
    try:
        yield
    finally:
        os.waitpid = original


def _wait4(pid: int, options: int) -> tuple[int, int, int]:
    """Returns process and status like ``os.waitpid``, and the largest resident size of that process, in bytes."""
    ended, status, usage = os.wait4(pid, options)
    return ended, status, usage.ru_maxrss * _MAXRSS_UNIT


def look(pid: int, worker: Any) -> None:
    """Reads the exit status of a worker that Gunicorn has not reaped."""
    if not hasattr(os, "waitid"):
        return
    try:
        status = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except OSError:
        return
    if status is not None:
        killed = status.si_code in (os.CLD_KILLED, os.CLD_DUMPED)
        worker.metrics_status = -status.si_status if killed else status.si_status


def note_signal(pid: int, worker: Any, sig: int, asked_by: str | None) -> None:
    """Notes why the arbiter is about to signal a worker. If the worker is dead already, the signal did not end it."""
    if not hasattr(worker, "metrics_status"):
        look(pid, worker)
    if hasattr(worker, "metrics_status"):
        worker.metrics_has_ended_itself = True
    elif asked_by is not None and sig in (signal.SIGTERM, signal.SIGQUIT, signal.SIGKILL):
        # The first reason counts: Gunicorn repeats the signal until the worker is gone.
        worker.__dict__.setdefault("metrics_end_reason", asked_by)


def reason(worker: Any, last_words: str | None, out_of_memory: OutOfMemory) -> str:
    """Returns the counted reason. A decision of the arbiter takes precedence over the worker's words and status."""
    if worker.aborted and not getattr(worker, "metrics_has_ended_itself", False):
        return "abort"
    asked: str | None = getattr(worker, "metrics_end_reason", None)
    status: int | None = getattr(worker, "metrics_status", None)
    if status == -signal.SIGKILL:
        return "oom" if asked is None and out_of_memory.has_killed() else "kill"
    if status in (Arbiter.WORKER_BOOT_ERROR, Arbiter.APP_LOAD_ERROR):
        return "boot_error"
    if status is not None and status < 0 and -status not in _ENDS_IN_ORDER:
        # It was asked to end, or said why it ends, and has crashed on the way.
        return _signal_name(-status)
    if status is not None and status > 0:
        return "exit"
    if asked is not None:
        return asked
    if last_words is not None:
        return last_words
    if status is None:
        return "unknown"
    if status < 0:
        return _signal_name(-status)
    # Gunicorn's reloader ends a worker with status 0 and no reason.
    return "reload" if worker.cfg.reload else "quit"


def is_orderly(why: str) -> bool:
    """Returns whether a worker that ended for that reason did not have to be killed, and has not crashed.

    Gunicorn itself logs why a worker cannot boot. An unknown reason is no finding.
    """
    return why in _GRACEFUL or why in ("boot_error", "unknown")


def in_words(worker: Any, why: str, out_of_memory: OutOfMemory) -> str:
    """Returns how a worker has ended: "was killed by SIGKILL"."""
    status: int = getattr(worker, "metrics_status", None) or 0
    if why == "abort":
        by = "SIGKILL" if status == -signal.SIGKILL else "SIGABRT"
        return f"was killed by {by} (timeout of {worker.cfg.timeout} s)"
    if why == "oom" and out_of_memory.is_of_this_group:
        memory = getattr(worker, "metrics_memory", 0)
        resident = f", {memory / 2**20:.0f} MiB resident" if memory else ""
        return f"was killed by SIGKILL (out of memory{resident})"
    if status < 0 and -status not in _ENDS_IN_ORDER:
        return f"was killed by {_long_signal_name(-status)}"
    if status > 0:
        return f"exited with status {status} ({why})"
    return f"ended ({why})"


def count(worker: Any, why: str) -> None:
    """Counts the end of a worker."""
    restart_type = "graceful" if why in _GRACEFUL else "forced" if why in _FORCED else "crash"
    by_reason = [("worker_id", worker.metrics_slot.worker_id), ("reason", why)]
    by_type = [*by_reason, ("restart_type", restart_type)]
    _native.count_event("gunicorn_worker_restart", by_reason, 1)
    _native.count_event("gunicorn_worker_restart_count", by_type, 1)
    if hasattr(worker, "metrics_end_reason"):
        _native.count_event("gunicorn_master_worker_restart_count", by_type, 1)


class OutOfMemory:
    """Tells whether the system has killed a process because memory ran out, of this container if possible.

    The system counts such kills, but does not name the process. So a worker that died by a SIGKILL which this arbiter
    did not send counts as the victim if the count has just risen. The system counts before the victim's memory is
    free and its end is known.
    """

    MOMENT = 5.0

    def __init__(self) -> None:
        self.source = _oom_source()
        self.seen = self.latest = self._read()
        self.looked = time.monotonic()

    @property
    def is_of_this_group(self) -> bool:
        """Whether the count is that of this control group, and not of the whole machine."""
        return self.source is not None and self.source.name != "vmstat"

    def look(self) -> None:
        """Accepts the present count: earlier kills explain no later end."""
        now = time.monotonic()
        if now - self.looked >= self.MOMENT:
            self.seen = max(self.seen, self.latest)
            self.latest = self._read()
            self.looked = now

    def has_killed(self) -> bool:
        """Returns whether there was a kill that explains no other end; called once for each end."""
        if self._read() <= self.seen:
            return False
        self.seen += 1
        return True

    def _read(self) -> int:
        if self.source is None:
            return 0
        try:
            lines = self.source.read_text().splitlines()
        except OSError:
            return 0
        return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)


def _oom_source() -> Path | None:
    """Returns the file with the count: of this control group, version 2 or 1, or else of the machine."""
    found = []
    try:
        groups = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        groups = []
    for group in groups:
        _, controllers, name = group.split(":", 2)
        if controllers == "":
            found.append(Path(f"/sys/fs/cgroup{name}/memory.events"))
        elif "memory" in controllers.split(","):
            found.append(Path(f"/sys/fs/cgroup/memory{name}/memory.oom_control"))
    found.append(Path("/proc/vmstat"))
    for path in found:
        try:
            if "oom_kill " in path.read_text():
                return path
        except OSError:
            continue
    return None


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name[3:].lower()
    except ValueError:
        return f"signal_{number}"


def _long_signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
