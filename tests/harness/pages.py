"""Unparsed pages of METRICS.EXPOSE, and a server of fixed pages for scrapers of other projects."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from redis import Redis

from harness.redis import RedisServer


def page(redis: RedisServer, key: str, *options: object) -> bytes:
    """Returns the whole page at once."""
    with _binary(redis) as client:
        body: bytes = client.execute_command("METRICS.EXPOSE", key, *options)
        return body


def pages(redis: RedisServer, key: str, *options: object) -> list[bytes]:
    """Returns all pages, one after the other."""
    bodies: list[bytes] = []
    cursor: object = b"0"
    with _binary(redis) as client:
        while len(bodies) < 100_000:
            words = ("METRICS.EXPOSE", key, *options, "CURSOR", cursor)
            cursor, body = client.execute_command(*words)
            bodies.append(body)
            if cursor == b"0":
                return bodies
    raise AssertionError("the pages do not end")


@contextmanager
def served(bodies: Mapping[str, tuple[str, bytes]]) -> Iterator[str]:
    """Answers `/name` with that content type and body; yields the address as `host:port`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content_type, body = bodies[self.path.strip("/")]
            self.send_response(200)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Writes no log."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _binary(redis: RedisServer) -> "Redis":
    return Redis(unix_socket_path=str(redis.socket), socket_timeout=30)
