"""The metrics of `apps.private` under ASGI."""

from collections.abc import Awaitable, Callable
from typing import Any

import apps.private  # noqa: F401 (for its metrics)


async def app(scope: dict[str, Any], _receive: Any, send: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
    """Answers with an empty body."""
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})
