"""Counts bytes of bodies that Gunicorn itself does not count.

Gunicorn's readers of request bodies know at most what is left, and ``Response.sent`` leaves out what ``sendfile``
sends. The wrappers cost nothing for requests without a body or file.
"""

from __future__ import annotations

import os
from typing import Any

from gunicorn import util
from gunicorn.http import body, wsgi

from . import imports

_installed = False


def install() -> None:
    """Wraps Gunicorn's classes in a worker, once per process."""
    global _installed
    if _installed:
        return
    _installed = True
    for name in ("LengthReader", "ChunkedReader", "EOFReader"):
        reader = getattr(body, name, None)
        if reader is not None:
            _count_received(reader)
    if hasattr(wsgi.Response, "sendfile"):
        _count_sent(wsgi.Response)
    # Gunicorn loads it with the first connection of HTTP/2.
    imports.after("gunicorn.http2.request", lambda module: _count_stream(getattr(module, "HTTP2Body", None)))


def error_page_bytes() -> int:
    """Returns the size of the body of Gunicorn's error page: it is the same for all requests."""
    page = bytearray()

    class Socket:
        def setblocking(self, is_blocking: object) -> None:
            """Does nothing: it stands for a client's socket, to which the page is written."""

        def gettimeout(self) -> None:
            """Returns no timeout."""

        def sendall(self, data: bytes) -> None:
            page.extend(data)

    try:
        util.write_error(Socket(), 500, "Internal Server Error", "")
    except Exception:  # another version of Gunicorn
        return 0
    return len(page.partition(b"\r\n\r\n")[2])


def _count_received(reader: Any) -> None:
    original = reader.read

    def read(self: Any, size: int) -> bytes:
        data: bytes = original(self, size)
        self.received += len(data)
        return data

    reader.received = 0
    reader.read = read


def _count_stream(stream: Any) -> None:
    """Counts the body of a stream of HTTP/2, which has no reader."""
    if stream is None:
        return  # another version of Gunicorn
    original = getattr(stream, "_next_chunk", None)
    if original is None:
        # Before Gunicorn 27 all of it has arrived before the request begins.
        stream.received = property(lambda self: getattr(self, "_len", 0))
        return

    def next_chunk(self: Any) -> bytes | None:
        chunk: bytes | None = original(self)
        if chunk is not None:
            self.received += len(chunk)
        return chunk

    stream.received = 0
    stream._next_chunk = next_chunk


def _count_sent(response: Any) -> None:
    original = response.sendfile

    def sendfile(self: Any, respiter: Any) -> bool:
        start = _position(respiter)
        try:
            sent: bool = original(self, respiter)
        except BaseException:
            # The client has disconnected: the position in the file shows how much was sent.
            if start is not None and (end := _position(respiter)) is not None:
                self.sent_by_sendfile = max(0, end - start)
            raise
        if sent and start is not None and not getattr(self, "_omits_body", False):
            length = self.response_length
            self.sent_by_sendfile = _size(respiter) - start if length is None else length
        return sent

    response.sent_by_sendfile = 0
    response.sendfile = sendfile


def _position(respiter: Any) -> int | None:
    try:
        return os.lseek(respiter.filelike.fileno(), 0, os.SEEK_CUR)
    except (AttributeError, OSError, ValueError):
        return None


def _size(respiter: Any) -> int:
    return os.fstat(respiter.filelike.fileno()).st_size
