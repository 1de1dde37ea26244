"""A shop in Starlette; gunicorn -k gunicorn_prometheus_exporter.PrometheusASGIWorker starlette_app:app."""

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route


async def item(request: Request) -> PlainTextResponse:
    """A route with a parameter."""
    return PlainTextResponse(f"item {request.path_params['number']}\n")


async def upload(request: Request) -> PlainTextResponse:
    """Takes a body."""
    return PlainTextResponse(str(len(await request.body())))


async def forbidden(_request: Request) -> PlainTextResponse:
    """Raises an exception that the framework answers."""
    raise HTTPException(403)


async def broken(_request: Request) -> PlainTextResponse:
    """A defect: raises an exception without a handler."""
    raise KeyError("broken")


app = Starlette(
    routes=[
        Route("/item/{number:int}", item),
        Mount("/old", routes=[Route("/item/{number:int}", item)]),
        Route("/upload", upload, methods=["POST"]),
        Route("/forbidden", forbidden),
        Route("/broken", broken),
    ]
)
