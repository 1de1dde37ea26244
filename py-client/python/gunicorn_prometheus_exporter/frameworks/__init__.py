"""Facts that only a framework knows: the route, and the exceptions that it turns into responses.

Each integration is one file, loaded only when its framework is. It writes into the WSGI environment, which the recorder
reads when the request has ended (those of ASGI frameworks: into the ``asgi.Request`` of the scope):

* ``ENDPOINT``: the template of the route, ``/users/<int:id>``;
* ``ERRORS``: the exceptions that became responses (:class:`Swallowed`);
* ``MOUNT``: the mount point of an application that may name no routes.

Extensions bind and wrap methods of the framework before an integration is installed, while the application is
imported. So integrations wrap only functions that the framework looks up at each call, and more than one such
function on the way of an exception; an exception that passes several of them is noted once.

Frameworks have exceptions that are answers: a redirect, a missing page, a refusal. Such an exception counts only if the
response has a status from 400 on, which is known at the end of the request: middleware and handlers may make a redirect
or a page of a 404. Every other exception counts.

If a version of a framework has moved a name, its label is lost, and no request.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

ENDPOINT = "gunicorn_prometheus_exporter.endpoint"
ERRORS = "gunicorn_prometheus_exporter.errors"
MOUNT = "gunicorn_prometheus_exporter.mount"
# Key of the ASGI request, in its scope and in the environment that an adapter makes from that.
REQUEST = "gunicorn_prometheus_exporter.request"

# Key of tornado's request, in the environment of a WSGI application.
METERED = "gunicorn_prometheus_exporter.metered"

# Key for an application that has others mounted in it: the SCRIPT_NAME that it was called with, and the facts that
# were noted in copies of the environment.
_OUTSIDE = "gunicorn_prometheus_exporter.outside"
_NOTES = "gunicorn_prometheus_exporter.notes"

# By the module that shows that the framework is in use. Bottle may be vendored: see `_bottles`.
_KNOWN = {
    "a2wsgi.wsgi": "adapters",
    "asgiref.wsgi": "adapters",
    "cherrypy": "cherrypy",
    "django.core.handlers.base": "django",
    "falcon": "falcon",
    "flask": "flask",
    "pyramid.router": "pyramid",
    "quart": "quart",
    "rest_framework.views": "rest_framework",
    "starlette.middleware.wsgi": "adapters",
    "starlette.routing": "starlette",
    "tornado.web": "tornado",
    "uvicorn.middleware.wsgi": "adapters",
    "werkzeug.middleware.dispatcher": "werkzeug",
}
# Frameworks that name the route of every request, by interface. (Tornado marks each request itself.)
_ROUTING = {
    "wsgi": {"bottle", "cherrypy", "django", "falcon", "flask", "pyramid"},
    "asgi": {"django", "falcon", "quart", "starlette"},
}
# Integrated modules, and the names of their frameworks.
_installed: dict[str, str] = {}
# Names the route of the request that this thread, or greenlet, handles.
_name_current: Callable[[Any], None] | None = None


def name_requests_by(name_current: Callable[[str], None]) -> None:
    """Passes the template of each matched route on to the worker's recorder, for requests that have no object here."""
    global _name_current
    _name_current = name_current


def install_loaded() -> list[tuple[str, Exception]]:
    """Integrates frameworks that were loaded since the last call; returns the failures."""
    failures: list[tuple[str, Exception]] = []
    loaded = [(module, name) for module, name in _KNOWN.items() if module in sys.modules]
    for module, name in [*loaded, *((module, "bottle") for module in _bottles())]:
        if module in _installed:
            continue
        _installed[module] = name
        try:
            importlib.import_module(f"{__name__}.{name}").install(sys.modules[module])
        except Exception as error:  # a future version of the framework may raise anything
            failures.append((name, error))
    return failures


def tells_routes(interface: str) -> bool:
    """Returns whether a loaded framework names the route of each request, for ``wsgi`` or ``asgi`` applications."""
    return not _ROUTING[interface].isdisjoint(_installed.values())


def _bottles() -> list[str]:
    # One file without dependencies: applications vendor it, as `package.bottle` or `package._bottle`.
    found = []
    for name in list(sys.modules):
        if "bottle" in name.rpartition(".")[2]:
            bottle = getattr(sys.modules.get(name), "Bottle", None)
            if hasattr(bottle, "_handle") and bottle.__module__ == name:
                found.append(name)
    return found


class Swallowed(list[tuple[str, bool, bool]]):
    """The exceptions of one request that became responses: name, whether it had no handler, whether it is an answer."""

    def __init__(self) -> None:
        super().__init__()
        # Not the exception itself: its traceback refers back to this object.
        self._last: int | None = None

    def note(self, error: BaseException, *, unexpected: bool, is_answer: bool) -> None:
        """Notes an exception; once unexpected, it stays so. ``is_answer``: the framework answers by such exceptions."""
        name = type(error).__name__
        if id(error) == self._last and self[-1][0] == name:
            unexpected = unexpected or self[-1][1]
            self.pop()
        self.append((name, unexpected, is_answer and not unexpected))
        self._last = id(error)

    def without(self, error: BaseException | None) -> list[tuple[str, bool, bool]]:
        """Returns those that did not reach the server in the end."""
        return self[:-1] if error is not None and id(error) == self._last else self


def name_route(environ: dict[str, Any], template: str) -> None:
    """Names the route of a WSGI request, as seen from outside all mounts."""
    request = environ.get(REQUEST)
    prefix = "" if request is None else request.prefix
    _note(environ, ENDPOINT, prefix + _mounted_at(environ) + template)


def show_route(environ: dict[str, Any], template: str) -> None:
    """Shows the route of a WSGI request while it is in progress; its label is named at the end, and may be another."""
    _show(environ, _mounted_at(environ) + template)


def _show(environ: dict[str, Any], endpoint: str) -> None:
    request = environ.get(REQUEST) or environ.get(METERED)
    if request is not None:
        request.show(endpoint)
    elif _name_current is not None:
        _name_current(endpoint)


def name_handler(environ: dict[str, Any], name: str) -> None:
    """Names the handler that answered a WSGI request without routes."""
    _note(environ, ENDPOINT, name)


def note_error(
    environ: dict[str, Any], error: BaseException, *, unexpected: bool = False, is_answer: bool = False
) -> None:
    """Notes an exception of a WSGI request that the framework turns into a response."""
    errors = environ.get(ERRORS)
    if errors is None:
        request = environ.get(REQUEST)
        errors = Swallowed() if request is None else request.swallowed_errors()
        _note(environ, ERRORS, errors)
    errors.note(error, unexpected=unexpected, is_answer=is_answer)


def dispatching(original: Any) -> Any:
    """Wraps a WSGI application that passes requests on to others, each at a path of its own."""

    def call(self: Any, environ: dict[str, Any], start_response: Any) -> Any:
        mounting(environ)
        notes = environ.setdefault(_NOTES, {})
        try:
            return original(self, environ, start_response)
        finally:
            environ.update(notes)
            if mounted := _mounted_at(environ):
                environ[MOUNT] = f"{mounted}/*"

    return call


def mounting(environ: dict[str, Any]) -> None:
    """Notes that further additions to SCRIPT_NAME are mount points."""
    environ.setdefault(_OUTSIDE, environ.get("SCRIPT_NAME", ""))


def _mounted_at(environ: dict[str, Any]) -> str:
    # Only what known dispatchers have added: clients and proxies may send anything in the rest of SCRIPT_NAME.
    outside = environ.get(_OUTSIDE)
    name: str = environ.get("SCRIPT_NAME", "")
    return "" if outside is None or not name.startswith(outside) else name[len(outside) :].rstrip("/")


def _note(environ: dict[str, Any], key: str, value: object) -> None:
    environ[key] = value
    if key == ENDPOINT:
        request = environ.get(REQUEST)
        if request is not None:
            request.endpoint = value
        else:
            _show(environ, str(value))
    notes = environ.get(_NOTES)
    if notes is not None:
        notes[key] = value


def wrap(owner: Any, name: str, make: Any) -> None:
    """Replaces a function by ``make(original)``, if the framework has it."""
    original = getattr(owner, name, None)
    if original is not None:
        setattr(owner, name, make(original))


def wrap_everywhere(owner: ModuleType, name: str, make: Any) -> None:
    """Does the same for a function of a module, and for modules that have imported it from there."""
    original = getattr(owner, name, None)
    if original is None:
        return
    wrapped = make(original)
    for module in list(sys.modules.values()):
        # Not `getattr`: some modules import others when an attribute is read.
        if isinstance(module, ModuleType) and vars(module).get(name) is original:
            setattr(module, name, wrapped)


def is_no_error(status: object) -> bool:
    """Returns whether an exception with that status is an ordinary response, for example a redirect."""
    try:
        return int(str(status).partition(" ")[0]) < 400
    except ValueError:
        return False
