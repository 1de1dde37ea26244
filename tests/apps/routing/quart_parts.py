"""Quart: a blueprint, redirects before routing, methods that are not allowed, and exceptions."""

import quart
from werkzeug.exceptions import NotFound

app = quart.Quart(__name__)
parts = quart.Blueprint("parts", __name__, url_prefix="/parts")


@app.get("/users/<int:number>")
async def user(number: int) -> str:
    """A route with a variable part."""
    return str(number)


@app.get("/slash/<int:number>/")
async def slash(number: int) -> str:
    """Quart redirects to it."""
    return str(number)


@parts.get("/leaf/<name>")
async def leaf(name: str) -> str:
    """One of a blueprint."""
    return name


@parts.get("/gone/<name>")
async def gone(name: str) -> str:
    """An answer that is raised."""
    raise NotFound(name)


@parts.get("/broken/<name>")
async def broken(name: str) -> str:
    """What no handler is there for."""
    raise KeyError(name)


app.register_blueprint(parts)
