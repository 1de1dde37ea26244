"""``python -m gunicorn_prometheus_exporter``: the exporter's command line, without a program of its own."""

from __future__ import annotations

import signal
import sys

from . import _native


def main() -> int:
    """Runs it; the exit status."""
    # Python would only note these, and look after them when the program has ended.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    return _native.run_program(["python -m gunicorn_prometheus_exporter", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
