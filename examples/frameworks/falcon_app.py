"""A shop in Falcon; gunicorn -k gunicorn_prometheus_exporter.PrometheusWorker falcon_app:app."""

import falcon


class Item:
    """A route with a parameter."""

    def on_get(self, _request: falcon.Request, response: falcon.Response, number: int) -> None:
        """One item."""
        response.text = f"item {number}\n"


class Upload:
    """Takes a body."""

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """The length of the body."""
        response.text = str(len(request.bounded_stream.read()))


class Forbidden:
    """Raises an exception that the framework answers."""

    def on_get(self, _request: falcon.Request, _response: falcon.Response) -> None:
        """Refuses every client."""
        raise falcon.HTTPForbidden


class Broken:
    """A defect: raises an exception without a handler."""

    def on_get(self, _request: falcon.Request, _response: falcon.Response) -> None:
        """Raises an exception."""
        raise KeyError("broken")


app = falcon.App()
app.add_route("/item/{number:int}", Item())
app.add_route("/upload", Upload())
app.add_route("/forbidden", Forbidden())
app.add_route("/broken", Broken())
