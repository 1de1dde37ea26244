"""An application with many label sets; as a program, the cost of prometheus_client's collector for such an application.

python -m bench.many PROCESSES LABEL_SETS ROUNDS

Needs PROMETHEUS_MULTIPROC_DIR. Prints nanoseconds of each collection, as JSON.
"""

import json
import os
import sys
import time

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

LABEL_SETS = 200
BOUNDS = tuple(2.0**power for power in range(-7, 7))


COUNTER = Counter("bench_work", "Work.", ["set"])
HISTOGRAM = Histogram("bench_work_seconds", "Time of it.", ["set"], buckets=BOUNDS)


def work(label_sets: int = LABEL_SETS) -> None:
    """Makes one observation in each label set."""
    for number in range(label_sets):
        COUNTER.labels(str(number)).inc()
        HISTOGRAM.labels(str(number)).observe(number / 10)


def main() -> None:
    """Lets this number of processes write their files, and collects them."""
    processes, label_sets, rounds = map(int, sys.argv[1:])
    for _ in range(processes):
        if os.fork() == 0:
            work(label_sets)
            os._exit(0)
        os.wait()
    figures = []
    for _ in range(rounds):
        begin = time.perf_counter_ns()
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        generate_latest(registry)
        figures.append(time.perf_counter_ns() - begin)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
