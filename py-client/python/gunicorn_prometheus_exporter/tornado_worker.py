"""The worker class for tornado, which calls none of Gunicorn's hooks: requests are recorded on the way from tornado's
HTTP server to the application.
"""

from __future__ import annotations

from typing import Any

from . import MissingWorkerError
from .frameworks import ENDPOINT, ERRORS, METERED
from .workers import MeteredWorker

try:
    import tornado.http1connection
    import tornado.httpserver
    import tornado.httputil
    import tornado.wsgi
    from gunicorn.workers.gtornado import TornadoWorker
except ImportError as error:
    raise MissingWorkerError("PrometheusTornadoWorker needs the package tornado: install it") from error


class PrometheusTornadoWorker(MeteredWorker, TornadoWorker):  # type: ignore[misc]
    """The ``tornado`` worker: an event loop."""

    has_hooks = False

    def run(self) -> None:
        """Serves; the server and its class are made in here."""
        if self.metrics_recorder is not None:
            _meter_server(self.metrics_recorder)
        super().run()


def _meter_server(recorder: Any) -> None:
    server: Any = tornado.httpserver.HTTPServer
    original = server.start_request

    def start_request(self: Any, server_conn: Any, request_conn: Any) -> Any:
        delegate = original(self, server_conn, request_conn)
        # Other servers of the application are not recorded.
        if type(self).__module__ != TornadoWorker.__module__:
            return delegate
        return _Metered(recorder, delegate, request_conn)

    server.start_request = start_request
    _follow_connections()
    # Frameworks leave their facts in the WSGI environment.
    container: Any = tornado.wsgi.WSGIContainer
    make_environ = container.environ

    def environ(*args: Any) -> Any:
        made = make_environ(*args)
        # The last argument is the request.
        request = getattr(args[-1].connection, "metered_request", None)
        if request is not None:
            request.environ = made
            made[METERED] = request
        return made

    # Until tornado 6.3 it was a static method.
    container.environ = staticmethod(environ) if isinstance(vars(container).get("environ"), staticmethod) else environ
    _end_what_raises(container)


def _end_what_raises(container: Any) -> None:
    # tornado logs an exception of a WSGI application, and sends no response.
    handle = getattr(container, "handle_request", None)
    if handle is None:
        return  # before 6.3 there is no such step: such a request ends when its client disconnects

    async def handle_request(self: Any, request: Any) -> None:
        try:
            await handle(self, request)
        except Exception as error:
            metered = getattr(request.connection, "metered_request", None)
            if metered is not None:
                metered.end(error)
            raise

    container.handle_request = handle_request


class _Metered(tornado.httputil.HTTPMessageDelegate):  # type: ignore[misc]
    """One request: passes everything on to the application's delegate, and counts the response."""

    start: int | None = None
    method = path = ""
    headers: Any = None
    trace: str | None = None
    _endpoint: str | None = None
    status = received = sent = 0

    def __init__(self, recorder: Any, delegate: Any, connection: Any) -> None:
        self.recorder = recorder
        self.delegate = delegate
        self.connection = connection
        self.environ: dict[str, Any] = {}

    @property
    def endpoint(self) -> str | None:
        """The endpoint from frameworks/tornado.py; that of a WSGI application is in its environment too."""
        return self._endpoint

    @endpoint.setter
    def endpoint(self, endpoint: str | None) -> None:
        self._endpoint = endpoint
        if endpoint:
            self.show(endpoint)

    def show(self, endpoint: str) -> None:
        """Shows an endpoint while the request is in progress; its label may become another."""
        if self.start is not None:
            self.recorder.name(self.start, endpoint)

    def headers_received(self, start_line: Any, headers: Any) -> Any:
        self.method = method = start_line.method
        self.path = path = start_line.path.partition("?")[0]
        self.headers = headers
        # Not `get`, which raises and catches a KeyError for each missing header.
        trace = headers.get_list("Traceparent")
        self.trace = trace[0] if trace else None
        self.start = self.recorder.begin(method, path, self.trace)
        if self.start is not None:
            self.connection.metered_request = self
        return self.delegate.headers_received(start_line, headers)

    def data_received(self, chunk: bytes) -> Any:
        self.received += len(chunk)
        return self.delegate.data_received(chunk)

    def finish(self) -> None:
        self.delegate.finish()

    def on_connection_close(self) -> None:
        try:
            self.delegate.on_connection_close()
        finally:
            self.end()

    def end(self, error: BaseException | None = None) -> None:
        """Ends the request; only the first call counts."""
        start = self.start
        if start is None:
            return
        self.start = None
        # The two refer to each other; without this the garbage collector would have to free them.
        self.connection.metered_request = None
        environ = self.environ
        environ.pop(METERED, None)  # these two refer to each other as well
        errors = environ.get(ERRORS)
        began = self.headers.get_list("X-Request-Start")
        self.recorder.end(
            start,
            self.method,
            self.path,
            environ.get(ENDPOINT, self._endpoint),
            self.status,
            (self.received, self.sent),
            (began[0] if began else None, self.trace),
            None if errors is None else errors.without(error),
            error,
        )


def _follow_connections() -> None:
    # Each request has an object of this class; the application answers by three of its methods.
    connection: Any = tornado.http1connection.HTTP1Connection
    write_headers, write, finish = connection.write_headers, connection.write, connection.finish

    def counting_write_headers(self: Any, start_line: Any, headers: Any, chunk: bytes | None = None) -> Any:
        written = write_headers(self, start_line, headers, chunk)
        request = self.metered_request
        if request is not None:
            request.status = start_line.code
            if chunk and request.method != "HEAD":
                request.sent += len(chunk)
        return written

    def counting_write(self: Any, chunk: bytes) -> Any:
        written = write(self, chunk)
        request = self.metered_request
        if request is not None and request.method != "HEAD":
            request.sent += len(chunk)
        return written

    def ending_finish(self: Any) -> None:
        finish(self)
        request = self.metered_request
        if request is not None:
            request.end()

    connection.metered_request = None
    connection.write_headers = counting_write_headers
    connection.write = counting_write
    connection.finish = ending_finish
