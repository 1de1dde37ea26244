"""The shapes of apps.shapes, as an ASGI application without a framework."""

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


async def app(scope: Message, receive: Receive, send: Send) -> None:
    """Each path is a shape."""
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    path: str = scope["path"]
    if path == "/raise":
        raise KeyError(path)
    if path == "/read":
        await _whole(send, 200, str(len(await _body(receive))).encode())
    elif path.startswith("/missing"):
        await _whole(send, 404, b"")
    elif path == "/refuse":
        await _whole(send, 403, b"")
    elif path == "/nothing":
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})
    elif path == "/head":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"6")]})
        await send({"type": "http.response.body", "body": b""})
    elif path == "/file":
        await _whole(send, 200, b"f" * 100_000)
    elif path == "/stuck":
        time.sleep(20)
    elif path == "/raise-late":
        await _part(send, b"begun ", begins=True)
        raise LookupError("late")
    elif path == "/parts":
        await _part(send, b"one ", begins=True)
        await asyncio.sleep(0.2)
        await send({"type": "http.response.body", "body": b"two "})
        await asyncio.sleep(1)  # background work is not part of the request
    elif path == "/endless":
        await _endless(receive, send)
    else:
        await _whole(send, 200, b"hello\n")


async def _body(receive: Receive) -> bytes:
    body: bytes = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return body


async def _whole(send: Send, status: int, body: bytes) -> None:
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _part(send: Send, body: bytes, *, begins: bool) -> None:
    if begins:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": body, "more_body": True})


async def _endless(receive: Receive, send: Send) -> None:
    await _part(send, b"x", begins=True)
    await receive()  # the request's body: empty
    while (await receive())["type"] != "http.disconnect":
        pass
