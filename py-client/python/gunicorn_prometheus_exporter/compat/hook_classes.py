"""Classes that stood beside the hooks in the package before this one. The hooks need none of them."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .. import arbiter
from .registry import registry


@dataclass
class HookContext:
    """What a hook was called with."""

    server: Any
    worker: Any = None
    logger: logging.Logger = field(default_factory=lambda: logging.getLogger(__name__))


class HookManager:
    """Calls what must not end the server."""

    def __init__(self) -> None:
        self.logger = logging.getLogger(__name__)

    def get_logger(self) -> logging.Logger:
        """Its logger."""
        return self.logger

    def safe_execute(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> bool:
        """Calls it; whether it came through. What it raises is logged."""
        try:
            func(*args, **kwargs)
        except Exception as error:  # whatever it is: that is what this is for
            self.logger.error("%s: %s", getattr(func, "__name__", func), error)
            return False
        return True


class EnvironmentManager:
    """Tells child processes what the command line has said, where the environment does not."""

    def __init__(self, logger: logging.Logger | None = None) -> None:
        self.logger = logger or logging.getLogger(__name__)

    def update_from_cli(self, cfg: Any) -> None:
        """Sets ``GUNICORN_WORKERS`` and ``GUNICORN_BIND`` from Gunicorn's configuration."""
        os.environ.setdefault("GUNICORN_WORKERS", str(cfg.workers))
        if cfg.bind:
            os.environ.setdefault("GUNICORN_BIND", ",".join(cfg.bind))


class MetricsServerManager:
    """The server of the metrics: the exporter, which the arbiter looks after."""

    def __init__(self, logger: logging.Logger | None = None) -> None:
        self.logger = logger or logging.getLogger(__name__)

    def setup_server(self) -> tuple[int, Any]:
        """The port that the settings name, and the registry of this package."""
        arbiter.install()
        return arbiter.current_settings().metrics_port, registry

    def start_server(self, _port: int, _registry: Any) -> bool:
        """The arbiter starts it, with its first workers."""
        arbiter.install()
        return True

    def stop_server(self) -> None:
        """It ends with the arbiter."""


class ProcessManager:
    """The processes of this package: there is one, the exporter."""

    def __init__(self, logger: logging.Logger | None = None) -> None:
        self.logger = logger or logging.getLogger(__name__)

    def cleanup_processes(self) -> None:
        """It ends with the arbiter."""
