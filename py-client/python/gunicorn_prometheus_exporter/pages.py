"""Parses a page of metrics into ``prometheus_client``'s objects, with the samples in its order."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

_SINCE = ("counter", "histogram", "summary")
_ORDER = {"_sum": 0, "_bucket": 1, "_count": 2}


def families(page: str, *, created: bool = False) -> Iterator[Metric]:
    """Yields the families of an OpenMetrics page; ``created``: with the samples of start times."""
    for family in text_string_to_metric_families(page):  # type: ignore[no-untyped-call]
        if not created and family.type in _SINCE:
            name = f"{family.name}_created"
            family.samples = [sample for sample in family.samples if sample.name != name]
        if family.type == "histogram":
            _reorder(family)
        yield family


def _reorder(histogram: Metric) -> None:
    """Orders sum, buckets and count of one series after the other, as a page ends with the sum."""
    groups: dict[tuple[tuple[str, str], ...], list[Sample]] = {}
    for sample in histogram.samples:
        labels = tuple(sorted(label for label in sample.labels.items() if label[0] != "le"))
        groups.setdefault(labels, []).append(sample)
    histogram.samples = [
        sample
        for group in groups.values()
        for sample in sorted(group, key=lambda one: _ORDER.get(one.name.removeprefix(histogram.name), 3))
    ]
