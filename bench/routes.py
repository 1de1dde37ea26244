"""Flask applications with as many routes as a large one has: routes of `app` answer, those of `failing` fail."""

from flask import Flask

ROUTES = 5_000

app, failing = Flask(__name__), Flask(__name__)


def _fail() -> str:
    raise ValueError("as it should")


for number in range(ROUTES):
    app.add_url_rule(f"/path/{number}", f"path_{number}", lambda: "hello\n")
    failing.add_url_rule(f"/path/{number}", f"path_{number}", _fail)
