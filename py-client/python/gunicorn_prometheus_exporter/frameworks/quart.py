"""Quart: the matched rule, and the exceptions that error handlers, extensions and Quart answer.

Extensions may bind and wrap the steps that answer exceptions, as those of Flask do; see ``flask.py`` for the places.
"""

from __future__ import annotations

from typing import Any

import quart
import quart.ctx
from werkzeug.exceptions import HTTPException

from . import REQUEST, wrap
from .werkzeug import is_response, matched_rule, noting_handled


def install(_quart: Any) -> None:
    """Wraps the places that every request, and every exception, passes."""
    for name in ("RequestContext", "_BaseRequestWebsocketContext"):
        context = getattr(quart.ctx, name, None)
        if context is not None and "match_request" in vars(context):
            wrap(context, "match_request", _naming)
    for name in ("preprocess_request", "dispatch_request"):
        wrap(quart.Quart, name, _noting_raised)
    wrap(quart.Quart, "_find_error_handler", noting_handled(_note))
    quart.got_request_exception.connect(_note_signalled, weak=False)


def _naming(original: Any) -> Any:
    def match_request(self: Any, *args: Any) -> Any:
        result = original(self, *args)
        request = getattr(self, "request_websocket", None) or self.request
        recorded = request.scope.get(REQUEST)
        rule = matched_rule(self, request)
        if recorded is not None and rule is not None:
            recorded.endpoint = recorded.prefix + rule.rule
        return result

    return match_request


def _noting_raised(original: Any) -> Any:
    async def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return await original(self, *args, **kwargs)
        except Exception as error:
            _note(error)
            raise

    return call


async def _note_signalled(_app: Any, exception: BaseException | None = None, **_more: Any) -> None:
    if exception is not None:
        _note(exception, unexpected=not isinstance(exception, HTTPException))


def _note(error: BaseException, *, unexpected: bool = False) -> None:
    if not is_response(error) and quart.has_request_context():
        recorded: Any = quart.request.scope.get(REQUEST)
        if recorded is not None:
            recorded.note_error(error, unexpected=unexpected, is_answer=isinstance(error, HTTPException))
