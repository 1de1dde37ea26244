"""``prometheus_client``'s own tests of multiprocess mode, on our stores.

    # conftest.py, beside a copy of prometheus_client's tests/test_multiprocess.py
    from gunicorn_prometheus_exporter.testing import *

replaces the value class, the collector and ``mark_process_dead`` by those of this package, with fresh stores for each
test. Nothing of this is used outside tests.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from prometheus_client import Metric, multiprocess
from prometheus_client import values as client_values

from . import _native, pages, values

__all__ = ["MultiProcessCollector", "MultiProcessValue", "fresh_stores", "mark_process_dead"]

_processes = _native.Processes()


def MultiProcessValue(process_identifier: Callable[[], int] = os.getpid) -> type[values.StoreValue]:  # noqa: N802
    """Returns a value class that writes the store of the process that ``process_identifier`` returns."""

    class PlayedValue(values.StoreValue):
        def __new__(cls, *args: Any, **kwargs: Any) -> PlayedValue:
            _processes.become_process(process_identifier())
            return super().__new__(cls, *args, **kwargs)  # type: ignore[return-value]

        def inc(self, amount: float) -> None:
            _processes.become_process(process_identifier())
            super().inc(amount)

        def set(self, value: float, timestamp: float | None = None) -> None:
            _processes.become_process(process_identifier())
            super().set(value, timestamp)

        def get(self) -> float:
            _processes.become_process(process_identifier())
            return super().get()

    return PlayedValue


class MultiProcessCollector(multiprocess.MultiProcessCollector):
    """Collects all simulated processes. The path is checked as always, but not read: stores are memory."""

    def collect(self) -> Iterator[Metric]:
        """Yields the families of the merged page."""
        return pages.families(_processes.page().decode())


def mark_process_dead(pid: int, _path: str | None = None) -> None:
    """Ends a process: values of living processes go."""
    _processes.end_process(pid)


@pytest.fixture(autouse=True)
def fresh_stores() -> None:
    """Gives each test empty stores."""
    global _processes
    _processes = _native.Processes()


client_values.MultiProcessValue = MultiProcessValue
multiprocess.MultiProcessCollector = MultiProcessCollector  # type: ignore[misc]
multiprocess.mark_process_dead = mark_process_dead
values.wrap_metrics()
