"""The worker class for eventlet, in a module of its own so that only its users load eventlet."""

from __future__ import annotations

from typing import Any

import gunicorn

from . import MissingWorkerError
from .workers import MeteredWorker

try:
    from greenlet import getcurrent
    from gunicorn.workers.geventlet import EventletWorker
except ImportError as error:
    raise MissingWorkerError(
        f"PrometheusEventletWorker: gunicorn {gunicorn.__version__} has no eventlet worker (25 was the last):"
        " use PrometheusGeventWorker or PrometheusThreadWorker"
    ) from error


class PrometheusEventletWorker(MeteredWorker, EventletWorker):  # type: ignore[misc]
    """The ``eventlet`` worker: a green thread for each connection."""

    current_greenlet: Any = staticmethod(getcurrent)
