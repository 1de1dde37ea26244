"""Flask: the matched rule, and the exceptions that error handlers, extensions and Flask answer.

Flask-CORS, Flask-RESTful, Flask-RESTX and others bind ``app.handle_user_exception`` and ``app.handle_exception`` on
the application, and some of them answer without calling Flask's. So an exception is noted in four places: where it is
raised (hooks and view functions), where Flask looks for a handler, where Flask or an extension signals it, and where
the request ends with it.
"""

from __future__ import annotations

from typing import Any

import flask
import flask.ctx
from werkzeug.exceptions import HTTPException

from . import name_route, note_error, wrap
from .werkzeug import is_response, matched_rule, noting_handled


def install(_flask: Any) -> None:
    """Wraps the places that every request, and every exception, passes."""
    context = _first_with("match_request", ("RequestContext", "AppContext"))
    if context is not None:
        wrap(context, "match_request", _naming)
        wrap(context, "pop", _noting_the_end)
    for name in ("preprocess_request", "dispatch_request"):
        wrap(flask.Flask, name, _noting_raised)
    wrap(flask.Flask, "_find_error_handler", noting_handled(_note))
    flask.got_request_exception.connect(_note_signalled, weak=False)


def _first_with(method: str, names: tuple[str, ...]) -> Any:
    # Flask 3.2 has one kind of context where there were two.
    classes = (getattr(flask.ctx, name, None) for name in names)
    return next((cls for cls in classes if hasattr(cls, method)), None)


def _naming(original: Any) -> Any:
    def match_request(self: Any, *args: Any) -> Any:
        result = original(self, *args)
        request = self.request
        rule = matched_rule(self, request)
        if rule is not None:
            name_route(request.environ, rule.rule)
        return result

    return match_request


def _noting_raised(original: Any) -> Any:
    # Flask calls these without arguments until 3.1, with the context from 3.2 on.
    def call(self: Any, *args: Any) -> Any:
        try:
            return original(self, *args)
        except Exception as error:
            _note(error)
            raise

    return call


def _note_signalled(_app: Any, exception: BaseException | None = None, **_more: Any) -> None:
    if exception is not None:
        _note(exception, unexpected=not isinstance(exception, HTTPException))


def _noting_the_end(original: Any) -> Any:
    def pop(self: Any, *args: Any, **kwargs: Any) -> Any:
        error = args[0] if args else kwargs.get("exc")
        if isinstance(error, BaseException):
            _note(error, unexpected=not isinstance(error, HTTPException))
        return original(self, *args, **kwargs)

    return pop


def _note(error: BaseException, *, unexpected: bool = False) -> None:
    if not is_response(error) and flask.has_request_context():
        is_answer = isinstance(error, HTTPException)
        note_error(flask.request.environ, error, unexpected=unexpected, is_answer=is_answer)
