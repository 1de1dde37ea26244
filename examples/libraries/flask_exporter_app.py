"""prometheus-flask-exporter, as its documentation says; with the worker class PrometheusWorker."""

from typing import Any

from flask import Flask
from prometheus_flask_exporter import PrometheusMetrics

app = Flask(__name__)
metrics: Any = PrometheusMetrics(app)
metrics.info("app_info", "About it", version="1.0")


@app.route("/orders/<int:number>")  # type: ignore[untyped-decorator]
def order(number: int) -> str:
    """One order."""
    return str(number)
