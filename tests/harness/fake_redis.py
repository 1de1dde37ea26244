"""A server that says one thing: what a Redis in a state says that cannot be brought about here, or not quickly."""

import contextlib
import socketserver
import threading
from types import TracebackType
from typing import cast

from typing_extensions import Self


class FakeRedis:
    """Answers every command with the same line; with `greeting`, says that unasked and closes the connection."""

    def __init__(self, *, answer: str = "", greeting: str = "") -> None:
        """Lines are errors of RESP, without the minus and the end."""
        self.answer = answer
        self.greeting = greeting
        self._server = _Server(("127.0.0.1", 0), _Conversation)
        self._server.fake = self
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def port(self) -> int:
        """Of the loopback device."""
        return self._server.server_address[1]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    fake: FakeRedis


class _Conversation(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        fake = cast(_Server, self.server).fake
        with contextlib.suppress(OSError, ValueError):
            if fake.greeting:
                self.wfile.write(f"-{fake.greeting}\r\n".encode())
                return
            while (line := self.rfile.readline()) != b"":
                for _ in range(int(line[1:]) if line.startswith(b"*") else 0):
                    self.rfile.read(int(self.rfile.readline()[1:]) + 2)
                self.wfile.write(f"-{fake.answer}\r\n".encode())
