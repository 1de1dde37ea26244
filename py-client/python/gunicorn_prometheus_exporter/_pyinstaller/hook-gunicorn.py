"""PyInstaller's hook for Gunicorn, which loads its logger and its workers, and this package's workers, by name."""

from __future__ import annotations

import importlib.util

#: The defaults of its settings, and the workers that need no other library.
BY_NAME = ("glogging", "instrument.statsd", "workers.sync", "workers.gthread", "workers.gasgi", "app.wsgiapp")

hiddenimports = [
    *(name for name in (f"gunicorn.{module}" for module in BY_NAME) if importlib.util.find_spec(name)),
    "gunicorn_prometheus_exporter",
]
