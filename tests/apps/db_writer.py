"""A process that writes .db files with prometheus_client alone, as the lines on its standard input say."""

import json
import sys
from typing import Any, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary

Mode = Literal["all", "liveall", "min", "livemin", "max", "livemax", "sum", "livesum", "mostrecent", "livemostrecent"]
MODES: tuple[Mode, ...] = (
    "all", "liveall", "min", "livemin", "max", "livemax", "sum", "livesum", "mostrecent", "livemostrecent",
)  # fmt: skip


class Writer:
    """The metrics of this process; each is made when it is first used."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.made: dict[str, Any] = {}

    def metric(self, name: str, kind: str, labels: list[str], layout: list[float]) -> Any:
        """`kind` is counter, summary, histogram, or a gauge's mode."""
        if name not in self.made:
            text = f'Help of {name}: "quoted", back\\slash\nand a second line'
            if kind == "counter":
                self.made[name] = Counter(name, text, labels, registry=self.registry)
            elif kind == "summary":
                self.made[name] = Summary(name, text, labels, registry=self.registry)
            elif kind == "histogram":
                self.made[name] = Histogram(name, text, labels, registry=self.registry, buckets=layout)
            else:
                mode = next(mode for mode in MODES if mode == kind)
                self.made[name] = Gauge(name, text, labels, registry=self.registry, multiprocess_mode=mode)
        return self.made[name]

    def do(self, operation: dict[str, Any]) -> None:
        """Runs one operation."""
        labels: dict[str, str] = operation["labels"]
        metric = self.metric(operation["name"], operation["kind"], sorted(labels), operation["layout"])
        child = metric.labels(**labels) if labels else metric
        getattr(child, operation["method"])(*operation["arguments"])


def main() -> None:
    """Answers each line when it is done."""
    writer = Writer()
    for line in sys.stdin:
        for operation in json.loads(line):
            writer.do(operation)
        print("done", flush=True)


if __name__ == "__main__":
    main()
