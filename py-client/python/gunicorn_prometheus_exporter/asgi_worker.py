"""The worker class for Gunicorn's own ASGI worker (24 and later)."""

from __future__ import annotations

from typing import Any

import gunicorn

from . import MissingWorkerError, asgi
from .workers import MeteredWorker

try:
    from gunicorn.workers.gasgi import ASGIWorker
except ImportError as error:
    raise MissingWorkerError(
        "PrometheusASGIWorker needs gunicorn 24 or later: upgrade it, or use PrometheusUvicornWorker"
    ) from error


class PrometheusASGIWorker(MeteredWorker, ASGIWorker):  # type: ignore[misc]
    """The ``asgi`` worker: an event loop."""

    has_hooks = False
    interface = "asgi"
    asgi: Any

    def load_wsgi(self) -> None:
        """Loads the application, and wraps the recorder around it."""
        super().load_wsgi()
        if self.metrics_recorder is not None:
            # Until version 25 Gunicorn sends whatever the application does.
            omits_bodies = gunicorn.version_info >= (26,)
            self.asgi = asgi.metered(self.asgi, self.metrics_recorder, omits_bodies=omits_bodies)
