"""Falcon in parts: suffixes, converters, sinks and static files."""

from pathlib import Path

import falcon
import falcon.asgi


class Things:
    """A resource with two routes."""

    def on_get(self, _request: falcon.Request, response: falcon.Response, **values: object) -> None:
        """Answers one object."""
        response.text = f"{values}\n"

    def on_get_all(self, _request: falcon.Request, response: falcon.Response) -> None:
        """Answers all objects."""
        response.text = "all\n"


def sink(_request: falcon.Request, response: falcon.Response, **values: object) -> None:
    """Answers every path with its prefix."""
    response.text = f"{values}\n"


class BeforeRoutes:
    """A middleware that answers requests before they reach a route."""

    def process_request(self, request: falcon.Request, response: falcon.Response) -> None:
        """Answers in two ways."""
        if request.path.startswith("/moved/"):
            raise falcon.HTTPMovedPermanently("/elsewhere")
        if request.path.startswith("/early/"):
            response.text = "early\n"
            response.complete = True


app = falcon.App(middleware=[BeforeRoutes()])
app.add_route("/things/{number:int(min=1)}", Things())
app.add_route("/things", Things(), suffix="all")
app.add_route("/path/{rest:path}", Things())
app.add_sink(sink, "/sink/(?P<name>[a-z]+)")
app.add_static_route("/assets", str(Path(__file__).parent))


class AsyncThings:
    """The same for ASGI."""

    async def on_get(self, _request: falcon.asgi.Request, response: falcon.asgi.Response, **values: object) -> None:
        """Answers one object."""
        response.text = f"{values}\n"

    async def on_get_all(self, _request: falcon.asgi.Request, response: falcon.asgi.Response) -> None:
        """Answers all objects."""
        response.text = "all\n"


asgi_app = falcon.asgi.App()
asgi_app.add_route("/things/{number:int(min=1)}", AsyncThings())
asgi_app.add_route("/things", AsyncThings(), suffix="all")
