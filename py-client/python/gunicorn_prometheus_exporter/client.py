"""Follows ``prometheus_client``: as soon as this process imports it, its numbers are in the process' store.

The package does not import ``prometheus_client`` itself, which takes longer than all of the rest: an application that
has no metrics of its own need not wait for it.
"""

from __future__ import annotations

import logging
from typing import Any

from . import imports

_evaluator: Any = None


def follow(pages: bytes | None) -> None:
    """Calls :func:`install` when ``prometheus_client`` is imported; an error is logged, and reaches no application."""
    imports.after("prometheus_client", lambda _module: _install(pages))


def install(pages: bytes | None) -> None:
    """Makes the metrics of this process and its children those of the instance, whose exporter answers at ``pages``."""
    from . import merged, values

    values.install()
    merged.install(pages)


def evaluate() -> bool:
    """Evaluates functions and custom collectors if it is time; returns ``False`` if it was not."""
    return _evaluator is None or bool(_evaluator())


def _install(pages: bytes | None) -> None:
    global _evaluator
    try:
        from . import collectors

        install(pages)
        _evaluator = collectors.Evaluator()
    except Exception as error:  # an application is more important than its metrics
        logging.getLogger("gunicorn.error").error("what this process counts is on no page: %s", error)
