"""Falcon: the template of the resource's URI, sinks and static routes; exceptions that error handlers answer."""

from __future__ import annotations

from typing import Any

import falcon
import falcon.asgi

from . import REQUEST, is_no_error, name_route, note_error, wrap

_ANSWERS = (falcon.HTTPError, falcon.HTTPStatus)


def install(_falcon: Any) -> None:
    """Wraps the look-up of the responder and the places where exceptions are handled."""
    wrap(falcon.App, "_get_responder", _naming)
    wrap(falcon.App, "_handle_exception", _noting)
    wrap(falcon.asgi.App, "_handle_exception", _noting_async)


def _naming(original: Any) -> Any:
    def get_responder(self: Any, req: Any) -> Any:
        found = original(self, req)
        # Responder, parameters, resource, template: the last is None where no route matches.
        template = found[3] or _beginning(self, req.path)
        if template is not None:
            _name(req, template)
        return found

    return get_responder


def _beginning(app: Any, path: str) -> str | None:
    """Returns the pattern of a sink, or the prefix of a static route: each takes all paths with that beginning."""
    for matcher, route, is_sink in getattr(app, "_sink_and_static_routes", ()):
        if matcher.match(path):
            return str(matcher.pattern if is_sink else getattr(route, "_prefix", "/")).rstrip("/") + "/*"
    return None


def _name(req: Any, template: str) -> None:
    environ = getattr(req, "env", None)
    if environ is not None:
        name_route(environ, template)
    elif (recorded := req.scope.get(REQUEST)) is not None:
        recorded.endpoint = recorded.prefix + template


def _noting(original: Any) -> Any:
    def handle_exception(self: Any, req: Any, resp: Any, ex: Any, params: Any) -> Any:
        handled = original(self, req, resp, ex, params)
        if handled and not _is_redirect(ex):
            note_error(req.env, ex, unexpected=_is_unexpected(ex, resp), is_answer=isinstance(ex, _ANSWERS))
        return handled

    return handle_exception


def _noting_async(original: Any) -> Any:
    async def handle_exception(self: Any, req: Any, resp: Any, ex: Any, params: Any, **more: Any) -> Any:
        handled = await original(self, req, resp, ex, params, **more)
        recorded = getattr(req, "scope", {}).get(REQUEST)
        if handled and resp is not None and recorded is not None and not _is_redirect(ex):
            recorded.note_error(ex, unexpected=_is_unexpected(ex, resp), is_answer=isinstance(ex, _ANSWERS))
        return handled

    return handle_exception


def _is_unexpected(error: Any, resp: Any) -> bool:
    # An exception that is not a response is handled by the application, or by Falcon's last handler.
    return not isinstance(error, _ANSWERS) and str(resp.status).startswith("500")


def _is_redirect(error: Any) -> bool:
    return isinstance(error, falcon.HTTPStatus) and is_no_error(error.status)
