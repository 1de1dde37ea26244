"""A Flask application without any code for this package."""

# mypy: disable-error-code="untyped-decorator"

from flask import Flask, abort

app = Flask(__name__)


@app.get("/users/<int:number>")
def user(number: int) -> str:
    """A route with a parameter."""
    return f"user {number}"


@app.get("/broken")
def broken() -> str:
    """A defect: raises an exception without a handler."""
    return str(1 / 0)


@app.get("/teapot")
def teapot() -> str:
    """Raises an exception that Flask answers."""
    return str(abort(418))


@app.get("/expected")
def expected() -> str:
    """An exception that the application has a handler for."""
    raise LookupError("expected")


@app.errorhandler(LookupError)
def handle(_error: LookupError) -> tuple[str, int]:
    """Answers it."""
    return "not found after all", 400
