"""Tornado in parts: routers in one another, hosts, static files, a WSGI application beside it, websockets, streams."""

import asyncio
from pathlib import Path
from typing import Any

from tornado.routing import PathMatches, Rule, RuleRouter
from tornado.web import Application, FallbackHandler, Finish, RequestHandler, StaticFileHandler
from tornado.websocket import WebSocketHandler
from tornado.wsgi import WSGIContainer


class Text(RequestHandler):
    """The answer of every route."""

    def get(self, **values: str) -> None:
        """Answers any path."""
        self.write(f"{values}\n")


class Parts(RequestHandler):
    """A response that is streamed."""

    async def get(self) -> None:
        """Sends two parts."""
        self.write("one ")
        await self.flush()
        await asyncio.sleep(0.2)
        self.write("two ")


class Late(RequestHandler):
    """A defect in the middle of the response."""

    async def get(self) -> None:
        """Sends one part, and fails."""
        self.write("begun ")
        await self.flush()
        raise LookupError("late")


class Done(RequestHandler):
    """Ends the response by raising `Finish`, which is not an error."""

    def get(self) -> None:
        """Answers with an empty body."""
        self.set_status(204)
        raise Finish


class Echo(WebSocketHandler):
    """A websocket that sends one message."""

    def open(self, *_: str, **__: str) -> None:
        """Sends it."""
        self.write_message("hello")


def plain(environ: dict[str, Any], start_response: Any) -> list[bytes]:  # noqa: ARG001
    """A WSGI application without a framework."""
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
