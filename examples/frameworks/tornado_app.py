"""A shop in tornado; gunicorn -k gunicorn_prometheus_exporter.PrometheusTornadoWorker tornado_app:app."""

from tornado.web import Application, HTTPError, RequestHandler


class Item(RequestHandler):
    """A route with a parameter."""

    async def get(self, number: str) -> None:
        """One item."""
        self.write(f"item {number}\n")


class Upload(RequestHandler):
    """Takes a body."""

    def post(self) -> None:
        """The length of the body."""
        self.write(str(len(self.request.body)))


class Forbidden(RequestHandler):
    """Raises an exception that the framework answers."""

    def get(self) -> None:
        """Refuses every client."""
        raise HTTPError(403)


class Broken(RequestHandler):
    """A defect: raises an exception without a handler."""

    def get(self) -> None:
        """Raises an exception."""
        raise KeyError("broken")


app = Application(
    [(r"/item/([0-9]+)", Item), (r"/upload", Upload), (r"/forbidden", Forbidden), (r"/broken", Broken)],
)
