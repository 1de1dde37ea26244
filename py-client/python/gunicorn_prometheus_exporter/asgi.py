"""ASGI: records requests in a wrapper around the application.

A request ends with the last part of its body, not with the background tasks that come after it.
WebSockets and the lifespan pass untouched.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .frameworks import REQUEST, Swallowed

if TYPE_CHECKING:
    from ._native import Recorder

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

_NO_BODY = (204, 304)
_REDIRECTS = (301, 302, 303, 307, 308)
# The response of all servers when the application has sent none.
_ERROR_PAGE = b"Internal Server Error"


class Request:
    """A request in progress."""

    status = 0
    received = 0
    sent = 0
    _endpoint = ""
    prefix = ""
    has_route = False
    # Whether it was passed to an application whose framework names the route of each request.
    is_routed = False
    swallowed: Swallowed | None = None
    _is_ended = False

    def __init__(
        self, recorder: Recorder, scope: Scope, start: int, receive: Receive, send: Send, *, omits_bodies: bool
    ) -> None:
        self._recorder = recorder
        self._scope = scope
        self._start = start
        self._receive = receive
        self._send = send
        self._omits_bodies = omits_bodies

    @property
    def endpoint(self) -> str:
        """The template of the route; until that is known, of the mount."""
        return self._endpoint

    @endpoint.setter
    def endpoint(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._recorder.name(self._start, endpoint)

    def show(self, endpoint: str) -> None:
        """Shows an endpoint while the request is in progress; its label may become another."""
        self._recorder.name(self._start, self.prefix + endpoint)

    async def receive(self) -> MutableMapping[str, Any]:
        """Receives from the server, and counts the bytes of the body."""
        message = await self._receive()
        body = message.get("body")
        if body:
            self.received += len(body)
        return message

    async def send(self, message: MutableMapping[str, Any]) -> None:
        """Sends to the server, and counts what it has accepted."""
        await self._send(message)
        kind = message["type"]
        if kind == "http.response.body":
            body = message.get("body")
            if body and not self._has_no_body():
                self.sent += len(body)
            # After an error page the exception itself may still arrive.
            if self.status < 500 and not message.get("more_body"):
                self.end()
        elif kind == "http.response.start":
            self.status = message["status"]
        elif kind == "http.response.pathsend":
            self.sent += 0 if self._has_no_body() else Path(message["path"]).stat().st_size
            self.end()

    def _without_route(self) -> str | None:
        if not self.is_routed:
            return None
        return "<redirect>" if self.status in _REDIRECTS else "<unmatched>"

    def _has_no_body(self) -> bool:
        return self._omits_bodies and (self.status in _NO_BODY or self._scope["method"] == "HEAD")

    def note_error(self, error: BaseException, *, unexpected: bool = False, is_answer: bool = False) -> None:
        """Notes an exception that the framework turns into a response."""
        self.swallowed_errors().note(error, unexpected=unexpected, is_answer=is_answer)

    def swallowed_errors(self) -> Swallowed:
        """Returns the exceptions that were turned into responses."""
        if self.swallowed is None:
            self.swallowed = Swallowed()
        return self.swallowed

    def end(self, error: BaseException | None = None) -> None:
        """Ends the request: the response is complete, or will never be; only the first call counts."""
        if self._is_ended:
            return
        self._is_ended = True
        swallowed = self.swallowed
        self._recorder.end_scope(
            self._start,
            self._scope,
            self._endpoint or self._without_route(),
            self.status,
            self.received,
            self.sent,
            None if swallowed is None else swallowed.without(error),
            error,
        )


def metered(application: Any, recorder: Recorder, *, omits_bodies: bool = True) -> Application:
    """Returns the same application, with its requests recorded. One for ASGI 2 becomes one for ASGI 3.

    ``omits_bodies``: whether the server drops the bodies that HTTP does not allow.
    """
    app = application if _is_asgi3(application) else _asgi3(application)
    begin = recorder.begin_scope

    async def recorded(scope: Scope, receive: Receive, send: Send) -> None:
        start = begin(scope) if scope["type"] == "http" else None
        if start is None:
            await app(scope, receive, send)
            return
        request = scope[REQUEST] = Request(recorder, scope, start, receive, send, omits_bodies=omits_bodies)
        try:
            await app(scope, request.receive, request.send)
        except BaseException as error:
            if request.status == 0 and isinstance(error, Exception):
                request.status, request.sent = 500, len(_ERROR_PAGE)  # the server's answer
            request.end(error)
            raise
        else:
            request.end()
        finally:
            # The two refer to each other; without this the garbage collector would have to free them.
            scope.pop(REQUEST, None)

    return recorded


def _is_asgi3(application: Any) -> bool:
    # By the rules of uvicorn.
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
    """Returns whether it can be called like ASGI 3, although it is not a coroutine function."""
    try:
        inspect.signature(application).bind(None, None, None)
    except (TypeError, ValueError):
        return False
    return True
