"""Tornado in parts: routers in one another, hosts, static files, a WSGI application beside it, websockets, streams."""

import asyncio
from pathlib import Path
from typing import Any

from tornado.routing import PathMatches, Rule, RuleRouter
from tornado.web import Application, FallbackHandler, Finish, RequestHandler, StaticFileHandler
from tornado.websocket import WebSocketHandler
from tornado.wsgi import WSGIContainer


class Text(RequestHandler):
    """What every route answers."""

    def get(self, **values: str) -> None:
        """Anything."""
        self.write(f"{values}\n")


class Parts(RequestHandler):
    """A response that is streamed."""

    async def get(self) -> None:
        """In two parts."""
        self.write("one ")
        await self.flush()
        await asyncio.sleep(0.2)
        self.write("two ")


class Late(RequestHandler):
    """A defect within the response."""

    async def get(self) -> None:
        """One part, and no other."""
        self.write("begun ")
        await self.flush()
        raise LookupError("late")


class Done(RequestHandler):
    """Says that it is done, which is an exception and no error."""

    def get(self) -> None:
        """Has nothing."""
        self.set_status(204)
        raise Finish


class Echo(WebSocketHandler):
    """A websocket that says one thing."""

    def open(self, *_: str, **__: str) -> None:
        """Says it."""
        self.write_message("hello")


def plain(environ: dict[str, Any], start_response: Any) -> list[bytes]:  # noqa: ARG001
    """No framework."""
    start_response("200 OK", [("Content-Length", "6")])
    return [b"plain\n"]


part = RuleRouter(
    [
        Rule(PathMatches(r"/part/one/(?P<number>[0-9]+)"), Application([(r"/part/one/(?P<number>[0-9]+)", Text)])),
        Rule(PathMatches(r"/part/none.*"), Application([])),
    ]
)
app = Application(
    [
        (r"/text/(?P<name>\w+)", Text),
        (r"/parts", Parts),
        (r"/late", Late),
        (r"/done", Done),
        (r"/echo", Echo),
        (r"/assets/(.*)", StaticFileHandler, {"path": Path(__file__).parent}),
        (r"/plain/.*", FallbackHandler, {"fallback": WSGIContainer(plain)}),
        Rule(PathMatches(r"/part/.*"), part),
    ]
)
app.add_handlers(r"api\.example\.org", [(r"/hosted/(?P<name>\w+)", Text)])
