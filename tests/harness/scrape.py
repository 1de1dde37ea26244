"""Pages as a scraper sees them, read by prometheus_client's parsers, which are not our own code."""

import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from prometheus_client.samples import Sample

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


@dataclass(frozen=True)
class Scrape:
    """One page, parsed.

    Methods take labels as filters: a given label must match, other labels may have any value. None stands for a label
    that must be absent.
    """

    body: str
    content_type: str

    @cached_property
    def families(self) -> dict[str, Metric]:
        """The families by name, as the parser spells it (counters without `_total`)."""
        parse = parse_openmetrics if "openmetrics" in self.content_type else parse_text
        found: dict[str, Metric] = {}
        for family in parse(self.body):
            assert family.name not in found, f"the page has two families {family.name}"
            found[family.name] = family
        return found

    @cached_property
    def all_samples(self) -> list[Sample]:
        """The samples of every family, in the order of the page."""
        return [sample for family in self.families.values() for sample in family.samples]

    def samples(self, name: str, **labels: str | None) -> list[Sample]:
        """Returns the samples of that name with those labels."""
        return [sample for sample in self.all_samples if sample.name == name and _matches(sample, labels.items())]

    def value(self, name: str, **labels: str | None) -> float:
        """Returns the value of the one sample of that name with those labels; more or none is an AssertionError."""
        found = self.samples(name, **labels)
        assert len(found) == 1, f"{len(found)} samples match {name}{labels or ''}, expected one: {found}"
        return float(found[0].value)

    def sum(self, name: str, **labels: str | None) -> float:
        """Returns the sum over all samples of that name with those labels; 0 if there is none."""
        return float(sum(sample.value for sample in self.samples(name, **labels)))

    def values_of(self, label: str, name: str, **labels: str | None) -> set[str]:
        """Returns the values that a label has in those samples."""
        return {sample.labels[label] for sample in self.samples(name, **labels) if label in sample.labels}


def scrape(url: str, *, accept: str | None = None, timeout: float = 10.0) -> Scrape:
    """Fetches and checks one page. An answer other than 200 raises urllib.error.HTTPError, which is an OSError."""
    request = urllib.request.Request(url, headers={"Accept": accept} if accept else {})
    with urllib.request.urlopen(request, timeout=timeout) as answer:
        return Scrape(answer.read().decode(), answer.headers["Content-Type"])


def _matches(sample: Sample, wanted: Iterable[tuple[str, str | None]]) -> bool:
    return all(sample.labels.get(name) == value for name, value in wanted)
