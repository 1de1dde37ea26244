"""prometheus-flask-exporter's classes for Gunicorn, as its documentation shows them."""

import os

from flask import Flask
from prometheus_flask_exporter import multiprocess

app = Flask(__name__)
metrics = getattr(multiprocess, os.environ["METRICS_CLASS"])(app)


@app.route("/orders")  # type: ignore[untyped-decorator]
def orders() -> str:
    """Answers a text."""
    return "ok"
