"""A redis-server with the module, on a unix socket by default, and on a free TCP port if the test needs one."""

import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pytest
import redis

from harness.paths import MODULE, built
from harness.ports import free_port
from harness.process import Guard

Client = redis.Redis


# The server for every test that does not name a certain one; `make test-matrix` sets others.
DEFAULT_BINARY = os.environ.get("HARNESS_REDIS", "redis-server")


def version_of(binary: str | Path) -> tuple[int, ...]:
    """Returns the version of Redis with which a server is compatible: Valkey began as 7.2."""
    words = subprocess.run([binary, "--version"], check=True, capture_output=True, text=True).stdout
    found = re.search(r"v=(\d+)\.(\d+)", words)
    assert found is not None, words
    return (7, 2) if words.startswith("Valkey") else (int(found[1]), int(found[2]))


# Replies that are maps, settings by CONFIG, COMMAND DOCS and key specs exist since 7.0.
since_7 = pytest.mark.skipif(version_of(DEFAULT_BINARY) < (7, 0), reason="came with Redis 7.0")


class RedisServer(Guard):
    """One server. `url` is the address for an exporter; tests send commands through `client`."""

    name = "redis"

    def __init__(
        self,
        *,
        tcp: bool = False,
        module: Path | None = MODULE,
        module_arguments: Sequence[str] = (),
        settings: Mapping[str, str] | None = None,
        replica_of: "RedisServer | None" = None,
        binary: str | Path | None = None,
    ) -> None:
        """`settings` are lines of redis.conf. A replica's primary must listen on TCP. `module=None`: a plain server."""
        super().__init__()
        self.binary = binary or DEFAULT_BINARY
        self.module = module
        self.module_arguments = module_arguments
        self.port = free_port() if tcp else 0
        self.socket = self.directory / "redis.sock"
        self.settings = dict(settings or {})
        if replica_of is not None:
            assert replica_of.port, "the primary of a replica needs tcp=True"
            self.settings["replicaof"] = f"127.0.0.1 {replica_of.port}"
        self._client: Client | None = None

    def command(self) -> Sequence[str | Path]:
        """Settings become arguments: `--name value ...`. The server saves only in `shutdown(keep_data=True)`."""
        lines = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "unixsocket": str(self.socket),
            "dir": str(self.directory),
            "save": "",
            "appendonly": "no",
            "repl-diskless-sync-delay": "0",
            **self.settings,
        }
        words: list[str | Path] = [self.binary]
        if version_of(self.binary) < (7, 0):
            lines.pop("enable-debug-command", None)  # it always is
        for name, value in lines.items():
            words += [f"--{name}", *(value.split(" ") if name != "save" else [value])]
        if self.module is not None:
            words += ["--loadmodule", built(self.module), *self.module_arguments]
        return words

    @property
    def url(self) -> str:
        """The address for a client of this machine: TCP if the server listens there, otherwise the socket."""
        return f"redis://127.0.0.1:{self.port}" if self.port else f"unix://{self.socket}"

    @property
    def client(self) -> Client:
        """A connection through the socket; replies are text."""
        if self._client is None:
            self._client = Client(unix_socket_path=str(self.socket), decode_responses=True, socket_timeout=30)
        return self._client

    def raw_client(self) -> Client:
        """A connection whose replies are bytes."""
        return Client(unix_socket_path=str(self.socket), socket_timeout=30)

    def execute(self, *words: object) -> object:
        """Executes one command; an error reply raises redis.ResponseError."""
        reply: object = self.client.execute_command(*words)  # type: ignore[no-untyped-call]
        return reply

    def execute_all(self, commands: Iterable[Iterable[object]], *, transaction: bool = False) -> list[object]:
        """Executes many commands without waiting between them; the first error reply is raised."""
        pipeline = self.client.pipeline(transaction=transaction)
        for words in commands:
            pipeline.execute_command(*words)  # type: ignore[no-untyped-call]
        replies: list[object] = pipeline.execute()
        return replies

    def registry(self, key: str) -> dict[str, str]:
        """Returns METRICS.INFO of a registry, as a dict; before RESP3 the reply is a flat array."""
        reply = self.execute("METRICS.INFO", key)
        if isinstance(reply, list):
            reply = dict(zip(reply[::2], reply[1::2], strict=True))
        assert isinstance(reply, dict)
        return reply

    def assert_ready(self) -> None:
        """The server answers and has loaded its data."""
        try:
            self.client.ping()
        except redis.RedisError as error:
            raise AssertionError(f"redis does not answer: {error}") from error

    def shutdown(self, *, keep_data: bool) -> None:
        """Ends the server as its operator would. Without `keep_data` the next `start` finds nothing."""
        with contextlib.suppress(redis.RedisError):
            self.client.shutdown(save=keep_data, nosave=not keep_data)
        assert self.process is not None, "redis is not running"
        self.process.wait(30)
        if not keep_data:
            self.forget()
        self.stop()

    def forget(self) -> None:
        """Removes the stopped server's files."""
        (self.directory / "dump.rdb").unlink(missing_ok=True)
        shutil.rmtree(self.directory / "appendonlydir", ignore_errors=True)

    def stop(self, *, patience: float = 15.0) -> int:
        """Ends the process without saving."""
        if self._client is not None:
            self._client.close()
            self._client = None
        return super().stop(patience=patience)

    def stats(self, command: str) -> dict[str, float]:
        """Returns INFO commandstats of one command: calls, usec, usec_per_call; zeros if it was never called."""
        every = {name.lower(): figures for name, figures in self.client.info("commandstats").items()}
        found = every.get(f"cmdstat_{command.lower()}", {})
        return {name: float(found.get(name, 0)) for name in ("calls", "usec", "usec_per_call")}
