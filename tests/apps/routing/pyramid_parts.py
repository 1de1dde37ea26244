"""Pyramid in parts: included routes with a prefix, traversal, and both."""

from typing import Any

from pyramid.config import Configurator
from pyramid.httpexceptions import HTTPNotFound, HTTPTemporaryRedirect
from pyramid.request import Request
from pyramid.response import Response


class Node(dict[str, Any]):
    """A node of the tree through which traversal walks."""

    def __getitem__(self, name: str) -> "Node":
        """Returns a node for every name but two."""
        if name in ("nowhere", "edit"):
            raise KeyError(name)
        return Leaf() if name == "leaf" else Node()


class Leaf(Node):
    """Another class of node, with its own view."""


def text(request: Request) -> Response:
    """The answer of every view."""
    return Response(f"{request.path}\n")


def root(_request: Request) -> Node:
    """Returns the node at which traversal begins."""
    return Node()


def part(config: Configurator) -> None:
    """Includes routes."""
    config.add_route("part", "/part/{number:\\d+}")
    config.add_view(text, route_name="part")


def moved(request: Request) -> HTTPTemporaryRedirect | HTTPNotFound:
    """Answers where no view exists: like Kinto for a superfluous slash."""
    return HTTPTemporaryRedirect("/elsewhere") if "/moved/" in request.path else HTTPNotFound()


def before_routes(handler: Any, _registry: Any) -> Any:
    """A tween that answers requests before they reach a route."""
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
