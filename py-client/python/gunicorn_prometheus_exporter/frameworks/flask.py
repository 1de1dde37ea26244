"""Flask: the rule that was matched, and the exceptions that error handlers and Flask answer."""

from __future__ import annotations

from typing import Any

import flask
import flask.ctx

from . import name_route, note_error


def install() -> None:
    """Wraps the places that every request, and every exception, passes."""
    context: Any = _first_with("match_request", ("RequestContext", "AppContext"))
    if context is not None:
        _name_routes(context)
    app: Any = flask.Flask
    if hasattr(app, "handle_user_exception"):
        _note_errors(app, "handle_user_exception", unexpected=False)
    if hasattr(app, "handle_exception"):
        _note_errors(app, "handle_exception", unexpected=True)


def _first_with(method: str, names: tuple[str, ...]) -> Any:
    # Flask 3.2 has one kind of context where there were two.
    classes = (getattr(flask.ctx, name, None) for name in names)
    return next((cls for cls in classes if hasattr(cls, method)), None)


def _name_routes(context: Any) -> None:
    original = context.match_request

    def match_request(self: Any) -> None:
        original(self)
        request = self.request
        rule = getattr(request, "url_rule", None)
        if rule is not None:
            name_route(request.environ, rule.rule)

    context.match_request = match_request


def _note_errors(app: Any, name: str, *, unexpected: bool) -> None:
    original = getattr(app, name)

    # Flask calls these with one argument until 3.1, with the context before it from 3.2 on.
    def handle(self: Any, *args: Any) -> Any:
        if flask.has_request_context():
            note_error(flask.request.environ, args[-1], unexpected=unexpected)
        return original(self, *args)

    setattr(app, name, handle)
