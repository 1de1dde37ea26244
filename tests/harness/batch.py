"""A second implementation of the batch format, written from `redis-module/BATCH.md` alone."""

import struct
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from typing_extensions import Self

K = TypeVar("K", bound=Hashable)

INCREMENTAL, FULL, MORE, LAST = 0, 1, 2, 0x80

MODES = ("all", "liveall", "min", "livemin", "max", "livemax", "sum", "livesum", "mostrecent", "livemostrecent")


def varint(number: int) -> bytes:
    """Unsigned LEB128, in its shortest form."""
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def floating(number: float) -> bytes:
    """IEEE 754 binary64, little-endian."""
    return struct.pack("<d", number)


def text(string: str) -> bytes:
    """Length and UTF-8."""
    encoded = string.encode()
    return varint(len(encoded)) + encoded


@dataclass(frozen=True)
class Family:
    """A family as a batch names it."""

    kind: int
    name: str
    mode: int = 0
    help: str = ""
    unit: str = ""

    def encode(self) -> bytes:
        """Returns the entry FAMILY (1)."""
        return bytes([1, self.kind, self.mode]) + text(self.name) + text(self.help) + text(self.unit)


def counter(name: str, help: str = "") -> Family:
    """A counter's family."""
    return Family(0, name, help=help)


def gauge(name: str, mode: str = "sum", help: str = "") -> Family:
    """A gauge's family, in a mode."""
    return Family(1, name, MODES.index(mode), help=help)


def histogram(name: str, help: str = "") -> Family:
    """A histogram's family."""
    return Family(2, name, help=help)


def summary(name: str, help: str = "") -> Family:
    """A summary's family."""
    return Family(4, name, help=help)


@dataclass(frozen=True)
class Buckets:
    """A point of a histogram (a summary has no bounds and one count); counts are not cumulative."""

    total: float
    counts: Sequence[int]
    bounds: Sequence[str] = ()


@dataclass(frozen=True)
class Timed:
    """A point of a gauge in a mostrecent mode."""

    value: float
    time: float


Point = float | Timed | Buckets


@dataclass
class Batch:
    """One batch, entry by entry."""

    kind: int = INCREMENTAL
    forgotten_seq: int = 0
    registry_ttl_ms: int = 0
    entries: list[bytes] = field(default_factory=list)
    _families: dict[Family, int] = field(default_factory=dict)
    _layouts: dict[tuple[str, ...], int] = field(default_factory=dict)

    @classmethod
    def full(cls, *, last: bool = True, forgotten_seq: int = 0, registry_ttl_ms: int = 0) -> Self:
        """Returns the first batch of a full state; by default it is also the last."""
        return cls(FULL | (LAST if last else 0), forgotten_seq, registry_ttl_ms)

    @classmethod
    def more(cls, *, last: bool) -> Self:
        """Returns a further batch of a full state."""
        return cls(MORE | (LAST if last else 0))

    def define(
        self,
        family: Family,
        labels: Mapping[str, str],
        point: Point,
        *,
        base: Point | None = None,
        pid: str = "",
        ttl_ms: int = 0,
    ) -> Self:
        """Defines the next series of the writer."""
        number = self._number(self._families, family, family.encode)
        pairs = b"".join(text(name) + text(value) for name, value in labels.items())
        layout = b""
        if isinstance(point, Buckets) and family.kind == 2:
            bounds = tuple(point.bounds)
            layout = varint(self._number(self._layouts, bounds, lambda: _layout(bounds)))
        ending = b"\0" if base is None else b"\1" + _point(base, family)
        head = b"\3" + varint(number) + varint(ttl_ms) + varint(len(labels)) + pairs + text(pid)
        self.entries.append(head + layout + _point(point, family) + ending)
        return self

    def value(self, index: int, value: float) -> Self:
        """Sets a new value of a counter or gauge."""
        self.entries.append(b"\4" + varint(1) + struct.pack("<I", index) + floating(value))
        return self

    def timed(self, index: int, value: float, time: float) -> Self:
        """Sets a new value of a gauge in a mostrecent mode."""
        self.entries.append(b"\5" + varint(index) + floating(value) + floating(time))
        return self

    def buckets(self, index: int, total: float, changed: Mapping[int, int]) -> Self:
        """Sets new counts of some buckets."""
        pairs = b"".join(varint(bucket) + varint(count) for bucket, count in sorted(changed.items()))
        self.entries.append(b"\6" + varint(index) + floating(total) + varint(len(changed)) + pairs)
        return self

    def retire(self, index: int) -> Self:
        """Ends the writer's ownership of this series."""
        self.entries.append(b"\7" + varint(index))
        return self

    def encode(self) -> bytes:
        """Returns the bytes of the batch."""
        head = bytes([1, self.kind]) + varint(self.forgotten_seq) + varint(self.registry_ttl_ms)
        return head + varint(len(self.entries)) + b"".join(self.entries)

    def _number(self, known: dict[K, int], key: K, encode: Callable[[], bytes]) -> int:
        if key not in known:
            known[key] = len(known)
            self.entries.append(encode())
        return known[key]


def _layout(bounds: Sequence[str]) -> bytes:
    return b"\2" + varint(len(bounds)) + b"".join(text(bound) for bound in bounds)


def _point(point: Point, family: Family) -> bytes:
    if isinstance(point, Timed):
        return floating(point.value) + floating(point.time)
    if isinstance(point, Buckets):
        if family.kind == 4:
            return floating(point.total) + varint(point.counts[0])
        return floating(point.total) + b"".join(varint(count) for count in point.counts)
    return floating(point)
