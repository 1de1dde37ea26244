"""Starlette in parts: mounts in one another, hosts, static files, endpoints that are classes, websockets."""

from pathlib import Path

from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Host, Mount, Route, Router, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket


async def text(request: Request) -> PlainTextResponse:
    """The answer of every route."""
    return PlainTextResponse(f"{request.path_params}\n")


async def passing(request: Request, call_next: object) -> PlainTextResponse:
    """A middleware of the kind that runs the application in its own task."""
    response: PlainTextResponse = await call_next(request)  # type: ignore[operator]
    return response


async def echo(websocket: WebSocket) -> None:
    """A websocket that sends one message."""
    await websocket.accept()
    await websocket.send_text("hello")
    await websocket.close()


class Things(HTTPEndpoint):
    """An endpoint that is a class."""

    async def get(self, request: Request) -> PlainTextResponse:
        """Answers one object."""
        return await text(request)


leaf = [Route("/leaf/{number:int}", text), Route("/", text)]
app = Starlette(
    middleware=[Middleware(BaseHTTPMiddleware, dispatch=passing)],
    routes=[
        Mount("/one", routes=[Mount("/two/{tenant}", routes=leaf), Route("/leaf", text)]),
        Mount("/app", app=Starlette(routes=leaf)),
        Mount("/assets", app=StaticFiles(directory=Path(__file__).parent)),
        Host("api.example.org", app=Router(routes=leaf)),
        Route("/things/{number}", Things),
        Route("/files/{name:path}", text),
        WebSocketRoute("/echo", echo),
    ],
)
