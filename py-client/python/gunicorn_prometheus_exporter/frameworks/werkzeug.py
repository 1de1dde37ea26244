"""Werkzeug: its dispatcher, and what its rules and exceptions mean for the frameworks that are built on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from werkzeug.exceptions import HTTPException, InternalServerError

from . import dispatching, is_no_error, wrap


def install(dispatcher: Any) -> None:
    """Wraps the step that chooses the application, of applications that are mounted beside one another."""
    wrap(dispatcher.DispatcherMiddleware, "__call__", dispatching)


def matched_rule(context: Any, request: Any) -> Any:
    """Returns the rule of a request; for a path without a view for its method (405), that of another method."""
    rule = getattr(request, "url_rule", None)
    if rule is not None:
        return rule
    methods = getattr(getattr(request, "routing_exception", None), "valid_methods", None)
    if not methods:
        return None
    try:
        return context.url_adapter.match(method=next(iter(methods)), return_rule=True)[0]
    except HTTPException:
        return None


def noting_handled(note: Callable[[BaseException], None]) -> Callable[[Any], Any]:
    """Makes a wrapper of ``_find_error_handler`` that notes each exception for which a handler is looked up."""

    def wrapper(original: Any) -> Any:
        def find_error_handler(self: Any, error: Any, *args: Any) -> Any:
            # The framework wraps an exception without a handler in another.
            if getattr(error, "original_exception", None) is None or not isinstance(error, InternalServerError):
                note(error)
            return original(self, error, *args)

        return find_error_handler

    return wrapper


def is_response(error: BaseException) -> bool:
    """Returns whether an exception is an ordinary response: the redirect to a path with a slash is raised."""
    if not isinstance(error, HTTPException):
        return False
    response = getattr(error, "response", None)
    return is_no_error(error.code if response is None else response.status_code)
