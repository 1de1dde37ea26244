"""WSGI applications under ASGI: by each adapter that there is, alone and mounted in Starlette."""

import a2wsgi
import flask
from asgiref.wsgi import WsgiToAsgi
from starlette.applications import Starlette
from starlette.middleware.wsgi import WSGIMiddleware as StarletteAdapter
from starlette.routing import Mount
from uvicorn.middleware.wsgi import _WSGIMiddleware as UvicornAdapter

shop = flask.Flask(__name__)


@shop.get("/users/<int:number>")
def user(number: int) -> str:
    """A route with a variable part."""
    return str(number)


@shop.get("/broken/<int:number>")
def broken(number: int) -> str:
    """Raises what Flask answers."""
    raise KeyError(number)


@shop.get("/slash/<int:number>/")
def slash(number: int) -> str:
    """Flask redirects to it."""
    return str(number)


by_asgiref = WsgiToAsgi(shop)
by_a2wsgi = a2wsgi.WSGIMiddleware(shop)
by_uvicorn = UvicornAdapter(shop)
by_starlette = StarletteAdapter(shop)
mounted = Starlette(routes=[Mount("/shop/{tenant}", app=by_a2wsgi), Mount("/plain", app=by_starlette)])
