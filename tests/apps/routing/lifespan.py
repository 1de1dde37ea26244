"""A Starlette application with a lifespan, a websocket and a stream without an end."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """Runs before the first request, and after the last."""
    app.state.word = "started"
    yield
    print("the application has stopped", file=sys.stderr, flush=True)


async def state(request: Request) -> PlainTextResponse:
    """Answers the state that the lifespan has set."""
    return PlainTextResponse(f"{request.app.state.word}\n")


async def stream(_request: Request) -> StreamingResponse:
    """Answers until the client leaves."""

    async def parts() -> AsyncIterator[bytes]:
        while True:
            yield b"part "
            await asyncio.sleep(0.05)

    return StreamingResponse(parts())


async def echo(websocket: WebSocket) -> None:
    """A websocket that stays open."""
    await websocket.accept()
    await websocket.receive()


routes = [Route("/state", state), Route("/stream", stream), WebSocketRoute("/echo", echo)]
app = Starlette(lifespan=lifespan, routes=routes)
