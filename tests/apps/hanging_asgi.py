"""The ways of apps.hanging, as an ASGI application."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from apps import hanging


async def app(
    scope: MutableMapping[str, Any],
    receive: Callable[[], Awaitable[Any]],  # noqa: ARG001
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    """Each path is a way to hang or to die."""
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    path: str = scope["path"]
    if path.startswith("/wait"):
        await asyncio.sleep(60)
    elif path == "/spin":
        hanging.spin()
    elif path == "/block":
        hanging.block()
    elif path.startswith("/die/"):
        await asyncio.sleep(0)
        hanging.die(path.removeprefix("/die/"))
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})
