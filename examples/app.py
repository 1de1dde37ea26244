"""The Flask application of the examples for sync and thread workers; it knows nothing of metrics of HTTP."""

from flask_app.shop import app

__all__ = ["app"]
