"""prometheus-fastapi-instrumentator, as its documentation says; with the worker class PrometheusUvicornWorker."""

from fastapi import FastAPI
from prometheus_fastapi_instrumentator import Instrumentator

app = FastAPI()


@app.get("/orders/{number}")
async def order(number: int) -> str:
    """One order."""
    return str(number)


Instrumentator().instrument(app).expose(app)
