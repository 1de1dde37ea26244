"""Flask in parts: blueprints, one in another, class-based views, static files, and applications mounted beside it."""

# mypy: disable-error-code="untyped-decorator"

from pathlib import Path
from typing import Any

from flask import Blueprint, Flask
from flask.views import MethodView
from werkzeug.middleware.dispatcher import DispatcherMiddleware


def text(**values: Any) -> str:
    """The answer of every route."""
    return f"{values}\n"


def plain(environ: dict[str, Any], start_response: Any) -> list[bytes]:  # noqa: ARG001
    """A WSGI application without a framework."""
    start_response("200 OK", [("Content-Length", "6")])
    return [b"plain\n"]


class Users(MethodView):
    """A view that is a class."""

    def get(self, number: int) -> str:
        """Answers one user."""
        return text(number=number)


def shop() -> Flask:
    """An application of several parts."""
    made = Flask("flask_parts", static_folder=str(Path(__file__).parent), static_url_path="/assets")
    made.config["APPLICATION_ROOT"] = "/root"
    inner = Blueprint("inner", __name__, url_prefix="/inner/<lang>")
    inner.add_url_rule("/<int:number>", "one", text)
    outer = Blueprint("outer", __name__, url_prefix="/outer")
    outer.add_url_rule("/one/<name>", "one", text)
    outer.register_blueprint(inner)
    made.register_blueprint(outer)
    made.register_blueprint(outer, url_prefix="/again", name="again")
    made.add_url_rule("/users/<int:number>", view_func=Users.as_view("users"))
    made.add_url_rule("/folder/", "folder", text)
    made.add_url_rule("/files/<path:name>", "files", text)
    return made


def admin() -> Flask:
    """Returns another application, with an equal rule."""
    made = Flask("flask_admin")
    made.add_url_rule("/users/<int:number>", "user", text)
    return made


app = DispatcherMiddleware(shop(), {"/admin": admin(), "/deep/admin": admin(), "/plain": plain})
