"""An arbiter with metrics, whichever worker class its application uses."""

from __future__ import annotations

from typing import Any

from gunicorn.arbiter import Arbiter

from .. import arbiter

__all__ = ["PrometheusMaster"]


class PrometheusMaster(Arbiter):  # type: ignore[misc]
    """Gunicorn's own arbiter. The worker classes prepare any arbiter, so this class is not needed."""

    def __init__(self, app: Any) -> None:
        """Prepares the process before any worker exists."""
        arbiter.install()
        super().__init__(app)
