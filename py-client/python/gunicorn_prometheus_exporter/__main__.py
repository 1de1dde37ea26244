"""``python -m gunicorn_prometheus_exporter``: the exporter's command line, run by the interpreter."""

from __future__ import annotations

import signal
import sys

from . import _native


def main() -> int:
    """Runs it; returns the exit status."""
    # Python's own handlers would only note these signals, and run after the program has ended.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    return _native.run_program(["python -m gunicorn_prometheus_exporter", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
