"""The exporter's command line, run by the interpreter: ``gunicorn-prometheus-exporter``, which the wheel installs, and
``python -m gunicorn_prometheus_exporter``.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from . import _native


def main() -> int:
    """Runs it; returns the exit status."""
    # Python's own handlers would only note these signals, and run after the program has ended.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    name = Path(sys.argv[0]).name
    if name == "__main__.py":
        name = "python -m gunicorn_prometheus_exporter"
    return _native.run_program([name, *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
