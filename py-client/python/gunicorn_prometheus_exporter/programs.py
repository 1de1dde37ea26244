"""Programs outside Gunicorn: a Celery worker, a management command, a batch job.

    from gunicorn_prometheus_exporter import setup_metrics
    setup_metrics()

It may be called before or after the program's metrics are made: earlier counts are included. From then on this
process, and every process that it forks, has its metrics on the page of a private exporter, with the same settings as
an application: a port of its own, and Redis if that is configured.
"""

from __future__ import annotations

import atexit
import logging
import os
import socket
import sys
import threading
from pathlib import Path

from . import _native, children, config, exporter_command, merged, values

_LOG = logging.getLogger(__name__)
_PATIENCE_SECONDS = 3.0
_INTERVAL_SECONDS = 0.5

_program: Program | None = None
_has_failed = False
_lock = threading.Lock()


def setup_metrics() -> None:
    """Starts an exporter for this program and all that it forks; does nothing twice, or in a worker of Gunicorn.

    Raises ``ValueError``, with one line, if the settings cannot be used. The exporter ends with this process.
    """
    global _program, _has_failed
    arbiter = sys.modules.get(f"{__package__}.arbiter")
    if arbiter is not None and arbiter.is_installed():
        return
    with _lock:
        if _program is not None or _has_failed:
            return
        try:
            command = exporter_command.find()
        except exporter_command.NoExporterError as error:
            _has_failed = True
            _LOG.error("nothing is metered: %s", error)
            return
        _program = Program(*command)


class Program:
    """This process in the role that Gunicorn's arbiter has for an application."""

    def __init__(self, command: list[str], takes_owner: bool) -> None:
        settings = config.load()
        for warning in settings.warnings:
            _LOG.warning("%s", warning)
        self.instance = _native.Instance()
        self.instance.read_certificates(settings)
        values.install()
        children.follow(self.instance.children_name(), merged.address)
        os.register_at_fork(after_in_child=self.instance.forked)
        self.instance.configure(
            command,
            takes_owner,
            settings.instance or _default_name(),
            settings,
            serves=not settings.sidecar_mode,
            owner=None,
            listeners=[],
            build=[
                ("python_version", ".".join(str(part) for part in sys.version_info[:3])),
                ("python_implementation", sys.implementation.name),
            ],
        )
        self.pid = os.getpid()
        self.ending = threading.Event()
        self.supervise()
        # Forked processes do not have this thread: they hand their stores over by themselves.
        self.thread = threading.Thread(target=self._run, name="metrics", daemon=True)
        self.thread.start()
        atexit.register(self.finish)

    def supervise(self) -> None:
        """Keeps the exporter running, and announces children; called periodically."""
        for level, text in self.instance.supervise():
            getattr(_LOG, level)("%s", text)

    def finish(self) -> None:
        """Pushes the rest at the end of this process."""
        if os.getpid() != self.pid or self.ending.is_set():
            return
        self.ending.set()
        self.thread.join(_PATIENCE_SECONDS)
        self.supervise()
        for level, text in self.instance.shut_down(_PATIENCE_SECONDS):
            getattr(_LOG, level)("%s", text)

    def _run(self) -> None:
        while not self.ending.wait(_INTERVAL_SECONDS):
            self.supervise()


def _default_name() -> str:
    """``<host name>:<program>``."""
    program = Path(sys.argv[0] if sys.argv else "").stem
    return f"{socket.gethostname()}:{program or 'python'}"
