"""What a framework knows and the server does not: the route, and the exceptions that it answers itself.

Each integration is one file, loaded only when its framework is. It writes two entries into the WSGI
environment, which the recorder reads when the request has ended (those of ASGI frameworks: into the
``asgi.Request`` of the scope):

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

# By the module whose presence shows that the framework is in use.
_KNOWN = {
    "bottle": "bottle",
    "cherrypy": "cherrypy",
    "django.core.handlers.base": "django",
    "falcon": "falcon",
    "flask": "flask",
    "pyramid.router": "pyramid",
    "starlette.routing": "starlette",
    "tornado.web": "tornado",
}
_installed: set[str] = set()


def install_loaded() -> list[tuple[str, Exception]]:
    """Integrates the frameworks that are loaded and were not; returns what failed."""
    failures: list[tuple[str, Exception]] = []
    for module, name in _KNOWN.items():
        if name in _installed or module not in sys.modules:
            continue
        _installed.add(name)
        try:
            importlib.import_module(f"{__name__}.{name}").install()
        except Exception as error:  # whatever a future version of the framework does
            failures.append((name, error))
    return failures


class Swallowed(list[tuple[str, bool]]):
    """The exceptions of one request that somebody made an answer of: name, and whether unexpected."""

    def __init__(self) -> None:
        super().__init__()
        # Not the exception itself: its traceback leads back to here.
        self._last: int | None = None

    def note(self, error: BaseException, *, unexpected: bool) -> None:
        """Notes an exception; one that is noted again was not expected after all."""
        name = type(error).__name__
        if id(error) == self._last:
            self[-1] = (name, unexpected or self[-1][1])
        else:
            self.append((name, unexpected))
        self._last = id(error)

    def without(self, error: BaseException | None) -> list[tuple[str, bool]]:
        """Those that did not come as far as the server in the end."""
        return self[:-1] if error is not None and id(error) == self._last else self


def note_error(environ: dict[str, Any], error: BaseException, *, unexpected: bool = False) -> None:
    """Notes an exception of a WSGI request that the framework makes an answer of."""
    errors = environ.get(ERRORS)
    if errors is None:
        errors = environ[ERRORS] = Swallowed()
    errors.note(error, unexpected=unexpected)


def wrap(owner: Any, name: str, make: Any) -> None:
    """Puts ``make(original)`` in the place of a function, if the framework has it."""
    original = getattr(owner, name, None)
    if original is not None:
        setattr(owner, name, make(original))
