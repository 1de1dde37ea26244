"""A small book shop: an ordinary Flask application with ordinary prometheus_client metrics.

Nothing in it knows of gunicorn or of the exporter.
"""

from flask import Flask, abort, request
from prometheus_client import Counter, Gauge, Histogram

BOOKS = {1: "A Tale of Two Cities", 2: "Middlemarch", 3: "The Master and Margarita"}

ORDERS = Counter("shop_orders_total", "Orders taken, by title.", ["title"])
ORDER_QUANTITY = Histogram("shop_order_quantity", "Copies in one order.", buckets=(1, 2, 5, 10))
LAST_ORDER = Gauge(
    "shop_last_order_copies", "Copies in the order taken last, of all workers.", multiprocess_mode="mostrecent"
)

app = Flask(__name__)


@app.get("/")
def index() -> dict[str, object]:
    """All books."""
    return {"books": BOOKS}


@app.get("/books/<int:number>")
def book(number: int) -> dict[str, object]:
    """One book; for an unknown number the application answers 404."""
    if number not in BOOKS:
        abort(404)
    return {"title": BOOKS[number]}


@app.post("/orders")
def order() -> tuple[dict[str, object], int]:
    """Takes `{"book": 1, "copies": 2}`."""
    wanted = request.get_json()
    title = BOOKS.get(wanted.get("book"))
    if title is None:
        abort(400)
    copies = int(wanted.get("copies", 1))
    ORDERS.labels(title).inc()
    ORDER_QUANTITY.observe(copies)
    LAST_ORDER.set(copies)
    return {"ordered": title, "copies": copies}, 201


@app.get("/broken")
def broken() -> dict[str, object]:
    """A defect: the exception reaches Flask, which answers 500."""
    return {"price": 1 / 0}
