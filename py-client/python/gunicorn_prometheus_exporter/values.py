"""The application's own metrics: ``prometheus_client`` stores its numbers in our stores.

One class replaces ``values.ValueClass``, the place that ``prometheus_client`` has for it; wrappers are only where
numbers do not pass through that class.
"""

from __future__ import annotations

import copy
import functools
import gc
import threading
import time
import warnings
import weakref
from collections.abc import Callable
from typing import Any

from prometheus_client import REGISTRY, CollectorRegistry, metrics, multiprocess, values

from . import _native

_NUMBERED: tuple[Any, ...] = (metrics.Counter, metrics.Gauge, metrics.Summary, metrics.Histogram)
#: Attribute with the values of an ``Info`` or ``Enum``, which ``prometheus_client`` does not make.
_FACTS = "_gunicorn_prometheus_exporter_facts"
#: Marks an ``Info`` that its parent has removed: what is set in it later is on no page.
_REMOVED = "_gunicorn_prometheus_exporter_removed"
_WRAPPED = "_gunicorn_prometheus_exporter_wrapped"
#: Marks a registry whose metrics are merged over processes, as those of the default registry are.
_MERGED = "_gunicorn_prometheus_exporter_merged"
#: Marks a metric that is in no such registry: its numbers stay in this process.
_PRIVATE = "_gunicorn_prometheus_exporter_private"
#: Position of the registry in `MetricWrapperBase.__init__`, without `self`.
_REGISTRY_POSITION = 6


#: Gauges with a function, and the function; a worker evaluates them (:mod:`.collectors`).
FUNCTIONS: weakref.WeakKeyDictionary[metrics.Gauge, Callable[[], float]] = weakref.WeakKeyDictionary()


def functions() -> list[tuple[Any, Callable[[], float]]]:
    """Returns the gauges with a function; other threads may make such gauges meanwhile."""
    found = ((gauge, FUNCTIONS.get(gauge)) for ref in FUNCTIONS.keyrefs() if (gauge := ref()) is not None)
    return [(gauge, function) for gauge, function in found if function is not None]


#: Names of the metrics in merged registries other than the default one.
NAMES_ELSEWHERE: set[str] = set()
_making = threading.local()


class StoreValue(_native.Value):
    """A number of a metric, in the store of the process that uses it."""

    def __new__(cls, *args: Any, **kwargs: Any) -> StoreValue:
        """Makes one of ``prometheus_client``'s own values for a private metric."""
        if getattr(_making, "is_private", False):
            return values.MutexValue(*args, **kwargs)  # type: ignore[return-value, no-untyped-call]
        try:
            return super().__new__(cls, *args, **kwargs)
        except UnicodeEncodeError:
            return super().__new__(cls, *map(_encodable, args), **kwargs)

    @classmethod
    def close_all_files(cls) -> None:
        """Does nothing: there are no files."""


def _encodable(part: Any) -> Any:
    """Returns a text with lone surrogates escaped: ``prometheus_client`` accepts them, but no page can contain one."""
    if isinstance(part, str):
        return part.encode(errors="backslashreplace").decode()
    return [_encodable(text) for text in part] if isinstance(part, (list, tuple)) else part


def install() -> None:
    """Replaces the value class, once, and converts metrics that are already registered."""
    if values.ValueClass is StoreValue:
        return
    values.ValueClass = StoreValue
    wrap_metrics()
    _find_registries()
    for metric in _metrics_of(REGISTRY):
        _take_over(metric)
    # prometheus_client warns so about its own files; here the warning would be wrong.
    for message in ("Removal of labels has not been implemented", "Clearing labels has not been implemented"):
        warnings.filterwarnings("ignore", message=message, category=UserWarning)


def wrap_metrics() -> None:
    """Wraps methods whose effect does not pass through a value; a second call changes nothing."""
    if hasattr(metrics.Info, _WRAPPED):
        return
    setattr(metrics.Info, _WRAPPED, True)
    base: Any = metrics.MetricWrapperBase
    _wrap_clear(base)
    _wrap_making(base)
    for numbered in _NUMBERED:
        _wrap_values(numbered)
    _wrap_registration()
    _wrap_function()
    _wrap_then(metrics.Info, "info", _say_info)
    _wrap_then(metrics.Enum, "__init__", _say_state)
    _wrap_then(metrics.Enum, "state", _say_state)


def is_merged(registry: Any) -> bool:
    """Returns whether the page shows the metrics of a registry, with the numbers of all processes."""
    return registry is REGISTRY or getattr(registry, _MERGED, False)


def merge(registry: Any) -> None:
    """Merges a registry from now on: it belongs to a ``MultiProcessCollector``, or to this package."""
    if is_merged(registry):
        return
    setattr(registry, _MERGED, True)
    for metric in _metrics_of(registry):
        _publish(metric, registry)


def _metrics_of(registry: Any) -> list[Any]:
    collectors = list(getattr(registry, "_collector_to_names", {}))
    return [metric for metric in collectors if isinstance(metric, metrics.MetricWrapperBase)]


def _find_registries() -> None:
    """Sorts registries that were made before this package was loaded, for example by a configuration file."""
    registries: list[Any] = []
    shown = {id(metric) for metric in _metrics_of(REGISTRY)}
    for found in gc.get_objects():
        kind = type(found)  # not isinstance(): what is found may be a proxy that does things when it is asked
        if issubclass(kind, CollectorRegistry):
            registries.append(found)
        elif issubclass(kind, metrics.MetricWrapperBase):
            is_parent = hasattr(found, "_kwargs") and not found._labelvalues
            if is_parent and id(found) not in shown:
                _mark(found, None, is_private=True)
            _watch_children(found)
    for registry in registries:
        collectors = getattr(registry, "_collector_to_names", {})
        if any(isinstance(collector, multiprocess.MultiProcessCollector) for collector in collectors):
            merge(registry)
        elif getattr(registry, _MERGED, False):
            for metric in _metrics_of(registry):
                _publish(metric, registry)


def _mark(metric: Any, registry: Any, *, is_private: bool) -> None:
    setattr(metric, _PRIVATE, is_private)
    # Children are made with these arguments, and without their parent's registry.
    metric._kwargs["registry"] = registry
    for child in list(getattr(metric, "_metrics", {}).values()):
        _mark(child, registry, is_private=is_private)


def _publish(metric: Any, registry: Any) -> None:
    """Makes a private metric public: its registry is merged, or the metric is now in one that is."""
    if registry is not REGISTRY:
        NAMES_ELSEWHERE.add(metric._name)
    if not getattr(metric, _PRIVATE, False):
        return
    _mark(metric, registry, is_private=False)
    if values.ValueClass is StoreValue:
        _take_over(metric)


def _take_over(metric: Any) -> None:
    """Makes a metric's values again, with their present numbers."""
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
        # A gauge in a most recent mode needs the time at which it was set.
        set_at = time.time() if getattr(metric, "_is_most_recent", False) else None
        for old, new in zip(before, _numbers(metric), strict=True):
            number = old.get()
            if number != 0.0:
                new.set(number, set_at)
        if metric in FUNCTIONS:
            _await_function(metric)


def _numbers(metric: Any) -> list[Any]:
    named = (getattr(metric, name, None) for name in ("_value", "_count", "_sum"))
    return [value for value in named if value is not None] + list(getattr(metric, "_buckets", ()))


def _say_info(metric: Any) -> None:
    """Shows the present labels of an ``Info``, and nothing else."""
    with metric._lock:
        before: Any = getattr(metric, _FACTS, None)
        facts = dict(metric._value)
        if getattr(metric, _REMOVED, False) or (before is not None and before[0] == facts):
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
    """Shows which of an ``Enum``'s states is true now."""
    with metric._lock:
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


def _wrap_making(base: Any) -> None:
    """Marks private metrics before they have values, and watches the children of all."""
    original = base.__init__

    @functools.wraps(original)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        if "registry" in kwargs:
            registry = kwargs["registry"]
        else:
            registry = args[_REGISTRY_POSITION] if len(args) > _REGISTRY_POSITION else REGISTRY
        if registry is not REGISTRY:
            setattr(self, _PRIVATE, not is_merged(registry))
        original(self, *args, **kwargs)
        _watch_children(self)
        if registry is not REGISTRY:
            self._kwargs["registry"] = registry

    base.__init__ = init


def _wrap_values(metric_type: Any) -> None:
    original = metric_type._metric_init

    @functools.wraps(original)
    def metric_init(self: Any) -> None:
        if _is_private(self):
            _making.is_private = True
            try:
                original(self)
            finally:
                _making.is_private = False
            return
        if self._unit:
            _native.set_unit(self._name, self._unit)
        original(self)

    metric_type._metric_init = metric_init


def _is_private(metric: Any) -> bool:
    # Tests that simulate several processes have a value class of their own, and no default registry.
    return values.ValueClass is StoreValue and getattr(metric, _PRIVATE, False)


def _wrap_registration() -> None:
    original = CollectorRegistry.register

    @functools.wraps(original)
    def register(self: Any, collector: Any) -> None:
        original(self, collector)
        if isinstance(collector, multiprocess.MultiProcessCollector):
            merge(self)
        elif is_merged(self) and isinstance(collector, metrics.MetricWrapperBase):
            _publish(collector, self)

    CollectorRegistry.register = register  # type: ignore[method-assign]


def _wrap_function() -> None:
    original = metrics.Gauge.set_function

    @functools.wraps(original)
    def set_function(self: metrics.Gauge, f: Callable[[], float]) -> None:
        original(self, f)
        if not _is_private(self):
            FUNCTIONS[self] = f
            _await_function(self)

    metrics.Gauge.set_function = set_function  # type: ignore[method-assign]


def _await_function(gauge: Any) -> None:
    # A process that never evaluates the function, such as an arbiter that has loaded the application, has no value.
    if isinstance(gauge._value, StoreValue):
        gauge._value.set_by_function()


def _wrap_then(metric_type: Any, name: str, then: Callable[[Any], None]) -> None:
    original = getattr(metric_type, name)

    @functools.wraps(original)
    def method(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        if issubclass(values.ValueClass, StoreValue) and not _is_private(self) and self._is_observable():
            then(self)

    setattr(metric_type, name, method)


class Children(dict[Any, Any]):
    """The children of a metric, by their label values. One that is removed ends at once.

    ``prometheus_client`` holds the metric's lock wherever it removes or makes a child. So no thread can make a child
    with the same labels before the old one has ended, and go on with its value.
    """

    __slots__ = ()

    def __delitem__(self, labels: Any) -> None:
        """Does so in ``remove``."""
        _retire(self[labels])
        super().__delitem__(labels)

    def pop(self, labels: Any, *default: Any) -> Any:
        """Does so in ``remove_by_labels``."""
        if labels in self:
            _retire(self[labels])
        return super().pop(labels, *default)

    def clear(self) -> None:
        """Does so in ``clear``."""
        for child in self.values():
            _retire(child)
        super().clear()


def _watch_children(metric: Any) -> None:
    if type(getattr(metric, "_metrics", None)) is dict:
        with metric._lock:
            metric._metrics = Children(metric._metrics)


def _wrap_clear(base: Any) -> None:
    original = base.clear

    @functools.wraps(original)
    def clear(self: Any) -> None:
        children = getattr(self, "_metrics", None)
        if not isinstance(children, Children):
            original(self)
            return
        with self._lock:
            children.clear()
        # The original warns, and replaces the dictionary: that of a copy.
        original(copy.copy(self))

    base.clear = clear


def _retire(child: Any) -> None:
    if isinstance(child, metrics.Info):
        with child._lock:
            setattr(child, _REMOVED, True)
    facts = getattr(child, _FACTS, ())
    for value in [*_numbers(child), *facts]:
        if isinstance(value, StoreValue):
            value.retire()
