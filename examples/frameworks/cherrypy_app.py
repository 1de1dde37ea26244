"""A shop in CherryPy; gunicorn -k gunicorn_prometheus_exporter.PrometheusWorker cherrypy_app:app."""

import cherrypy


class Shop:
    """Each method is a page."""

    @cherrypy.expose
    def item(self, number: str) -> str:
        """A page with a parameter."""
        return f"item {number}\n"

    @cherrypy.expose
    def upload(self) -> str:
        """Takes a body."""
        return str(len(cherrypy.request.body.read()))

    @cherrypy.expose
    def forbidden(self) -> str:
        """Raises an exception that the framework answers."""
        raise cherrypy.HTTPError(403)

    @cherrypy.expose
    def broken(self) -> str:
        """A defect: raises an exception without a handler."""
        raise KeyError("broken")


cherrypy.config.update({"environment": "embedded"})
app = cherrypy.tree.mount(Shop(), "")
