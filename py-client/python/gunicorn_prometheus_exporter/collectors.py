"""Evaluates gauges with ``set_function`` and custom collectors.

A worker evaluates them in ``notify``, which is called about once a second: while pages are read (for five
minutes after a scrape and after the worker's start), and for at most a hundredth of its time. The exporter holds the
first page after a longer pause until they are evaluated. So a page is at most 1.5 s old, and
``gunicorn_exporter_collected_timestamp_seconds`` says when they were evaluated.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from prometheus_client import (
    GC_COLLECTOR,
    PLATFORM_COLLECTOR,
    PROCESS_COLLECTOR,
    REGISTRY,
    Metric,
    metrics,
    multiprocess,
)

from . import _native, values

_SHARE_OF_TIME = 0.01
_DEFAULT = (GC_COLLECTOR, PLATFORM_COLLECTOR, PROCESS_COLLECTOR)
_SCALARS = ("counter", "gauge", "unknown", "untyped", "info", "stateset")


class Evaluator:
    """Evaluates the functions, and keeps their results."""

    def __init__(self) -> None:
        self._not_before = 0.0
        self._told: dict[Any, _Told] = {}
        self._when: Any = None

    def __call__(self) -> bool:
        """Evaluates if it is time; returns whether it did."""
        began = time.monotonic()
        if began < self._not_before:
            return False
        self._evaluate()
        ended = time.monotonic()
        self._not_before = ended + (ended - began) / _SHARE_OF_TIME
        return True

    def _evaluate(self) -> None:
        custom = [collector for collector in list(REGISTRY._collector_to_names) if _is_custom(collector)]
        functions = values.functions()
        if not custom and not functions:
            return
        for gauge, function in functions:
            try:
                gauge._value.set(float(function()))
            except Exception as error:  # the application's code may raise anything
                _native.report_failure("set_function", f"{gauge._name}: {type(error).__name__}: {error}")
        told: set[Any] = set()
        has_failed = False
        for collector in custom:
            try:
                for family in collector.collect():
                    told.update(self._tell(family))
            except Exception as error:  # the same
                has_failed = True
                name = type(collector).__name__
                _native.report_failure("custom_collectors", f"{name}: {type(error).__name__}: {error}")
        # A collector that has failed has not said which series are gone.
        if not has_failed:
            for key in self._told.keys() - told:
                self._retire(key)
        if self._when is None:
            self._when = _when()
        self._when.set(time.time())

    def _retire(self, key: Any) -> None:
        """Ends a series that no collector returns. What was counted stays known, in case it comes back."""
        self._told[key].retire()
        if not self._told[key].counts:
            del self._told[key]

    def _tell(self, family: Metric) -> Iterable[Any]:
        """Stores a family's samples; returns their keys."""
        if family.type not in (*_SCALARS, "histogram", "summary"):
            raise TypeError(f"{family.name} is a {family.type}, which processes cannot put together")
        if family.unit:
            _native.set_unit(family.name, family.unit)
        for labels, samples in _by_series(family).items():
            key = (family.name, family.type, labels)
            told = self._told.get(key)
            if told is None:
                told = self._told[key] = _Told(family, labels)
            told.take(samples)
            yield key


def _when() -> values.StoreValue:
    (family,) = (f for f in _native.described() if f.name == "gunicorn_exporter_collected_timestamp_seconds")
    name, mode = family.name, family.mode or ""
    return values.StoreValue(family.kind, name, name, (), (), family.help, multiprocess_mode=mode)


class _Told:
    """One series of a custom collector, in this process' store."""

    def __init__(self, family: Metric, labels: tuple[tuple[str, str], ...]) -> None:
        self._family = family
        self._labels = labels
        self._values: dict[str, values.StoreValue] = {}
        self.counts = family.type in ("counter", "histogram", "summary")
        self._is_retired = False

    def take(self, samples: dict[str, float]) -> None:
        """Sets the values: by sample names without the family's, or a bucket's bound."""
        if not self._values:
            self._make(samples)
        if self._is_retired:
            self._is_retired = False
            for value in self._values.values():
                value.revive()
        before = 0.0
        for suffix, value in self._values.items():
            told = samples.get(suffix, 0.0)
            if suffix.startswith("le="):
                # On a page a bucket includes the lower ones, in a store it does not.
                told, before = told - before, told
            value.set(told)

    def retire(self) -> None:
        """Removes the series, because the collector no longer returns it."""
        if not self._is_retired:
            self._is_retired = True
            for value in self._values.values():
                value.retire()

    def _make(self, samples: dict[str, float]) -> None:
        kind = self._family.type
        if kind == "histogram":
            self._add("_sum", "histogram", "_sum")
            for bound in sorted((s for s in samples if s.startswith("le=")), key=lambda s: float(s[3:])):
                self._add(bound, "histogram", "_bucket", ("le", bound[3:]))
        elif kind == "summary":
            self._add("_count", "summary", "_count")
            self._add("_sum", "summary", "_sum")
        else:
            stored = kind if kind in ("counter", "info", "stateset") else "gauge"
            for suffix in samples:
                self._add(suffix, stored, "")

    def _add(self, suffix: str, kind: str, part: str, *more: tuple[str, str]) -> None:
        labels = [*self._labels, *more]
        name = self._family.name
        self._values[suffix] = values.StoreValue(
            kind,
            name,
            name + part,
            tuple(label for label, _ in labels),
            tuple(text for _, text in labels),
            self._family.documentation,
            multiprocess_mode="liveall" if kind == "gauge" else "",
        )


def _by_series(family: Metric) -> dict[tuple[tuple[str, str], ...], dict[str, float]]:
    """Returns a family's samples by the labels of their series. Quantiles and start times cannot be aggregated."""
    found: dict[tuple[tuple[str, str], ...], dict[str, float]] = {}
    for sample in family.samples:
        suffix = sample.name.removeprefix(family.name)
        if suffix in ("_created", "_gsum", "_gcount") or (family.type == "summary" and "quantile" in sample.labels):
            continue
        labels = dict(sample.labels)
        if suffix == "_bucket":
            suffix = "le=" + labels.pop("le")
        found.setdefault(tuple(sorted(labels.items())), {})[suffix] = float(sample.value)
    return found


def _is_custom(collector: Any) -> bool:
    return collector not in _DEFAULT and not isinstance(
        collector, (metrics.MetricWrapperBase, multiprocess.MultiProcessCollector)
    )
