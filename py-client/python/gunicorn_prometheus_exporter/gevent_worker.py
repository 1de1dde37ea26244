"""The worker class for gevent: a module of its own, so that nobody else loads gevent."""

from __future__ import annotations

from gunicorn.workers.ggevent import GeventWorker

from .workers import MeteredWorker


class PrometheusGeventWorker(MeteredWorker, GeventWorker):  # type: ignore[misc]
    """The ``gevent`` worker: a greenlet for each connection."""
