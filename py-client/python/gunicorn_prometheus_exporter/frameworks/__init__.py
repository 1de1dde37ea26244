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

# Where an application has others mounted in it: the SCRIPT_NAME that it was called with, and what was noted in the
# copies that it may have made of the environment.
_OUTSIDE = "gunicorn_prometheus_exporter.outside"
_NOTES = "gunicorn_prometheus_exporter.notes"

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
    "werkzeug.middleware.dispatcher": "werkzeug",
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


def name_route(environ: dict[str, Any], template: str) -> None:
    """Names the route of a WSGI request, as it is seen from outside of all applications."""
    _note(environ, ENDPOINT, _mounted_at(environ) + template)


def name_handler(environ: dict[str, Any], name: str) -> None:
    """Names what has answered a WSGI request where there are no routes."""
    _note(environ, ENDPOINT, name)


def note_error(environ: dict[str, Any], error: BaseException, *, unexpected: bool = False) -> None:
    """Notes an exception of a WSGI request that the framework makes an answer of."""
    errors = environ.get(ERRORS)
    if errors is None:
        errors = Swallowed()
        _note(environ, ERRORS, errors)
    errors.note(error, unexpected=unexpected)


def dispatching(original: Any) -> Any:
    """A WSGI application that passes requests on to others, each below a path of its own."""

    def call(self: Any, environ: dict[str, Any], start_response: Any) -> Any:
        mounting(environ)
        notes = environ.setdefault(_NOTES, {})
        try:
            return original(self, environ, start_response)
        finally:
            environ.update(notes)

    return call


def mounting(environ: dict[str, Any]) -> None:
    """From here on, what is added to SCRIPT_NAME is where an application is mounted."""
    environ.setdefault(_OUTSIDE, environ.get("SCRIPT_NAME", ""))


def _mounted_at(environ: dict[str, Any]) -> str:
    # Only what known dispatchers have added: the rest of SCRIPT_NAME may be anything that a client or a proxy has sent.
    outside = environ.get(_OUTSIDE)
    name: str = environ.get("SCRIPT_NAME", "")
    return "" if outside is None or not name.startswith(outside) else name[len(outside) :].rstrip("/")


def _note(environ: dict[str, Any], key: str, value: object) -> None:
    environ[key] = value
    notes = environ.get(_NOTES)
    if notes is not None:
        notes[key] = value


def wrap(owner: Any, name: str, make: Any) -> None:
    """Puts ``make(original)`` in the place of a function, if the framework has it."""
    original = getattr(owner, name, None)
    if original is not None:
        setattr(owner, name, make(original))
