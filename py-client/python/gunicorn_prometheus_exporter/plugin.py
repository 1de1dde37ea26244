"""Where the worker classes were in the package before this one."""

from __future__ import annotations

from .workers import PrometheusThreadWorker, PrometheusWorker

__all__ = ["PrometheusThreadWorker", "PrometheusWorker"]
