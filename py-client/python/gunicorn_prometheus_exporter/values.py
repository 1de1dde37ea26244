"""The application's own metrics: ``prometheus_client`` keeps its numbers in our stores.

One class stands in the place that ``prometheus_client`` has for it, ``values.ValueClass``; wrappers
are put only where numbers do not pass through it.
"""

from __future__ import annotations

import functools
import time
import warnings
import weakref
from collections.abc import Callable
from typing import Any

from prometheus_client import REGISTRY, metrics, values

from . import _native

_NUMBERED: tuple[Any, ...] = (metrics.Counter, metrics.Gauge, metrics.Summary, metrics.Histogram)
#: Where an ``Info`` or ``Enum`` keeps its values, which ``prometheus_client`` does not make.
_FACTS = "_gunicorn_prometheus_exporter_facts"
_WRAPPED = "_gunicorn_prometheus_exporter_wrapped"


#: Gauges that have a function, with it; a worker asks them (:mod:`.collectors`).
FUNCTIONS: weakref.WeakKeyDictionary[metrics.Gauge, Callable[[], float]] = weakref.WeakKeyDictionary()


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
    """Wrappers where what a metric says does not pass through a value; harmless twice, and with any value class."""
    if hasattr(metrics.Info, _WRAPPED):
        return
    setattr(metrics.Info, _WRAPPED, True)
    base: Any = metrics.MetricWrapperBase
    for name in ("remove", "remove_by_labels", "clear"):
        if hasattr(base, name):
            _wrap_removal(base, name)
    for numbered in _NUMBERED:
        _wrap_units(numbered)
    _wrap_function()
    _wrap_then(metrics.Info, "info", _say_info)
    _wrap_then(metrics.Enum, "__init__", _say_state)
    _wrap_then(metrics.Enum, "state", _say_state)


def _registered() -> list[Any]:
    collectors = list(getattr(REGISTRY, "_collector_to_names", {}))
    return [metric for metric in collectors if isinstance(metric, metrics.MetricWrapperBase)]


def _take_over(metric: Any) -> None:
    """Makes a metric's values anew, with the numbers that they had."""
    for child in list(getattr(metric, "_metrics", {}).values()):
        _take_over(child)
    if not metric._is_observable():
        return
    if isinstance(metric, metrics.Info):
        _say_info(metric)
    elif isinstance(metric, metrics.Enum):
        _say_state(metric)
    elif isinstance(metric, _NUMBERED):
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


def _say_info(metric: Any) -> None:
    """What an ``Info`` says now, and nothing else."""
    before: Any = getattr(metric, _FACTS, None)
    facts = dict(metric._value)
    if before is not None and before[0] == facts:
        return
    if before is not None:
        before[1].retire()
        delattr(metric, _FACTS)
    if facts:
        names, texts = (*metric._labelnames, *facts), (*metric._labelvalues, *map(str, facts.values()))
        value = StoreValue("info", metric._name, metric._name, names, texts, metric._documentation)
        value.set(1.0)
        setattr(metric, _FACTS, (facts, value))


def _say_state(metric: Any) -> None:
    """Which of an ``Enum``'s states is true now."""
    values_by_state: Any = getattr(metric, _FACTS, None)
    if values_by_state is None:
        names = (*metric._labelnames, metric._name)
        values_by_state = [
            StoreValue(
                "stateset", metric._name, metric._name, names, (*metric._labelvalues, state), metric._documentation
            )
            for state in metric._states
        ]
        setattr(metric, _FACTS, values_by_state)
    for number, value in enumerate(values_by_state):
        value.set(1.0 if number == metric._value else 0.0)


def _wrap_units(metric_type: Any) -> None:
    original = metric_type._metric_init

    @functools.wraps(original)
    def metric_init(self: Any) -> None:
        if self._unit:
            _native.set_unit(self._name, self._unit)
        original(self)

    metric_type._metric_init = metric_init


def _wrap_function() -> None:
    original = metrics.Gauge.set_function

    @functools.wraps(original)
    def set_function(self: metrics.Gauge, f: Callable[[], float]) -> None:
        original(self, f)
        FUNCTIONS[self] = f

    metrics.Gauge.set_function = set_function  # type: ignore[method-assign]


def _wrap_then(metric_type: Any, name: str, then: Callable[[Any], None]) -> None:
    original = getattr(metric_type, name)

    @functools.wraps(original)
    def method(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        if issubclass(values.ValueClass, StoreValue) and self._is_observable():
            then(self)

    setattr(metric_type, name, method)


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
    facts = getattr(child, _FACTS, ())
    for value in [*_numbers(child), *facts]:
        if isinstance(value, StoreValue):
            value.retire()
