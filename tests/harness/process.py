"""A process with a directory and a log; afterwards nothing of them is left."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from typing_extensions import Self

from harness.eventually import eventually

# Settings of the machine must not reach the programs under test.
_PRIVATE_PREFIXES = ("PROMETHEUS_", "REDIS_", "GUNICORN_", "CLEANUP_", "SIDECAR_", "PYTHON", "VIRTUAL_ENV", "PYTEST_")


class Task(NamedTuple):
    """A process, with its start time, so that a later process with the same id is not mistaken for it."""

    pid: int
    started: str

    def alive(self) -> bool:
        """Whether it runs (a zombie does not run)."""
        found = task(self.pid)
        return found is not None and found.started == self.started


class Guard:
    """Base of the guards. `start` and `stop` may be called repeatedly; the directory stays the same."""

    name = "process"
    start_patience = 30.0
    """Seconds until it has to serve."""

    def __init__(self, *, environment: Mapping[str, str] | None = None) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix=f"{self.name}-"))
        # Also for a guard that was made and never entered.
        self._remove = weakref.finalize(self, shutil.rmtree, self.directory, ignore_errors=True)
        self.environment = clean_environment(environment or {})
        self.process: subprocess.Popen[bytes] | None = None

    def command(self) -> Sequence[str | Path]:
        """Returns the command to execute."""
        raise NotImplementedError

    def assert_ready(self) -> None:
        """Raises AssertionError or OSError while the process does not serve yet."""

    def start(self) -> None:
        """Starts the process and returns when it serves."""
        self.launch()
        eventually(self._ready_or_ended, within=self.start_patience)

    def launch(self) -> None:
        """Starts the process, and does not wait until it serves."""
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [str(word) for word in self.command()],
                cwd=self.directory,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def stop(self, *, patience: float = 15.0) -> int:
        """Sends SIGTERM to the process, and returns its exit code; kills it if it does not end in time."""
        return self._end(signal.SIGTERM, patience)

    def kill(self) -> None:
        """Sends SIGKILL to this process; its children have ten seconds to notice."""
        self._end(signal.SIGKILL, 15.0)

    def send(self, number: signal.Signals) -> None:
        """Sends a signal to the process."""
        os.kill(self.pid, number)

    @property
    def pid(self) -> int:
        """The id of the running process."""
        assert self.process is not None, f"{self.name} is not running"
        return self.process.pid

    @property
    def log_path(self) -> Path:
        """The file with everything that the process wrote to its standard output and error."""
        return self.directory / f"{self.name}.log"

    @property
    def log(self) -> str:
        """The text of the log so far."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def _ready_or_ended(self) -> None:
        if self.process is not None and self.process.poll() is not None:
            raise RuntimeError(f"{self.name} ended with {self.process.returncode}:\n{self.log}")
        self.assert_ready()

    def _end(self, number: signal.Signals, patience: float) -> int:
        process, self.process = self.process, None
        if process is None:
            return 0
        family = [*descendants(process.pid)]
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)
        try:
            code = process.wait(patience)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        end_all(family)
        return code

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.stop()
        finally:
            if kind is not None and kind is not KeyboardInterrupt:
                print(f"--- log of {self.name} ---\n{self.log[-20_000:]}")
            self._remove()


def clean_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Returns this process' environment without variables that configure the programs under test, and with `extra`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_PRIVATE_PREFIXES)}
    return {**kept, "PYTHONUNBUFFERED": "1", **extra}


def task(pid: int) -> Task | None:
    """Returns the running process of that id, if there is one."""
    stat = _stat(pid)
    return None if stat is None or stat[0] in "ZX" else Task(pid, stat[19])


def children(pid: int) -> list[int]:
    """Returns the ids of the running processes that `pid` started, oldest first."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (stat := _stat(int(entry.name))) and stat[0] not in "ZX" and int(stat[1]) == pid:
            found.append((int(stat[19]), int(entry.name)))
    return [child for _, child in sorted(found)]


def descendants(pid: int) -> Iterator[Task]:
    """Yields every process that runs below `pid`."""
    for child in children(pid):
        if found := task(child):
            yield found
        yield from descendants(child)


def end_all(tasks: list[Task], *, grace: float = 10.0) -> None:
    """Waits until all have ended by themselves; kills those that have not."""
    with contextlib.suppress(AssertionError):
        eventually(lambda: not any(one.alive() for one in tasks), within=grace)
    for one in tasks:
        if one.alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(one.pid, signal.SIGKILL)
    eventually(lambda: not any(one.alive() for one in tasks))


def _stat(pid: int) -> list[str] | None:
    """Returns the fields of /proc/<pid>/stat from the third (state) on: [1] parent, [19] start time."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
