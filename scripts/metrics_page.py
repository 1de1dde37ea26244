"""Prints docs/metrics.md, from the catalogue of the installed package: `make docs`."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator

from gunicorn_prometheus_exporter._native import Described, described

SUFFIXES = {"counter": "_total", "info": "_info"}
SECTIONS = (
    ("gunicorn_http_", "Requests by endpoint", "Of all workers together, so that these series do not grow with them."),
    ("gunicorn_backlog_", "What waits", "Measured by the exporter each second."),
    (
        "gunicorn_worker",
        "Workers",
        "By the slot of a worker: one that is started in the place of another goes on with its series.",
    ),
    ("gunicorn_master_", "The master", "Counted in the arbiter."),
    ("", "About the metrics themselves", "On the same page as all others."),
)
OWN = (
    "The exporter's own",
    "At `/-/metrics`, not `/metrics`: they answer also while Redis is away. Each exporter process has its own.",
)
HEAD = """\
# Metrics

Every metric that this package exports, with its type, labels, and a query to begin with. The application's own metrics,
declared with `prometheus_client`, are on the same page under their own names.

This page is written by `make docs` from the catalogue that the code takes names, types and help from
([store/src/catalogue](../store/src/catalogue)); a test compares it with what running instances say.

Histograms have the samples `_bucket` (with `le`), `_sum` and `_count`. OpenMetrics 1.0.0 allows no sum that is negative
or NaN, and none beside a negative bucket bound: there (only there) such a histogram has neither `_sum` nor `_count`,
and such a summary has no `_sum`. The count is that of the bucket `le="+Inf"`. OpenMetrics and protobuf carry start
times of
counters and histograms as well. A gauge ends with the process that it is of. `worker_id` is `<instance>:<slot>`; the
instance is `exporter.instance`, or the host's name and the port of the first bind.
"""


def main() -> None:
    """Returns the whole page."""
    print(page(described()), end="")


def page(families: Iterable[Described]) -> str:
    """In Markdown: one table for an overview, then each family."""
    sections: dict[tuple[str, str], list[Described]] = {(title, text): [] for _, title, text in SECTIONS}
    sections[OWN] = []
    for family in families:
        sections[_section(family)].append(family)
    parts = [HEAD, "| metric | type | labels |\n| --- | --- | --- |\n" + "".join(map(_row, _all(sections)))]
    for (title, text), found in sections.items():
        parts.append(f"## {title}\n\n{_wrapped(text)}\n")
        parts.extend(map(_described, found))
    return "\n".join(parts)


def shown_name(family: Described) -> str:
    """As a scrape has it, of a counter with `_total`."""
    return family.name + SUFFIXES.get(family.kind, "")


def _section(family: Described) -> tuple[str, str]:
    if family.page != "/metrics":
        return OWN
    return next((title, text) for prefix, title, text in SECTIONS if family.name.startswith(prefix))


def _all(sections: dict[tuple[str, str], list[Described]]) -> Iterator[Described]:
    for found in sections.values():
        yield from found


def _row(family: Described) -> str:
    name = f"`{shown_name(family)}`" + ("" if family.page == "/metrics" else f" at `{family.page}`")
    return f"| {name} | {family.kind} | {_labels(family)} |\n"


def _described(family: Described) -> str:
    labels = _labels(family) or "no labels"
    text = _wrapped(f"{family.help.rstrip('.')}. {family.meaning}")
    return f"### {shown_name(family)}\n\n{family.kind}; {labels}\n\n{text}\n\n```promql\n{family.query}\n```\n"


def _labels(family: Described) -> str:
    return ", ".join(f"`{label}`" for label in family.labels)


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False)


if __name__ == "__main__":
    main()
