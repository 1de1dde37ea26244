"""The worker class for gevent, in a module of its own so that only its users load gevent."""

from __future__ import annotations

from typing import Any

from . import MissingWorkerError
from .workers import MeteredWorker

try:
    from greenlet import getcurrent
    from gunicorn.workers.ggevent import GeventWorker
except (ImportError, RuntimeError) as error:
    raise MissingWorkerError(f"PrometheusGeventWorker needs the packages gevent and packaging: {error}") from error


class PrometheusGeventWorker(MeteredWorker, GeventWorker):  # type: ignore[misc]
    """The ``gevent`` worker: a greenlet for each connection."""

    current_greenlet: Any = staticmethod(getcurrent)
