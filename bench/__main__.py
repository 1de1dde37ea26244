"""Runs every measurement, prints one table, and writes it to bench/results.md. Never fails.

python -m bench            everything, a few minutes
python -m bench --quick    fewer rounds: to see that it runs
"""

import argparse
import datetime
import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from bench import (  # noqa: E402
    capacity,
    instructions,
    memory,
    outages,
    page_sizes,
    pages,
    peers,
    redis_commands,
    redis_direct,
    redis_traffic,
    requests,
    start,
    values,
)
from bench.table import Row, render  # noqa: E402

MEASUREMENTS: tuple[tuple[str, Callable[[bool], list[Row]]], ...] = (
    ("CPU of a worker per request", requests.measure),
    (f"CPU of a worker per request, beside others, Gunicorn {peers.GUNICORN}", capacity.measure),
    ("Instructions of a worker per request", instructions.measure),
    ("Hooks and prometheus_client values, in a worker", values.measure),
    ("Memory of a worker and of the exporter", memory.measure),
    ("Start of Gunicorn and of workers", start.measure),
    ("Requests while Redis cannot be used", outages.measure),
    ("Redis commands", redis_traffic.measure),
    ("Redis: PUSH and EXPOSE", redis_commands.measure),
    ("Redis: sizes of pages", page_sizes.measure),
    ("Redis: single commands, memory, and other ways", redis_direct.measure),
    ("/metrics", pages.measure),
)


def main() -> None:
    """Runs all measurements, one after the other."""
    parser = argparse.ArgumentParser(prog="make bench")
    parser.add_argument("--quick", action="store_true", help="fewer rounds: only to see that it runs")
    quick = parser.parse_args().quick

    parts = []
    for title, measure in MEASUREMENTS:
        print(f"{title} ...", file=sys.stderr, flush=True)
        try:
            rows = measure(quick)
        except Exception as error:
            rows = [Row("not measured", f"{type(error).__name__}: {error}".splitlines()[0], "", "")]
        parts.append((title, rows))

    page = render(parts, machine(), quick=quick)
    print(page)
    (ROOT / "bench" / "results.md").write_text(page)


def machine() -> str:
    """Describes the run: date, cores, processor, kernel, load."""
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    day = datetime.datetime.now(datetime.timezone.utc).date()
    return f"{day}, {os.cpu_count()} cores, {platform.machine()}, Linux {platform.release()}, load at the end {load}"


if __name__ == "__main__":
    main()
