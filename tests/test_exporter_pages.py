"""Pages that the exporter reads from Redis: it asks for the next one before it has read the present one."""

import http.client
import io
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import pytest
from test_exporter_standalone import ask, exposed, fill, registry_info

from harness import Exporter, RedisServer, eventually

GET = b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
PASSWORD = "p:ss word"


@pytest.fixture
def exporter(redis: RedisServer) -> Iterator[Exporter]:
    """An exporter for that Redis."""
    with Exporter(redis=redis) as running:
        yield running


def clients(redis: RedisServer) -> list[dict[str, str]]:
    """Returns the exporter's connections."""
    found = redis.client.client_list()
    own = redis.client.client_id()
    return [client for client in found if int(client["id"]) != own]


@contextmanager
def begun(exporter: Exporter) -> Iterator[http.client.HTTPResponse]:
    """Begins a scrape; yields the response, of which the head is read."""
    with socket.create_connection(("127.0.0.1", exporter.port), timeout=30) as client:
        client.sendall(GET)
        with http.client.HTTPResponse(client) as response:
            response.begin()
            assert response.status == 200
            yield response


def test_a_registry_of_one_page_needs_one_connection(redis: RedisServer, exporter: Exporter) -> None:
    fill(redis, series=10, label_bytes=100)
    for _ in range(3):
        assert ask(exporter, "/metrics").status == 200
    assert len(clients(redis)) == 1


def test_further_pages_come_over_one_more_connection(redis: RedisServer, exporter: Exporter) -> None:
    fill(redis, series=3_000, label_bytes=1_000)
    expected = (registry_info(redis) + exposed(redis, "TEXT")).encode()
    for _ in range(3):
        assert ask(exporter, "/metrics").body == expected
    assert len(clients(redis)) == 2


@pytest.mark.parametrize("user", ["", "scraper"])
def test_pages_come_over_tcp_with_the_login_and_database_of_the_settings(user: str) -> None:
    with RedisServer(tcp=True) as redis:
        url = redis.url.replace("//", f"//{user}:p%3Ass%20word@") + "/3"
        with Exporter(environment={"GUNICORN_EXPORTER_REDIS_URL": url}) as exporter:
            fill(redis, series=3_000, label_bytes=1_000)
            redis.execute("MOVE", "gunicorn:metrics", 3)
            redis.execute("ACL", "SETUSER", "scraper", "on", f">{PASSWORD}", "allkeys", "+metrics.expose", "+select")
            redis.execute("CONFIG", "SET", "requirepass", PASSWORD)
            body = ask(exporter, "/metrics").body
            names = [client["user"] for client in clients(redis)]
            redis.execute("CONFIG", "SET", "requirepass", "")
    assert len(re.findall(rb"^big_total\{", body, re.M)) == 3_000
    assert names == [user or "default"] * 2


@pytest.mark.parametrize("kill", ["all", "pages"])
def test_a_scrape_goes_on_when_redis_closes_connections_between_pages(
    redis: RedisServer, exporter: Exporter, kill: str
) -> None:
    fill(redis, series=8_000, label_bytes=2_000)
    expected = (registry_info(redis) + exposed(redis, "TEXT")).encode()
    with begun(exporter) as response:
        eventually(lambda: len(clients(redis)) == 2)
        for client in clients(redis)[0 if kill == "all" else 1 :]:
            redis.client.client_kill_filter(_id=client["id"])
        assert response.read() == expected


def test_a_redis_that_takes_no_more_clients_is_read_over_the_connection_there_is(
    redis: RedisServer, exporter: Exporter
) -> None:
    fill(redis, series=100, label_bytes=100)
    assert ask(exporter, "/metrics").status == 200
    fill(redis, series=3_000, label_bytes=1_000)
    expected = (registry_info(redis) + exposed(redis, "TEXT")).encode()
    redis.client.config_set("maxclients", len(clients(redis)) + 1)
    try:
        assert ask(exporter, "/metrics").body == expected
        assert len(clients(redis)) == 1
    finally:
        redis.client.config_set("maxclients", 1_000)


def test_a_key_that_is_made_again_between_pages_breaks_the_scrape_off(redis: RedisServer, exporter: Exporter) -> None:
    fill(redis, series=8_000, label_bytes=2_000)
    with begun(exporter) as response:
        redis.client.delete("gunicorn:metrics")
        fill(redis, series=8_000, label_bytes=2_000)
        with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
            response.read()
    expected = (registry_info(redis) + exposed(redis, "TEXT")).encode()
    assert ask(exporter, "/metrics").body == expected


class Server:
    """A Redis of three pages that sends a page only after it was asked for the next one."""

    PAGES: ClassVar = {b"0": (b"one", b"first 1\n"), b"one": (b"two", b"second 2\n"), b"two": (b"0", b"third 3\n")}

    def __init__(self, path: Path) -> None:
        """Listens on a unix socket."""
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen()
        self.asked: list[list[bytes]] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, client.makefile("rb") as commands:
            body = b""
            while words := self._command(commands):
                self.asked.append(words)
                if words[0] == b"METRICS.EXPOSE":
                    next_, page = self.PAGES[words[words.index(b"CURSOR") + 1]]
                    # What is still missing of the page before comes only now.
                    client.sendall(body + b"*2\r\n$%d\r\n%b\r\n$%d\r\n" % (len(next_), next_, len(page)))
                    body = page + b"\r\n"
                    if words[-1] == b"0" or next_ == b"0":
                        client.sendall(body)
                        body = b""
                elif words[0] == b"METRICS.INFO":
                    client.sendall(b"*2\r\n$5\r\nepoch\r\n$16\r\n0000000000000001\r\n")
                else:
                    client.sendall(b"-NOPERM no permission\r\n" if words[0] == b"ROLE" else b"+OK\r\n")

    @staticmethod
    def _command(commands: io.BufferedReader) -> list[bytes]:
        words = []
        for _ in range(int(commands.readline()[1:] or 0)):
            length = int(commands.readline()[1:])
            words.append(commands.read(length + 2)[:-2])
        return words


def test_the_next_page_is_asked_for_before_the_present_one_is_there(tmp_path: Path) -> None:
    path = tmp_path / "redis.sock"
    server = Server(path)
    try:
        with Exporter(environment={"GUNICORN_EXPORTER_REDIS_URL": f"unix://{path}"}) as exporter:
            body = ask(exporter, "/metrics").body
    finally:
        server.listener.close()
    assert body.endswith(b"first 1\nsecond 2\nthird 3\n")
    # The default size of a page is the module's: an old module does not know BYTES.
    assert not any(b"BYTES" in words for words in server.asked)
