"""The worker class for threads, in a module of its own so that only its users load Gunicorn's pool of threads."""

from __future__ import annotations

from gunicorn.workers.gthread import ThreadWorker

from .workers import MeteredWorker


class PrometheusThreadWorker(MeteredWorker, ThreadWorker):  # type: ignore[misc]
    """The ``gthread`` worker: a pool of threads."""

    has_threads = True
