"""Django: the route that was resolved, and the exceptions that middleware, handlers and Django answer."""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Callable
from typing import Any

from django.core import exceptions
from django.core.handlers import base, exception
from django.http import Http404
from django.http.multipartparser import MultiPartParserError

from . import REQUEST, is_no_error, name_route, note_error, wrap, wrap_everywhere

# Those of which Django makes a response with a status below 500.
_ANSWERS: tuple[type[BaseException], ...] = (
    Http404,
    MultiPartParserError,
    exceptions.BadRequest,
    exceptions.PermissionDenied,
    exceptions.SuspiciousOperation,
)


def install(_base: Any) -> None:
    """Wraps the places that every request, and every exception, passes."""
    wrap(base.BaseHandler, "resolve_request", _naming)
    wrap(base.BaseHandler, "process_exception_by_middleware", _noting_raised)
    wrap_everywhere(exception, "response_for_exception", _noting)
    wrap_everywhere(exception, "handle_uncaught_exception", _noting_uncaught)


def _naming(original: Any) -> Any:
    def resolve_request(self: Any, request: Any) -> Any:
        match = original(self, request)
        route = getattr(match, "route", None)
        if route is not None:
            _name(request, readable(route))
        return match

    return resolve_request


# The parts of regular expressions outside groups: characters that stand for themselves, any text, and places or
# repetitions.
_TOKENS = re.compile(
    r"""
      (?P<place>      \\[AbBZ] | [$^] )
    | (?P<any>        (?: \\[dDsSwW] | \[\^?\]?(?:\\.|[^\]\\])*\] | \. ) (?: [*+?]\??\+? | \{[0-9,]*\}\?? )? )
    | \\(?P<escaped>  . )
    | (?P<literal>    . )
    """,
    re.VERBOSE | re.DOTALL,
)
_REPETITION = re.compile(r"[*+?][?+]?|\{[0-9,]+\}\??")


def readable(route: str) -> str:
    """Returns a route in the form of ``path()``: named groups, and the text around them.

    ``^things/(?P<pk>[^/.]+)/$`` becomes ``/things/<pk>/``.
    """
    return _READ(route)


def _readable(route: str) -> str:
    is_pattern = any(character in route for character in "^$(\\[*+?{|")
    text = _without_pattern(route) if is_pattern else route
    return text if text.startswith("/") else f"/{text}"


# This is called for every request.
_READ: Callable[[str], str] = functools.lru_cache(maxsize=10_000)(_readable)


def _without_pattern(pattern: str) -> str:
    text, at = "", 0
    # Leaves out a character that may be missing.
    while at < len(pattern):
        if pattern[at] == "(":
            end = _end_of_group(pattern, at)
            group, at = pattern[at:end], end
            piece = _group(group)
            may_miss = False
        elif pattern[at] == "<" and (end := pattern.find(">", at)) > 0:  # a part of path()
            piece, at = pattern[at : end + 1], end + 1
            may_miss = False
        else:
            token = _TOKENS.match(pattern, at)
            if token is None:  # impossible: the last alternative is any character
                return text
            at = token.end()
            piece = "<var>" if token["any"] else token["escaped"] or token["literal"] or ""
            may_miss = not token["any"]
        if repeated := _REPETITION.match(pattern, at):
            at = repeated.end()
            if may_miss and repeated[0][0] in "*?":
                piece = ""
        text += piece
    return text


def _group(group: str) -> str:
    if named := re.match(r"\(\?P<(\w+)>", group):
        return f"<{named[1]}>"
    if group.startswith("(?:"):
        # The first alternative stands for all.
        return _without_pattern(_first_alternative(group[3:-1]))
    if group.startswith("(?"):
        return ""  # flags, comments, lookahead and lookbehind
    return "<var>"


def _end_of_group(pattern: str, at: int) -> int:
    depth, in_class = 0, False
    while at < len(pattern):
        character = pattern[at]
        if character == "\\":
            at += 1
        elif in_class:
            in_class = character != "]"
        elif character == "[":
            in_class = True
        elif character in "()":
            depth += 1 if character == "(" else -1
            if depth == 0:
                return at + 1
        at += 1
    return len(pattern)


def _first_alternative(pattern: str) -> str:
    at = 0
    while at < len(pattern):
        if pattern[at] == "|":
            return pattern[:at]
        if pattern[at] == "(":
            at = _end_of_group(pattern, at)
            continue
        at += 2 if pattern[at] == "\\" else 1
    return pattern


def _name(request: Any, endpoint: str) -> None:
    environ = getattr(request, "environ", None)
    if environ is not None:
        name_route(environ, endpoint)
    elif (recorded := getattr(request, "scope", {}).get(REQUEST)) is not None:
        recorded.endpoint = endpoint


def _noting_raised(original: Any) -> Any:
    # Called with every exception of a view, before middleware may answer it.
    def process_exception_by_middleware(self: Any, exception: Any, request: Any) -> Any:
        note(request, exception, unexpected=False)
        return original(self, exception, request)

    return process_exception_by_middleware


def _noting(original: Any) -> Any:
    def response_for_exception(request: Any, exc: Any) -> Any:
        note(request, exc, unexpected=False)
        return original(request, exc)

    return response_for_exception


def _noting_uncaught(original: Any) -> Any:
    def handle_uncaught_exception(request: Any, resolver: Any, exc_info: Any) -> Any:
        note(request, exc_info[1] or sys.exc_info()[1], unexpected=True)
        return original(request, resolver, exc_info)

    return handle_uncaught_exception


def note(request: Any, error: BaseException | None, *, unexpected: bool) -> None:
    """Notes an exception of a Django request, for WSGI or ASGI."""
    if error is None or is_no_error(getattr(error, "status_code", None)):
        return
    # The exceptions of the REST framework have a status.
    is_answer = isinstance(error, _ANSWERS) or hasattr(error, "status_code")
    environ = getattr(request, "environ", None)
    if environ is not None:
        note_error(environ, error, unexpected=unexpected, is_answer=is_answer)
    elif (recorded := getattr(request, "scope", {}).get(REQUEST)) is not None:
        recorded.note_error(error, unexpected=unexpected, is_answer=is_answer)
