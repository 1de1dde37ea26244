"""CherryPy in parts: a tree of objects, default handlers, methods as handlers, routes, and a grafted application."""

# mypy: disable-error-code="untyped-decorator"

from pathlib import Path
from typing import Any

import cherrypy
from flask_parts import admin, plain


def text(*parts: Any, **values: Any) -> str:
    """The answer of every page."""
    return f"{parts} {values}\n"


class Part:
    """An object below the root."""

    @cherrypy.expose
    def index(self) -> str:
        """The part itself."""
        return text()

    @cherrypy.expose
    def default(self, *parts: str) -> str:
        """Answers every path that has no page."""
        return text(*parts)


@cherrypy.expose
class Resource:
    """An object whose methods are those of HTTP."""

    def GET(self, number: str = "") -> str:  # noqa: N802
        """Reads."""
        return text(number)

    def POST(self) -> str:  # noqa: N802
        """Writes."""
        return text()


class Root:
    """The root of the tree."""

    part = Part()
    resource = Resource()

    @cherrypy.expose
    def index(self) -> str:
        """The root itself."""
        return text()


cherrypy.config.update({"environment": "embedded"})
cherrypy.tree.mount(
    Root(),
    "",
    {
        "/resource": {"request.dispatch": cherrypy.dispatch.MethodDispatcher()},
        "/assets": {"tools.staticdir.on": True, "tools.staticdir.dir": str(Path(__file__).parent)},
    },
)
cherrypy.tree.mount(Part(), "/mounted")
cherrypy.tree.graft(admin(), "/flask")
cherrypy.tree.graft(plain, "/grafted")
app = cherrypy.tree
