"""The worker classes: Gunicorn's own, each with a store of metrics and two native hooks.

``setup`` and ``__init__`` run in the arbiter, everything else in the worker. A worker whose metrics cannot start is a
plain worker, and logs that once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gunicorn.workers.sync import SyncWorker

from . import _native, arbiter, recording, stacks

if TYPE_CHECKING:
    from ._native import WorkerSlot

#: As long as gthread, gevent and tornado workers wait between two notifications.
_LONGEST_WAIT_SECONDS = 1.0


class MeteredWorker:
    """Our part of the worker classes; it comes before Gunicorn's class in the bases."""

    # Whether Gunicorn calls its hooks `pre_request` and `post_request` with all their arguments.
    has_hooks = True
    # The interface between server and application: wsgi or asgi.
    interface = "wsgi"
    # Whether requests are handled by a pool of threads.
    has_threads = False
    # Returns the greenlet that runs, where each request has one.
    current_greenlet: Callable[[], Any] | None = None

    cfg: Any
    log: Any
    nr: int
    max_requests: int
    metrics_slot: WorkerSlot | None = None
    metrics_recorder: recording.Recording | None = None
    _has_started_recording = False

    @classmethod
    def setup(cls) -> None:
        """Prepares the arbiter, before it starts and at each HUP; starts nothing."""
        parent: Any = super()
        if hasattr(parent, "setup"):
            parent.setup()
        arbiter.install()
        arbiter.read_settings_again()

    @classmethod
    def check_config(cls, cfg: Any, log: Any) -> None:
        """Runs in the arbiter, once, before the first worker."""
        parent: Any = super()
        if hasattr(parent, "check_config"):
            parent.check_config(cfg, log)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Takes a store, which outlives the worker; runs in the arbiter, before the fork."""
        super().__init__(*args, **kwargs)
        self.metrics_slot = arbiter.take_slot(self)

    def init_process(self) -> None:
        """Runs the worker until it ends."""
        parent: Any = super()
        try:
            parent.init_process()
        finally:
            if self.metrics_recorder is not None and self.nr >= self.max_requests:
                _native.say_end("max_requests")

    def init_signals(self) -> None:
        """In the worker: from here on requests are recorded.

        Not before: until the worker has its own handlers, those of the arbiter take a signal, and it is lost.
        """
        parent: Any = super()
        parent.init_signals()
        self._start_recording()

    def _start_recording(self) -> None:
        if not self._has_started_recording:
            self._has_started_recording = True
            self.metrics_recorder = recording.start(self)
            if self.metrics_recorder is not None:
                stacks.follow(self)

    def handle_quit(self, sig: int, frame: Any) -> None:
        """Notes the reason of SIGQUIT and SIGINT, whichever process sent it."""
        _native.say_end("quit")
        parent: Any = super()
        parent.handle_quit(sig, frame)

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Notes the reason of SIGTERM, whichever process sent it."""
        _native.say_end("term")
        parent: Any = super()
        parent.handle_exit(sig, frame)

    def load_wsgi(self) -> None:
        """Loads the application, and then integrates the frameworks that it has loaded."""
        # For a class whose `init_signals` does not call this class' method.
        self._start_recording()
        parent: Any = super()
        parent.load_wsgi()
        recording.integrate_frameworks(self)

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """Counts an error that Gunicorn answers: of the application, or of a request that cannot be parsed."""
        if self.metrics_recorder is not None:
            self.metrics_recorder.handle_error(req, exc)
        parent: Any = super()
        parent.handle_error(req, client, addr, exc)


class PrometheusWorker(MeteredWorker, SyncWorker):  # type: ignore[misc]
    """The ``sync`` worker: one request at a time."""

    def wait(self, timeout: float) -> Any:
        """Waits for a connection, but not longer than other workers do before they notify the arbiter.

        Gunicorn waits for half of its ``timeout``, which may be minutes: no gauge with a function would be evaluated
        meanwhile.
        """
        return super().wait(min(timeout, _LONGEST_WAIT_SECONDS))

    @classmethod
    def check_config(cls, cfg: Any, log: Any) -> None:
        """Warns of a setting that Gunicorn would not mention: it replaces only a class named ``sync`` for threads."""
        super().check_config(cfg, log)
        if cfg.threads > 1:
            log.warning("threads is %s, but PrometheusWorker has one: use PrometheusThreadWorker for more", cfg.threads)


def __getattr__(name: str) -> Any:
    if name == "PrometheusThreadWorker":
        from .thread_worker import PrometheusThreadWorker

        return PrometheusThreadWorker
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
