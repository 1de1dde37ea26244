"""starlette_exporter, as its documentation says; with the worker class PrometheusUvicornWorker."""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette_exporter import PrometheusMiddleware, handle_metrics


async def order(request: Request) -> PlainTextResponse:
    """One order."""
    return PlainTextResponse(request.path_params["number"])


app = Starlette(routes=[Route("/orders/{number}", order), Route("/metrics", handle_metrics)])
app.add_middleware(PrometheusMiddleware, app_name="shop", group_paths=True)
