"""A shop in Bottle; gunicorn -k gunicorn_prometheus_exporter.PrometheusWorker bottle_app:app."""

from bottle import Bottle, abort, request

app = Bottle()


@app.get("/item/<number:int>")
def item(number: int) -> str:
    """A route with a parameter."""
    return f"item {number}\n"


@app.post("/upload")
def upload() -> str:
    """Takes a body."""
    return str(len(request.body.read()))


@app.get("/forbidden")
def forbidden() -> None:
    """Raises an exception that the framework answers."""
    abort(403)


@app.get("/broken")
def broken() -> None:
    """A defect: raises an exception without a handler."""
    raise KeyError("broken")
