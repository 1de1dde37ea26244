"""CherryPy: the page handler, for there are no templates, and the exceptions that it answers.

CherryPy copies the WSGI environment; so what is found out is noted where all copies lead to.
"""

from __future__ import annotations

import sys
from typing import Any

import cherrypy
from cherrypy import _cprequest, _cptree

from . import ENDPOINT, note_error, wrap

_NOTES = "gunicorn_prometheus_exporter.cherrypy"


def install() -> None:
    """Wraps the application's entry, the step that finds the handler, and both ways that exceptions take."""
    wrap(_cptree.Tree, "__call__", _remembering)
    wrap(_cptree.Application, "__call__", _remembering)
    wrap(_cprequest.Request, "get_resource", _naming)
    wrap(_cprequest.Request, "handle_error", _noting_error)
    wrap(cherrypy.HTTPError, "set_response", _noting_answer)


def _remembering(original: Any) -> Any:
    def call(self: Any, environ: Any, start_response: Any) -> Any:
        notes = environ.setdefault(_NOTES, {})
        try:
            return original(self, environ, start_response)
        finally:
            environ.update(notes)

    return call


def _notes(request: Any) -> Any:
    return getattr(request, "wsgi_environ", {}).get(_NOTES)


def _naming(original: Any) -> Any:
    def get_resource(self: Any, path: Any) -> Any:
        result = original(self, path)
        notes = _notes(self)
        handler = getattr(self.handler, "callable", None)
        name = getattr(handler, "__qualname__", None)
        if notes is not None and name is not None:
            notes[ENDPOINT] = name
        return result

    return get_resource


def _noting_error(original: Any) -> Any:
    def handle_error(self: Any) -> Any:
        error, notes = sys.exc_info()[1], _notes(self)
        if error is not None and notes is not None:
            note_error(notes, error, unexpected=True)
        return original(self)

    return handle_error


def _noting_answer(original: Any) -> Any:
    def set_response(self: Any) -> Any:
        notes = _notes(cherrypy.serving.request)
        # An error page of CherryPy's own is made with an HTTPError that nobody has raised.
        error = sys.exc_info()[1]
        if notes is not None and error is not None and error is self:
            note_error(notes, error)
        return original(self)

    return set_response
