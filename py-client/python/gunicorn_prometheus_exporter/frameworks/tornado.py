"""Tornado's own applications: the pattern of the matched rule, and the exceptions that handlers answer.

They run only under the tornado worker, whose ``_Metered`` follows the connection of each request.
"""

from __future__ import annotations

from typing import Any

import tornado.routing
import tornado.web

from . import note_error, wrap


def install(_web: Any) -> None:
    """Wraps the steps that match a path, find nothing, and answer exceptions."""
    wrap(tornado.routing.PathMatches, "match", _naming)
    wrap(tornado.routing.RuleRouter, "find_handler", _forgetting)
    wrap(tornado.web.RequestHandler, "_handle_request_exception", _noting)


def _metered(request: Any) -> Any:
    return getattr(getattr(request, "connection", None), "metered_request", None)


def _naming(original: Any) -> Any:
    def match(self: Any, request: Any) -> Any:
        found = original(self, request)
        metered = _metered(request)
        if found is not None and metered is not None:
            # Routers may be nested; the last match is the most specific.
            metered.endpoint = self.regex.pattern.removesuffix("$")
        return found

    return match


def _forgetting(original: Any) -> Any:
    def find_handler(self: Any, request: Any, **kwargs: Any) -> Any:
        found = original(self, request, **kwargs)
        metered = _metered(request)
        if found is None and metered is not None:
            metered.endpoint = ""
        return found

    return find_handler


def _noting(original: Any) -> Any:
    def handle_request_exception(self: Any, error: BaseException) -> Any:
        metered = _metered(self.request)
        # `Finish` is not an error: a handler raises it to end the response.
        if metered is not None and not isinstance(error, tornado.web.Finish):
            is_answer = isinstance(error, tornado.web.HTTPError)
            note_error(metered.environ, error, unexpected=not is_answer, is_answer=is_answer)
        return original(self, error)

    return handle_request_exception
