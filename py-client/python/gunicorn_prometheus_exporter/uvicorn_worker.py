"""The worker class for uvicorn, in a module of its own so that only its users load uvicorn."""

from __future__ import annotations

from typing import Any

from . import MissingWorkerError, asgi
from .workers import MeteredWorker

try:
    from uvicorn_worker import UvicornWorker
except ImportError:
    try:
        # Until uvicorn 0.30 it was a part of uvicorn.
        from uvicorn.workers import UvicornWorker
    except ImportError as error:
        raise MissingWorkerError("PrometheusUvicornWorker needs the package uvicorn-worker: install it") from error


class PrometheusUvicornWorker(MeteredWorker, UvicornWorker):  # type: ignore[misc]
    """The uvicorn worker: an event loop."""

    has_hooks = False
    interface = "asgi"
    wsgi: Any
    config: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Does what uvicorn's does, which notifies the arbiter only at half of Gunicorn's ``timeout``."""
        super().__init__(*args, **kwargs)
        self.config.timeout_notify = min(self.config.timeout_notify, 1)

    def load_wsgi(self) -> None:
        """Loads the application, and wraps the recorder around it."""
        super().load_wsgi()
        if self.metrics_recorder is not None:
            self.wsgi = asgi.metered(self.wsgi, self.metrics_recorder)
