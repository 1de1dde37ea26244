"""In a worker: adopts the store that the arbiter has made for it, and installs the hooks."""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Callable
from typing import Any

from . import _native, bodies, client, frameworks

Recording = _native.Recorder


def start(worker: Any) -> Recording | None:
    """Starts recording in this worker; returns ``None`` (and logs one line) if that fails."""
    slot: _native.WorkerSlot | None = worker.metrics_slot
    if slot is None:
        return None
    try:
        slot.adopt()
        recorder = _native.Recorder(
            slot,
            slot.duration_bounds,
            slot.size_bounds,
            worker.cfg.threads if worker.has_threads else None,
            bodies.error_page_bytes() if worker.has_hooks else 0,
            worker.current_greenlet,
        )
        _native.set_worker_state(slot.worker_id, "running", int(time.time()))
        if worker.has_hooks:
            bodies.install()
            _put_hooks(worker, recorder)
            frameworks.name_requests_by(recorder.name_current)
        gc.callbacks.append(recorder.collected)
        # Threads give this sign of life very often, so it is a method of the object, which Python finds first.
        worker.tmp.notify = _native.Heartbeat(slot, worker.tmp.notify, client.evaluate)
    except Exception as error:  # an application is more important than its metrics
        worker.log.error("this worker is not metered: %s", error)
        return None
    return recorder


def integrate_frameworks(worker: Any) -> None:
    """Lets the loaded frameworks name their routes and errors."""
    for name, error in frameworks.install_loaded():
        _native.report_failure(f"frameworks.{name}", str(error))
    if worker.metrics_recorder is not None and frameworks.tells_routes(worker.interface):
        worker.metrics_recorder.expect_routes()


def _put_hooks(worker: Any, recorder: Recording) -> None:
    # Python finds an attribute of the configuration before it calls Config.__getattr__, so the hooks cost a third of
    # Gunicorn's empty ones. The parent has another configuration object. This does not use its __dict__: CPython
    # reads the attributes of an object slower after an access to that.
    pre = _chain(worker, "pre_request", recorder.pre_request)
    post = _chain(worker, "post_request", recorder.post_request)

    def first_post(*args: Any) -> None:
        # Applications may import their framework with the first request, which has just ended.
        object.__setattr__(worker.cfg, "post_request", post)
        integrate_frameworks(worker)
        post(*args)

    object.__setattr__(worker.cfg, "pre_request", pre)
    object.__setattr__(worker.cfg, "post_request", first_post)


def _chain(worker: Any, name: str, ours: Callable[..., None]) -> Callable[..., None]:
    """Returns our hook followed by the user's, if there is one."""
    setting = worker.cfg.settings[name]
    theirs: Callable[..., None] = setting.get()
    log = getattr(worker.log, "error_log", None)
    writes_nothing = isinstance(log, logging.Logger) and not log.isEnabledFor(logging.DEBUG)
    # Gunicorn's own hooks write a line at level debug, or nothing.
    if theirs is type(setting).default and writes_nothing:
        return ours

    def both(*args: Any) -> None:
        ours(*args)
        theirs(*args)

    return both
