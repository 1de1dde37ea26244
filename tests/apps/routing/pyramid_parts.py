"""Pyramid in parts: included routes with a prefix, traversal, and both."""

from typing import Any

from pyramid.config import Configurator
from pyramid.httpexceptions import HTTPNotFound, HTTPTemporaryRedirect
from pyramid.request import Request
from pyramid.response import Response


class Node(dict[str, Any]):
    """A place in the tree that traversal walks through."""

    def __getitem__(self, name: str) -> "Node":
        """Every name is there, but two."""
        if name in ("nowhere", "edit"):
            raise KeyError(name)
        return Leaf() if name == "leaf" else Node()


class Leaf(Node):
    """Another class of place, with a view of its own."""


def text(request: Request) -> Response:
    """What every view answers."""
    return Response(f"{request.path}\n")


def root(_request: Request) -> Node:
    """Where traversal begins."""
    return Node()


def part(config: Configurator) -> None:
    """Routes that are included."""
    config.add_route("part", "/part/{number:\\d+}")
    config.add_view(text, route_name="part")


def moved(request: Request) -> HTTPTemporaryRedirect | HTTPNotFound:
    """What answers where no view is: as Kinto does with a slash that is too much."""
    return HTTPTemporaryRedirect("/elsewhere") if "/moved/" in request.path else HTTPNotFound()


def before_routes(handler: Any, _registry: Any) -> Any:
    """A tween that answers what never comes to a route."""
    return lambda request: Response("early\n") if request.path.startswith("/early/") else handler(request)


with Configurator(root_factory=root) as config:
    config.include(part, route_prefix="/prefix/{tenant}")
    config.add_route("hybrid", "/hybrid/{user}/*traverse")
    config.add_view(text, route_name="hybrid")
    config.add_route("only", "only/posts", request_method="POST")
    config.add_view(text, route_name="only")
    config.add_static_view("assets", "pyramid_parts:.")
    config.add_view(text, context=Node)
    config.add_view(text, context=Node, name="edit")
    config.add_view(text, context=Leaf)
    config.add_notfound_view(moved)
    config.add_tween("pyramid_parts.before_routes")
    app = config.make_wsgi_app()
