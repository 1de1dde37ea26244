"""Classes that the package before this one had beside its hooks. The hooks need none of them."""

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
    """The arguments of a hook."""

    server: Any
    worker: Any = None
    logger: logging.Logger = field(default_factory=lambda: logging.getLogger(__name__))


class HookManager:
    """Calls functions whose exceptions must not end the server."""

    def __init__(self) -> None:
        self.logger = logging.getLogger(__name__)

    def get_logger(self) -> logging.Logger:
        """Returns the logger."""
        return self.logger

    def safe_execute(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> bool:
        """Calls the function; logs an exception, and returns whether there was none."""
        try:
            func(*args, **kwargs)
        except Exception as error:  # this method catches every exception
            self.logger.error("%s: %s", getattr(func, "__name__", func), error)
            return False
        return True


class EnvironmentManager:
    """Passes values of the command line to child processes, unless the environment has them."""

    def __init__(self, logger: logging.Logger | None = None) -> None:
        self.logger = logger or logging.getLogger(__name__)

    def update_from_cli(self, cfg: Any) -> None:
        """Sets ``GUNICORN_WORKERS`` and ``GUNICORN_BIND`` from Gunicorn's configuration."""
        os.environ.setdefault("GUNICORN_WORKERS", str(cfg.workers))
        if cfg.bind:
            os.environ.setdefault("GUNICORN_BIND", ",".join(cfg.bind))


class MetricsServerManager:
    """The server of the metrics: the exporter, which the arbiter supervises."""

    def __init__(self, logger: logging.Logger | None = None) -> None:
        self.logger = logger or logging.getLogger(__name__)

    def setup_server(self) -> tuple[int, Any]:
        """Returns the port of the settings, and the registry of this package."""
        arbiter.install()
        return arbiter.current_settings().metrics_port, registry

    def start_server(self, _port: int, _registry: Any) -> bool:
        """Installs the arbiter's part, which starts the server with its first workers."""
        arbiter.install()
        return True

    def stop_server(self) -> None:
        """Does nothing: the server ends with the arbiter."""


class ProcessManager:
    """The processes of this package: the exporter alone."""

    def __init__(self, logger: logging.Logger | None = None) -> None:
        self.logger = logger or logging.getLogger(__name__)

    def cleanup_processes(self) -> None:
        """Does nothing: the exporter ends with the arbiter."""
