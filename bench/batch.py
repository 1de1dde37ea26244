"""A writer with many counters, in the batches of redis-module/BATCH.md."""

import struct
from collections.abc import Iterator

from harness.batch import FULL, INCREMENTAL, LAST, MORE, text, varint

MOST_ENTRIES = 4096

_COUNTER = 0
_FAMILY, _DEFINE, _VALUES = 1, 3, 4


def batch(kind: int, count: int, entries: bytes = b"") -> bytes:
    """Returns a batch: a header and the entries."""
    return bytes([1, kind]) + varint(0) + varint(0) + varint(count) + entries


def full_state(family: str, series: int) -> Iterator[bytes]:
    """Returns the run of batches that defines this number of counters, each with the value 1."""
    head = bytes([_FAMILY, _COUNTER, 0]) + text(family) + text("Requests that were made.") + text("")
    per_batch = MOST_ENTRIES - 1
    for begin in range(0, series, per_batch):
        numbers = range(begin, min(begin + per_batch, series))
        kind = (FULL if begin == 0 else MORE) | (LAST if numbers.stop == series else 0)
        yield batch(kind, 1 + len(numbers), head + b"".join(map(_define, numbers)))


def update(first: int, value: float, series: int = MOST_ENTRIES) -> bytes:
    """Returns a batch with a new value for this number of series, from index `first` on: `value` more than at first."""
    pair = struct.Struct("<Id")
    values = b"".join(pair.pack(index, first_value(index) + value) for index in range(first, first + series))
    return batch(INCREMENTAL, series, bytes([_VALUES]) + varint(series) + values)


def first_value(number: int) -> float:
    """Returns what a counter begins with: up to 10^12, one in eight with a fraction, as sums of seconds have."""
    whole = number * 2_654_435_761 % 10**12
    return whole / 1000 if number % 8 == 0 else float(whole)


def _define(number: int) -> bytes:
    labels = {
        "endpoint": f"/api/v1/customers/<int:id>/orders/{number}",
        "method": "GET",
        "status": "200",
        "zone": "eu-1",
    }
    words = b"".join(text(name) + text(value) for name, value in labels.items())
    point = struct.pack("<d", first_value(number)) + bytes([0])
    return bytes([_DEFINE]) + varint(0) + varint(0) + varint(len(labels)) + words + text("") + point
