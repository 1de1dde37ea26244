"""A shop in Pyramid; gunicorn -k gunicorn_prometheus_exporter.PrometheusWorker pyramid_app:app."""

from pyramid.config import Configurator
from pyramid.httpexceptions import HTTPForbidden
from pyramid.request import Request
from pyramid.response import Response


def item(request: Request) -> Response:
    """A route with a parameter."""
    return Response(f"item {request.matchdict['number']}\n")


def upload(request: Request) -> Response:
    """Takes a body."""
    return Response(str(len(request.body)))


def forbidden(_request: Request) -> Response:
    """Raises an exception that the framework answers."""
    raise HTTPForbidden


def broken(_request: Request) -> Response:
    """A defect: raises an exception without a handler."""
    raise KeyError("broken")


with Configurator() as config:
    for view, pattern in (
        (item, "/item/{number}"),
        (upload, "/upload"),
        (forbidden, "/forbidden"),
        (broken, "/broken"),
    ):
        config.add_route(view.__name__, pattern)
        config.add_view(view, route_name=view.__name__)
    app = config.make_wsgi_app()
