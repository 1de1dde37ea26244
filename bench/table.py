"""The table of results, and its statistics."""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple


class Row(NamedTuple):
    """One line of the table: title, our figure, the peer or limit in the same run, and the budget."""

    what: str
    ours: str
    peer: str
    budget: str


def render(parts: Sequence[tuple[str, Sequence[Row]]], machine: str, *, quick: bool) -> str:
    """Returns the page, in Markdown that is also readable as plain text."""
    lines = ["# What it costs", "", f"Written by `make bench`: {machine}.", ""]
    if quick:
        lines += ["A quick run, only to see that it works: the figures mean little.", ""]
    lines += [
        "The machine is shared and noisy: every figure stands beside its peer in the same run, sides alternating.",
        "Ratios are medians of rounds, with the 95 % interval of the median in brackets.",
    ]
    for title, rows in parts:
        header = Row(title, "measured", "beside, same run", "budget")
        widths = [max(len(row[column]) for row in (header, *rows)) for column in range(4)]
        lines += ["", _line(header, widths), "| " + " | ".join("-" * width for width in widths) + " |"]
        lines += [_line(row, widths) for row in rows]
    return "\n".join(lines) + "\n"


def _line(row: Row, widths: Sequence[int]) -> str:
    return "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"


class Median(NamedTuple):
    """A median, and the interval of order statistics that contains it with a probability of 95 %."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


def median(values: Sequence[float]) -> Median:
    """Assumes no distribution of the values. Below six values the interval is all of them."""
    ordered, n = sorted(values), len(values)
    if n < 6:
        return Median(statistics.median(ordered), ordered[0], ordered[-1])
    reach = 0.98 * math.sqrt(n)
    low, high = max(0, math.floor((n - reach) / 2)), min(n - 1, math.ceil((n + reach) / 2))
    return Median(statistics.median(ordered), ordered[low], ordered[high])


def nanoseconds(value: float) -> str:
    """Spells the value with a fitting unit."""
    if value >= 1e6:
        return f"{value / 1e6:.1f} ms"
    return f"{value / 1e3:.2f} µs" if value >= 1e3 else f"{value:.0f} ns"
