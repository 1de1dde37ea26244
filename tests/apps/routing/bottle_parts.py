"""Bottle in parts: applications that are merged, and applications that are mounted."""

# mypy: disable-error-code="untyped-decorator"

from typing import Any

from bottle import Bottle, HTTPResponse, redirect, request, static_file
from flask_parts import admin, plain


def text(**values: Any) -> str:
    """The answer of every route."""
    return f"{values}\n"


def part() -> Bottle:
    """Returns a part, to be mounted."""
    made = Bottle()
    made.get("/one/<number:int>", callback=text)
    return made


app = Bottle()


@app.hook("before_request")
def before_routes() -> None:
    """Answers requests before they reach a route."""
    if request.path.startswith("/moved/"):
        redirect("/elsewhere", 302)
    if request.path.startswith("/early/"):
        raise HTTPResponse("early\n")


app.get("/own/<name>", callback=text)
app.post("/only/posts", callback=text)
app.get("/files/<name:path>", callback=lambda name: static_file(name, root="/nonexistent"))
merged = part()
app.mount("/merged/", merged)
app.mount("/flask/", admin())
app.mount("/plain/", plain)
mounted = part()
mounted.get("/late", callback=text)
app.mount("/wrapped/", lambda environ, start_response: mounted(environ, start_response))
