"""Falcon: the template of the resource's URI, and the exceptions that error handlers answer."""

from __future__ import annotations

from typing import Any

import falcon

from . import ENDPOINT, note_error, wrap


def install() -> None:
    """Wraps the look-up of the responder and the one place where exceptions are handled."""
    wrap(falcon.App, "_get_responder", _naming)
    wrap(falcon.App, "_handle_exception", _noting)


def _naming(original: Any) -> Any:
    def get_responder(self: Any, req: Any) -> Any:
        found = original(self, req)
        # Responder, parameters, resource, template: the last is None where no route matches.
        template = found[3]
        environ = getattr(req, "env", None)
        if template is not None and environ is not None:
            environ[ENDPOINT] = template
        return found

    return get_responder


def _noting(original: Any) -> Any:
    def handle_exception(self: Any, req: Any, resp: Any, ex: Any, params: Any) -> Any:
        handled = original(self, req, resp, ex, params)
        environ = getattr(req, "env", None)
        if handled and environ is not None:
            is_answer = isinstance(ex, (falcon.HTTPError, falcon.HTTPStatus))
            # One that is no answer is handled by the application, or by Falcon's handler of last resort.
            note_error(environ, ex, unexpected=not is_answer and str(resp.status).startswith("500"))
        return handled

    return handle_exception
