"""The plain application, with metrics that must be evaluated, some of which fail, so that rare families appear."""

from collections.abc import Iterable, Iterator

from prometheus_client import REGISTRY, Gauge, Metric

from apps.plain import app

__all__ = ["app"]

# A gauge here; in Redis it is a counter by then.
Gauge("shop_conflict", "What somebody else calls otherwise", multiprocess_mode="livesum").set(1)
Gauge("shop_asked", "A number that has to be asked for", multiprocess_mode="livesum").set_function(lambda: 1.0)


class Failing:
    """A custom collector that always fails."""

    def describe(self) -> Iterable[Metric]:
        """Returns nothing, so that registration does not call `collect`."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Fails each time."""
        raise ValueError("the pool is closed")


REGISTRY.register(Failing())
