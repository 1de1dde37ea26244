"""A program for PyInstaller: Gunicorn, and an application with a metric of its own, in one file."""

import sys
from collections.abc import Callable, Iterable
from typing import Any

from gunicorn.app.wsgiapp import WSGIApplication
from prometheus_client import Counter

StartResponse = Callable[[str, list[tuple[str, str]]], Any]
ORDERS = Counter("shop_orders", "Orders")


def app(_environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
    """Counts an order."""
    ORDERS.inc()
    start_response("200 OK", [("Content-Length", "3")])
    return [b"ok\n"]


if __name__ == "__main__":
    sys.modules["frozen"] = sys.modules["__main__"]
    WSGIApplication("%(prog)s [OPTIONS] [APP_MODULE]").run()
