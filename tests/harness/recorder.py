"""Scrapes taken repeatedly, as Prometheus would, and its `increase()` over them."""

import itertools
import threading
from collections import defaultdict
from types import TracebackType

from typing_extensions import Self

from harness.scrape import Scrape, scrape

Series = tuple[tuple[str, str], ...]


class Recorder:
    """Scrapes a page from `__enter__` to `__exit__`. An answer that is not a page (503) counts as a failed scrape."""

    def __init__(self, url: str, *, interval: float = 0.2) -> None:
        """`interval` in seconds between the end of a scrape and the next."""
        self.scrapes: list[Scrape] = []
        self.failures = 0
        self._url = url
        self._interval = interval
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def take(self) -> Scrape:
        """Takes one scrape now."""
        page = scrape(self._url)
        self.scrapes.append(page)
        return page

    def series(self, name: str) -> dict[Series, list[float]]:
        """Returns the values that each series of that sample name had, in the order of the scrapes."""
        found: dict[Series, list[float]] = defaultdict(list)
        for page in list(self.scrapes):
            for sample in page.samples(name):
                found[tuple(sorted(sample.labels.items()))].append(sample.value)
        return found

    def increase(self, name: str) -> float:
        """Returns `sum(increase(name[all time]))`, not extrapolated: from each series' first scrape to its last."""
        return sum(increase(values) for values in self.series(name).values())

    def resets(self, name: str) -> int:
        """Returns how often a series of that name went down."""
        return sum(
            after < before for values in self.series(name).values() for before, after in itertools.pairwise(values)
        )

    def _run(self) -> None:
        while not self._stop.wait(self._interval):
            try:
                self.take()
            except OSError:
                self.failures += 1

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()


def increase(values: list[float]) -> float:
    """Returns the increase of one series. A counter that goes down has restarted at zero: all of it counts."""
    return sum(after - before if after >= before else after for before, after in itertools.pairwise(values))
