"""ASGI: what is recorded of requests, seen from a wrapper round the application.

A request ends with the last part of its body, not with the background tasks that come after it.
WebSockets and the lifespan pass untouched.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .frameworks import Swallowed

if TYPE_CHECKING:
    from ._native import Recorder

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

# Where the frameworks' integrations find the request, in its scope.
REQUEST = "gunicorn_prometheus_exporter.request"
_NO_BODY = (204, 304)


class Request:
    """A request under way."""

    __slots__ = (
        "_is_ended",
        "_recorder",
        "_scope",
        "_start",
        "endpoint",
        "has_route",
        "prefix",
        "received",
        "sent",
        "status",
        "swallowed",
    )

    def __init__(self, recorder: Recorder, scope: Scope, start: int) -> None:
        self._recorder = recorder
        self._scope = scope
        self._start = start
        self._is_ended = False
        self.status = 0
        self.received = 0
        self.sent = 0
        # The template of the route; and, on the way there, of what it is mounted on.
        self.endpoint = ""
        self.prefix = ""
        self.has_route = False
        self.swallowed: Swallowed | None = None

    def note_error(self, error: BaseException, *, unexpected: bool = False) -> None:
        """The framework makes an answer of this exception."""
        if self.swallowed is None:
            self.swallowed = Swallowed()
        self.swallowed.note(error, unexpected=unexpected)

    def end(self, error: BaseException | None = None) -> None:
        """The response is complete, or will never be; only the first call counts."""
        if self._is_ended:
            return
        self._is_ended = True
        scope = self._scope
        start = trace = None
        for name, value in scope["headers"]:
            if name == b"x-request-start":
                start = value.decode("latin-1")
            elif name == b"traceparent":
                trace = value.decode("latin-1")
        self._recorder.end(
            self._start,
            scope["method"],
            scope["path"],
            self.endpoint or None,
            self.status,
            (self.received, self.sent),
            (start, trace),
            None if self.swallowed is None else self.swallowed.without(error),
            error,
        )


def metered(application: Any, recorder: Recorder, *, omits_bodies: bool = True) -> Application:
    """The same application, with its requests recorded. One for ASGI 2 becomes one for ASGI 3.

    ``omits_bodies``: whether the server leaves out the bodies that HTTP does not allow.
    """
    app = application if _is_asgi3(application) else _asgi3(application)

    async def recorded(scope: Scope, receive: Receive, send: Send) -> None:
        is_http = scope["type"] == "http"
        start = recorder.begin(scope["method"], scope["path"]) if is_http else None
        if start is None:
            await app(scope, receive, send)
            return
        request = scope[REQUEST] = Request(recorder, scope, start)
        is_head = omits_bodies and scope["method"] == "HEAD"

        async def counting_receive() -> MutableMapping[str, Any]:
            message = await receive()
            body = message.get("body")
            if body:
                request.received += len(body)
            return message

        async def counting_send(message: MutableMapping[str, Any]) -> None:
            await send(message)
            kind = message["type"]
            if kind == "http.response.body":
                if not (is_head or (omits_bodies and request.status in _NO_BODY)):
                    request.sent += len(message.get("body", b""))
                # After an error page the exception itself may still come.
                if request.status < 500 and not message.get("more_body", False):
                    request.end()
            elif kind == "http.response.start":
                request.status = message["status"]
            elif kind == "http.response.pathsend":
                request.sent += 0 if is_head else Path(message["path"]).stat().st_size
                request.end()

        try:
            await app(scope, counting_receive, counting_send)
        except BaseException as error:
            if request.status == 0 and isinstance(error, Exception):
                request.status = 500  # what the server is about to answer
            request.end(error)
            raise
        request.end()

    return recorded


def _is_asgi3(application: Any) -> bool:
    # As uvicorn decides it.
    if inspect.isclass(application):
        return hasattr(application, "__await__")
    return inspect.iscoroutinefunction(application) or inspect.iscoroutinefunction(
        getattr(application, "__call__", None)  # noqa: B004 (what is called is looked at, not whether)
    )


def _asgi3(application: Any) -> Application:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        returned = application(scope, receive, send) if _takes_three(application) else application(scope)(receive, send)
        await returned

    return app


def _takes_three(application: Any) -> bool:
    """Whether it can be called as ASGI 3 wants it, though it does not look like a coroutine function."""
    try:
        inspect.signature(application).bind(None, None, None)
    except (TypeError, ValueError):
        return False
    return True
