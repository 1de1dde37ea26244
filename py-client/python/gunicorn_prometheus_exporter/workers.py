"""The worker classes: Gunicorn's own, each with a store of metrics and two native hooks.

``setup`` and ``__init__`` run in the arbiter, everything else in the worker. A worker that cannot
be metered is a plain worker, and says so once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gunicorn.workers.gthread import ThreadWorker
from gunicorn.workers.sync import SyncWorker

from . import _native, arbiter, recording

if TYPE_CHECKING:
    from ._native import WorkerSlot

#: As long as gthread, gevent and tornado workers wait between two notifications.
_LONGEST_WAIT_SECONDS = 1.0


class MeteredWorker:
    """What the worker classes add to Gunicorn's; it comes before the worker class in the bases."""

    # Whether Gunicorn calls its hooks `pre_request` and `post_request` with all that they need.
    has_hooks = True
    # What the server speaks with applications: wsgi or asgi.
    interface = "wsgi"
    # Whether requests are handled by a pool of threads.
    has_threads = False

    cfg: Any
    log: Any
    nr: int
    max_requests: int
    metrics_slot: WorkerSlot | None = None
    metrics_recorder: recording.Recording | None = None
    _has_started_recording = False

    @classmethod
    def setup(cls) -> None:
        """In the arbiter, before it starts and at each HUP: prepares it, and starts nothing."""
        parent: Any = super()
        if hasattr(parent, "setup"):
            parent.setup()
        arbiter.install()
        arbiter.read_settings_again()

    @classmethod
    def check_config(cls, cfg: Any, log: Any) -> None:
        """In the arbiter, once, before the first worker."""
        parent: Any = super()
        if hasattr(parent, "check_config"):
            parent.check_config(cfg, log)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """In the arbiter, before the fork: the store outlives the worker."""
        super().__init__(*args, **kwargs)
        self.metrics_slot = arbiter.take_slot(self)

    def init_process(self) -> None:
        """In the worker, until it ends."""
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

    def handle_quit(self, sig: int, frame: Any) -> None:
        """SIGQUIT and SIGINT, from whomever."""
        _native.say_end("quit")
        parent: Any = super()
        parent.handle_quit(sig, frame)

    def handle_exit(self, sig: int, frame: Any) -> None:
        """SIGTERM, from whomever."""
        _native.say_end("term")
        parent: Any = super()
        parent.handle_exit(sig, frame)

    def load_wsgi(self) -> None:
        """Loads the application, and then looks which framework it has brought along."""
        # For a class whose `init_signals` does not call this one's.
        self._start_recording()
        parent: Any = super()
        parent.load_wsgi()
        recording.integrate_frameworks(self)

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """An error that Gunicorn answers: of the application, or of a request that cannot be read."""
        if self.metrics_recorder is not None:
            self.metrics_recorder.handle_error(req, exc)
        parent: Any = super()
        parent.handle_error(req, client, addr, exc)


class PrometheusWorker(MeteredWorker, SyncWorker):  # type: ignore[misc]
    """The ``sync`` worker: one request at a time."""

    def wait(self, timeout: float) -> Any:
        """Waits for a connection, but not longer than other workers do before they notify the arbiter.

        Gunicorn waits half its ``timeout``, which may be minutes: so long no gauge with a function would be evaluated.
        """
        return super().wait(min(timeout, _LONGEST_WAIT_SECONDS))

    @classmethod
    def check_config(cls, cfg: Any, log: Any) -> None:
        """Says what Gunicorn would not: it swaps only a class that it calls ``sync`` for threads."""
        super().check_config(cfg, log)
        if cfg.threads > 1:
            log.warning("threads is %s, but PrometheusWorker has one: use PrometheusThreadWorker for more", cfg.threads)


class PrometheusThreadWorker(MeteredWorker, ThreadWorker):  # type: ignore[misc]
    """The ``gthread`` worker: a pool of threads."""

    has_threads = True
