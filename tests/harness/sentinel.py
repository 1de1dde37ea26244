"""A primary, a replica, and the sentinels that monitor them."""

import socket
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from typing_extensions import Self

from harness.eventually import eventually
from harness.ports import free_port
from harness.process import Guard
from harness.redis import Client, RedisServer

MASTER = "shared-metrics"


class Sentinel(Guard):
    """One sentinel; it writes its state into its configuration file."""

    name = "sentinel"

    def __init__(self, primary: RedisServer, *, quorum: int, settings: Sequence[str] = ()) -> None:
        """`settings` are further lines of its configuration."""
        super().__init__()
        self.port = free_port()
        self.path = self.directory / "sentinel.conf"
        lines = (
            f"port {self.port}",
            "bind 127.0.0.1",
            f"dir {self.directory}",
            f"sentinel monitor {MASTER} 127.0.0.1 {primary.port} {quorum}",
            f"sentinel down-after-milliseconds {MASTER} 1000",
            f"sentinel failover-timeout {MASTER} 5000",
            *settings,
        )
        self.path.write_text("\n".join(lines) + "\n")

    def command(self) -> Sequence[str | Path]:
        """The same program as the server."""
        return ["redis-server", self.path, "--sentinel"]

    def assert_ready(self) -> None:
        """The sentinel listens."""
        socket.create_connection(("127.0.0.1", self.port), timeout=5).close()


class SentinelSetup:
    """A primary and a replica under three sentinels."""

    def __init__(self, *, password: str = "", server_settings: dict[str, str] | None = None) -> None:
        """`password` is the password that the sentinels require of clients; empty: none."""
        settings = server_settings or {}
        self.password = password
        self.primary = RedisServer(tcp=True, settings=settings)
        self.replica = RedisServer(tcp=True, settings=settings, replica_of=self.primary)
        lines = [f"requirepass {password}", f"sentinel sentinel-pass {password}"] if password else []
        self.sentinels = [Sentinel(self.primary, quorum=2, settings=lines) for _ in range(3)]
        self._running = ExitStack()

    def start(self) -> None:
        """Returns when every sentinel knows the replica and the other sentinels."""
        for one in (self.primary, self.replica, *self.sentinels):
            self._running.enter_context(one)
        for sentinel in self.sentinels:
            eventually(lambda sentinel=sentinel: self._seen_by(sentinel), equals=("1", "2"))  # type: ignore[misc]

    def environment(self) -> dict[str, str]:
        """Returns variables that point an exporter, or the package, at the sentinels. The first address is dead."""
        hosts = [f"127.0.0.1:{free_port()}", *(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)]
        login = {"GUNICORN_EXPORTER_REDIS_SENTINEL_PASSWORD": self.password} if self.password else {}
        return {
            "REDIS_ENABLED": "true",
            "GUNICORN_EXPORTER_REDIS_SENTINEL_HOSTS": ",".join(hosts),
            "GUNICORN_EXPORTER_REDIS_SENTINEL_MASTER": MASTER,
            **login,
        }

    def fail_over(self) -> None:
        """Tells the sentinels to choose another primary."""
        with Client(port=self.sentinels[0].port, password=self.password or None) as client:
            client.execute_command("SENTINEL", "FAILOVER", MASTER)

    def _seen_by(self, sentinel: Sentinel) -> tuple[str, str]:
        with Client(port=sentinel.port, password=self.password or None, decode_responses=True) as client:
            fields = client.execute_command("SENTINEL", "MASTER", MASTER)
        pairs = fields if isinstance(fields, dict) else dict(zip(fields[::2], fields[1::2], strict=True))
        return str(pairs["num-slaves"]), str(pairs["num-other-sentinels"])

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self._running.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._running.close()
