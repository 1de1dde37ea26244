"""The application's own metrics: ``prometheus_client`` keeps its numbers in our stores.

One class stands in the place that ``prometheus_client`` has for it, ``values.ValueClass``; wrappers
are put only where numbers do not pass through it.
"""

from __future__ import annotations

import functools
import time
import warnings
from typing import Any

from prometheus_client import REGISTRY, metrics, values

from . import _native


class StoreValue(_native.Value):
    """A number of a metric, in the store of whichever process uses it."""

    @classmethod
    def close_all_files(cls) -> None:
        """There are no files."""


def install() -> None:
    """Replaces the value class, once, and takes over the metrics that are registered already."""
    if values.ValueClass is StoreValue:
        return
    values.ValueClass = StoreValue
    for metric in _registered():
        _take_over(metric)
    wrap_metrics()
    # prometheus_client says this of its own files; here it is not so.
    for message in ("Removal of labels has not been implemented", "Clearing labels has not been implemented"):
        warnings.filterwarnings("ignore", message=message, category=UserWarning)


def wrap_metrics() -> None:
    """Wrappers where numbers do not pass through a value; harmless with any value class."""
    base: Any = metrics.MetricWrapperBase
    for name in ("remove", "remove_by_labels", "clear"):
        if hasattr(base, name):
            _wrap_removal(base, name)


def _registered() -> list[Any]:
    collectors = list(getattr(REGISTRY, "_collector_to_names", {}))
    return [metric for metric in collectors if isinstance(metric, metrics.MetricWrapperBase)]


def _take_over(metric: Any) -> None:
    """Makes a metric's values anew, with the numbers that they had."""
    for child in list(getattr(metric, "_metrics", {}).values()):
        _take_over(child)
    numbered = isinstance(metric, (metrics.Counter, metrics.Gauge, metrics.Summary, metrics.Histogram))
    if not numbered or not metric._is_observable():
        return
    before = _numbers(metric)
    created = getattr(metric, "_created", None)
    metric._metric_init()
    if created is not None:
        metric._created = created
    # A gauge that shows the most recent number says since when it is.
    set_at = time.time() if getattr(metric, "_is_most_recent", False) else None
    for old, new in zip(before, _numbers(metric), strict=True):
        number = old.get()
        if number != 0.0:
            new.set(number, set_at)


def _numbers(metric: Any) -> list[Any]:
    named = (getattr(metric, name, None) for name in ("_value", "_count", "_sum"))
    return [value for value in named if value is not None] + list(getattr(metric, "_buckets", ()))


def _wrap_removal(base: Any, name: str) -> None:
    original = getattr(base, name)

    @functools.wraps(original)
    def remove(self: Any, *args: Any, **kwargs: Any) -> Any:
        before = dict(getattr(self, "_metrics", {}))
        result = original(self, *args, **kwargs)
        left = getattr(self, "_metrics", {})
        for labels, child in before.items():
            if left.get(labels) is not child:
                _retire(child)
        return result

    setattr(base, name, remove)


def _retire(child: Any) -> None:
    for value in _numbers(child):
        if isinstance(value, StoreValue):
            value.retire()
