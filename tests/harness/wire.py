"""Requests as bytes, and responses as they arrive, with details that a client library hides."""

import socket
from typing import NamedTuple

# The second end is in Gunicorn's own error pages since Python 3.14: textwrap.dedent() takes the \r for a space.
_HEAD_ENDS = (b"\r\n\r\n", b"\r\n\n")


class Response(NamedTuple):
    """One response as it was on the wire."""

    status: int
    body: bytes
    is_complete: bool


class Wire:
    """A connection that sends requests one after the other, or several before the first response."""

    def __init__(self, port: int) -> None:
        """Connects to an application on loopback."""
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self._rest = b""

    @property
    def patience(self) -> float | None:
        """Seconds until a wait raises TimeoutError."""
        return self._socket.gettimeout()

    @patience.setter
    def patience(self, seconds: float) -> None:
        self._socket.settimeout(seconds)

    def send(self, data: bytes) -> None:
        """Sends exactly these bytes."""
        self._socket.sendall(data)

    def request(self, method: str, path: str, *headers: str, body: bytes = b"") -> Response:
        """Sends one request, and returns its response."""
        self.send(spell(method, path, *headers, body=body))
        return self.response(method)

    def interim(self) -> int:
        """Reads an interim response (100), which has no body; returns its status."""
        head = self._until(*_HEAD_ENDS)
        return int(head.split()[1])

    def response(self, method: str = "GET") -> Response:
        """Reads the next response; it is not complete if the server breaks it off."""
        head = self._until(*_HEAD_ENDS)
        if not head:
            return Response(0, b"", is_complete=False)
        lines = head.decode("latin-1").split("\r\n")
        status = int(lines[0].split()[1])
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        if method == "HEAD" or status in (204, 304):
            return Response(status, b"", is_complete=True)
        if headers.get("transfer-encoding") == "chunked":
            return self._chunks(status)
        if "content-length" in headers:
            length = int(headers["content-length"])
            body = self._take(length)
            return Response(status, body, len(body) == length)
        body = self._rest
        while data := self.receive():
            body += data
        return Response(status, body, is_complete=True)

    def receive(self) -> bytes:
        """Returns the next bytes; none, once the server has closed."""
        try:
            return self._socket.recv(65536)
        except ConnectionResetError:
            return b""

    def close(self) -> None:
        """Closes the connection, as a client that does not wait; further data of the server is refused."""
        self._socket.close()

    def _chunks(self, status: int) -> Response:
        body = b""
        while True:
            size = self._until(b"\r\n")
            if not size:
                return Response(status, body, is_complete=False)
            chunk = self._take(int(size, 16))
            body += chunk
            self._take(2)
            if not chunk:
                return Response(status, body, is_complete=True)

    def _until(self, *ends: bytes) -> bytes:
        while True:
            places = [(self._rest.index(end), len(end)) for end in ends if end in self._rest]
            if places:
                place, length = min(places)
                found, self._rest = self._rest[:place], self._rest[place + length :]
                return found
            data = self.receive()
            if not data:
                return b""
            self._rest += data

    def _take(self, length: int) -> bytes:
        while len(self._rest) < length and (data := self.receive()):
            self._rest += data
        found, self._rest = self._rest[:length], self._rest[length:]
        return found

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def spell(method: str, path: str, *headers: str, body: bytes = b"") -> bytes:
    """Returns a request as bytes."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *headers]
    if body and not any(header.lower().startswith("transfer-encoding") for header in headers):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body
