"""A WSGI application that answers in every shape that WSGI allows."""

import ctypes
import io
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from wsgiref.util import FileWrapper

StartResponse = Callable[[str, list[tuple[str, str]]], Any]


def app(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
    """Each path is a shape."""
    path: str = environ["PATH_INFO"]
    if path == "/read":
        return _whole(start_response, "200 OK", str(len(environ["wsgi.input"].read())).encode())
    if path.startswith("/missing"):
        return _whole(start_response, "404 Not Found", b"")
    if path == "/refuse":
        return _whole(start_response, "403 Forbidden", b"")
    if path == "/nothing":
        start_response("204 No Content", [])
        return []
    if path == "/head":
        start_response("200 OK", [("Content-Length", "6")])
        return []
    if path == "/stuck":
        ctypes.CDLL(None).sleep(20)  # sleep() of the C library: no green thread can run meanwhile
    if path == "/raise":
        raise KeyError(path)
    if path.startswith("/raise-any/"):
        raise type(path.rpartition("/")[2], (Exception,), {})
    if path == "/file":
        return _file(environ, start_response)
    parts = {"/parts": _parts, "/raise-early": _raise_early, "/raise-late": _raise_late, "/endless": _endless}
    if path in parts:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return parts[path]()
    return _whole(start_response, "200 OK", b"hello\n")


def _whole(start_response: StartResponse, status: str, body: bytes) -> list[bytes]:
    start_response(status, [("Content-Length", str(len(body)))])
    return [body]


def _file(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
    file = tempfile.TemporaryFile()  # noqa: SIM115 (the server closes it)
    file.write(b"f" * 100_000)
    file.seek(0)
    start_response("200 OK", [("Content-Length", "100000")])
    wrapper = environ.get("wsgi.file_wrapper", FileWrapper)
    wrapped: Iterable[bytes] = wrapper(file, io.DEFAULT_BUFFER_SIZE)
    return wrapped


def _parts() -> Iterator[bytes]:
    yield b"one "
    time.sleep(0.2)
    yield b"two "


def _raise_early() -> Iterator[bytes]:
    if time.time() > 0:
        raise OverflowError("early")
    yield b"never"


def _raise_late() -> Iterator[bytes]:
    yield b"begun "
    raise LookupError("late")


def _endless() -> Iterator[bytes]:
    while True:
        yield b"x" * 65536
