"""The plain application, with what makes the rarer families appear: numbers to be asked for, some of which fail."""

from collections.abc import Iterable, Iterator

from prometheus_client import REGISTRY, Gauge, Metric

from apps.plain import app

__all__ = ["app"]

# In Redis it is a counter by then.
Gauge("shop_conflict", "What somebody else calls otherwise", multiprocess_mode="livesum").set(1)
Gauge("shop_asked", "A number that has to be asked for", multiprocess_mode="livesum").set_function(lambda: 1.0)


class Failing:
    """A custom collector that cannot say anything."""

    def describe(self) -> Iterable[Metric]:
        """Nothing that would call `collect` at registration."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Fails each time."""
        raise ValueError("the pool is closed")


REGISTRY.register(Failing())
