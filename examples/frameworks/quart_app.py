"""A shop in Quart; gunicorn -k gunicorn_prometheus_exporter.PrometheusUvicornWorker quart_app:app."""

from quart import Quart, abort, request

app = Quart(__name__)


@app.get("/item/<int:number>")
async def item(number: int) -> str:
    """One item, by a route with a parameter."""
    return f"item {number}\n"


@app.post("/upload")
async def upload() -> str:
    """Takes a body; answers its length."""
    return str(len(await request.get_data()))


@app.get("/forbidden")
async def forbidden() -> str:
    """Refuses every client, by an exception inside the framework."""
    return abort(403)


@app.get("/broken")
async def broken() -> str:
    """Raises an exception: a defect."""
    raise KeyError("broken")
