"""An arbiter that is metered whichever worker class its application uses."""

from __future__ import annotations

from typing import Any

from gunicorn.arbiter import Arbiter

from .. import arbiter

__all__ = ["PrometheusMaster"]


class PrometheusMaster(Arbiter):  # type: ignore[misc]
    """Gunicorn's own. The worker classes do the same to any arbiter: nothing needs this class."""

    def __init__(self, app: Any) -> None:
        """Prepares the process before there are workers."""
        arbiter.install()
        super().__init__(app)
