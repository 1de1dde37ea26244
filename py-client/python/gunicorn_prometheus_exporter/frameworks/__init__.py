"""What a framework knows and WSGI does not: the route, and the exceptions that it answers itself.

Each integration is one file, loaded only when its framework is. It writes two entries into the WSGI
environment, which the recorder reads when the request has ended:

* ``ENDPOINT``: the template of the route, ``/users/<int:id>``;
* ``ERRORS``: a list of pairs, the name of an exception's class and whether nobody had expected it.

A version of a framework that has moved a name loses its label, and no request.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

ENDPOINT = "gunicorn_prometheus_exporter.endpoint"
ERRORS = "gunicorn_prometheus_exporter.errors"

_KNOWN = ("flask",)
_installed: set[str] = set()


def install_loaded() -> list[tuple[str, Exception]]:
    """Integrates the frameworks that are loaded and were not; returns what failed."""
    failures: list[tuple[str, Exception]] = []
    for name in _KNOWN:
        if name in _installed or name not in sys.modules:
            continue
        _installed.add(name)
        try:
            importlib.import_module(f"{__name__}.{name}").install()
        except Exception as error:  # whatever a future version of the framework does
            failures.append((name, error))
    return failures


def note_error(environ: dict[str, Any], error: BaseException, *, unexpected: bool) -> None:
    """Notes an exception; one that is noted again was not expected after all."""
    errors: list[tuple[str, bool]] = environ.setdefault(ERRORS, [])
    name = type(error).__name__
    if errors and errors[-1][0] == name:
        errors[-1] = (name, unexpected or errors[-1][1])
    else:
        errors.append((name, unexpected))
