"""CherryPy: the page handler, for there are no templates, and the exceptions that it answers."""

from __future__ import annotations

import sys
from typing import Any

import cherrypy
from cherrypy import _cprequest, _cptree

from . import dispatching, name_handler, note_error, wrap


def install() -> None:
    """Wraps the application's entry, the step that finds the handler, and both ways that exceptions take."""
    wrap(_cptree.Tree, "__call__", dispatching)
    wrap(_cptree.Application, "__call__", dispatching)
    wrap(_cprequest.Request, "get_resource", _naming)
    wrap(_cprequest.Request, "handle_error", _noting_error)
    wrap(cherrypy.HTTPError, "set_response", _noting_answer)


def _environ(request: Any) -> Any:
    return getattr(request, "wsgi_environ", None)


def _naming(original: Any) -> Any:
    def get_resource(self: Any, path: Any) -> Any:
        result = original(self, path)
        environ = _environ(self)
        handler = getattr(self.handler, "callable", None)
        name = getattr(handler, "__qualname__", None)
        if environ is not None and name is not None:
            name_handler(environ, name)
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
        # An error page of CherryPy's own is made with an HTTPError that nobody has raised.
        error = sys.exc_info()[1]
        if environ is not None and error is not None and error is self:
            note_error(environ, error)
        return original(self)

    return set_response
