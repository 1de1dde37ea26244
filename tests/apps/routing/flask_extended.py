"""Flask with extensions that bind its error handlers on the application before the worker has loaded it."""

# mypy: disable-error-code="untyped-decorator,misc,return,method-assign,assignment"

from collections.abc import Callable
from typing import Any

from flask import Flask, abort, redirect
from flask_cors import CORS
from flask_paranoid import Paranoid
from flask_restful import Api as RestfulApi
from flask_restful import Resource as RestfulResource
from flask_restx import Api as RestxApi
from flask_restx import Resource as RestxResource
from werkzeug import Response


def shop(name: str) -> Flask:
    """Returns an application whose views fail in every way."""
    made = Flask(name)
    made.secret_key = "a test"

    @made.get("/broken")
    def broken() -> str:
        raise ZeroDivisionError

    @made.get("/teapot")
    def teapot() -> str:
        abort(418)

    @made.get("/expected")
    def expected() -> str:
        raise LookupError

    @made.get("/moved")
    def moved() -> str:
        abort(redirect("/elsewhere"))

    @made.errorhandler(LookupError)
    def answer(_error: LookupError) -> tuple[str, int]:
        return "handled\n", 400

    return made


class Fails:
    """A resource of an API that fails; `what` names how."""

    def get(self, what: str) -> str:
        """Fails."""
        if what == "refused":
            abort(403)
        raise ZeroDivisionError


class RestfulFails(Fails, RestfulResource):
    """The failing resource for Flask-RESTful."""


class RestxFails(Fails, RestxResource):
    """The failing resource for Flask-RESTX."""


def with_restful() -> Flask:
    """Flask-RESTful answers what its resources raise, and never calls Flask."""
    made = shop("with_restful")
    RestfulApi(made).add_resource(RestfulFails, "/api/<what>")
    return made


def with_restx() -> Flask:
    """Flask-RESTX does the same."""
    made = shop("with_restx")
    RestxApi(made).add_resource(RestxFails, "/api/<what>")
    return made


def with_cors() -> Flask:
    """Flask-CORS wraps both handlers of the application."""
    made = shop("with_cors")
    CORS(made)
    return made


def with_paranoid() -> Flask:
    """Flask-Paranoid calls one of them by itself."""
    made = shop("with_paranoid")
    Paranoid(made)
    return made


def with_all() -> Flask:
    """Wraps each of the others."""
    made = with_restful()
    CORS(made)
    Paranoid(made)
    return made


def with_own_handlers() -> Flask:
    """An application with its own error handlers, which never call Flask's."""
    made = shop("with_own_handlers")

    def handle(_error: Exception) -> Response:
        return Response("own\n", 500)

    made.handle_user_exception = handle
    made.handle_exception = handle
    return made


def with_own_dispatch() -> Flask:
    """An application that finds its views itself, like Flask-DebugToolbar, bound before the worker is loaded."""
    made = shop("with_own_dispatch")
    bound = made.dispatch_request
    made.dispatch_request = lambda: bound()
    made.full_dispatch_request = made.full_dispatch_request
    return made


def propagating() -> Flask:
    """Exceptions reach the server."""
    made = shop("propagating")
    made.config["PROPAGATE_EXCEPTIONS"] = True
    return made


cors, restful, restx, paranoid, everything = with_cors(), with_restful(), with_restx(), with_paranoid(), with_all()
own_handlers, own_dispatch, propagated = with_own_handlers(), with_own_dispatch(), propagating()


def before_routes(application: Any) -> Callable[[dict[str, Any], Any], Any]:
    """A middleware outside of Flask that answers requests before they reach a route."""

    def call(environ: dict[str, Any], start_response: Any) -> Any:
        path = environ["PATH_INFO"]
        if path.startswith("/moved/"):
            return Response("", 301, {"Location": "/elsewhere"})(environ, start_response)
        if path.startswith("/early/"):
            return Response("early\n")(environ, start_response)
        return application(environ, start_response)

    return call


users = Flask("users")
users.add_url_rule("/users/<int:number>", "user", lambda number: f"{number}\n")
around = before_routes(users)
