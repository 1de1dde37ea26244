"""CherryPy: the page handler (there are no templates), and the exceptions that it answers."""

from __future__ import annotations

import sys
from typing import Any

import cherrypy
from cherrypy import _cpdispatch, _cprequest, _cptree

from . import MOUNT, dispatching, name_handler, name_route, note_error, wrap

# Key of a dispatcher's result, until it becomes the handler.
_FOUND = "gunicorn_prometheus_exporter.found"


def install(_cherrypy: Any) -> None:
    """Wraps the application's entry, the step that finds the handler, and both ways of exceptions."""
    wrap(_cptree.Tree, "__call__", _grafting)
    wrap(_cptree.Application, "__call__", dispatching)
    wrap(_cpdispatch.Dispatcher, "find_handler", _keeping)
    wrap(_cprequest.Request, "get_resource", _naming)
    wrap(_cprequest.Request, "handle_error", _noting_error)
    wrap(cherrypy.HTTPError, "set_response", _noting_answer)


def _grafting(original: Any) -> Any:
    passing_on = dispatching(original)

    def call(self: Any, environ: dict[str, Any], start_response: Any) -> Any:
        # The application gets a copy of the environment, so its mount point is not visible in this one.
        if mounted := self.script_name(environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "") or "/"):
            environ[MOUNT] = f"{mounted}/*"
        return passing_on(self, environ, start_response)

    return call


def _environ(request: Any) -> Any:
    return getattr(request, "wsgi_environ", None)


def _keeping(original: Any) -> Any:
    def find_handler(self: Any, path: Any) -> Any:
        found = original(self, path)
        environ = _environ(cherrypy.serving.request)
        if environ is not None:
            environ[_FOUND] = found[0]
        return found

    return find_handler


def _naming(original: Any) -> Any:
    def get_resource(self: Any, path: Any) -> Any:
        result = original(self, path)
        environ = _environ(self)
        if environ is None:
            return result
        found = environ.pop(_FOUND, None)
        handler = getattr(self.handler, "callable", None)
        if handler is None and isinstance(self.handler, cherrypy.HTTPError) and found is not None:
            # A resource without a handler for the method of the request: 405.
            handler = found if hasattr(found, "__qualname__") else type(found)
        name = getattr(handler, "__qualname__", None)
        config = self.config or {}
        if name is not None:
            name_handler(environ, name)
        elif config.get("tools.staticdir.on") and (section := config.get("tools.staticdir.section")):
            name_route(environ, section.rstrip("/") + "/*")
        return result

    return get_resource


def _noting_error(original: Any) -> Any:
    def handle_error(self: Any) -> Any:
        error, environ = sys.exc_info()[1], _environ(self)
        if error is not None and environ is not None:
            note_error(environ, error, unexpected=True)
        return original(self)

    return handle_error


def _noting_answer(original: Any) -> Any:
    def set_response(self: Any) -> Any:
        environ = _environ(cherrypy.serving.request)
        # CherryPy makes its own error pages with an HTTPError that was not raised.
        error = sys.exc_info()[1]
        if environ is not None and error is not None and error is self:
            note_error(environ, error, is_answer=True)
        return original(self)

    return set_response
