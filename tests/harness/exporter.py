"""The exporter's binary, started without Gunicorn."""

import http.client
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.paths import EXPORTER, built
from harness.ports import free_port
from harness.process import Guard
from harness.redis import RedisServer


class Exporter(Guard):
    """`gunicorn-prometheus-exporter standalone`, or another of its modes."""

    name = "exporter"

    def __init__(
        self,
        mode: str = "standalone",
        *,
        redis: RedisServer | None = None,
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Settings are environment variables, as in a container."""
        self.port = free_port()
        settings = {"PROMETHEUS_METRICS_PORT": str(self.port), "PROMETHEUS_BIND_ADDRESS": "127.0.0.1"}
        if redis is not None:
            settings |= redis_environment(redis)
        super().__init__(environment={**settings, **(environment or {})})
        self.mode = mode
        self.arguments = arguments

    def command(self) -> Sequence[str | Path]:
        """The built binary."""
        return [built(EXPORTER), self.mode, *self.arguments]

    @property
    def url(self) -> str:
        """The address without a path."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def metrics_url(self) -> str:
        """The address of the page."""
        return f"{self.url}/metrics"

    def assert_ready(self) -> None:
        """The exporter answers; a 503, while Redis is away, is also an answer."""
        if "PROMETHEUS_SSL_CERTFILE" in self.environment:
            # With TLS this checks only the port, because tests check which clients the exporter accepts.
            socket.create_connection(("127.0.0.1", self.port), timeout=5).close()
            return
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/healthz")
            connection.getresponse().read()
        finally:
            connection.close()


def redis_environment(redis: RedisServer) -> dict[str, str]:
    """Returns variables that point an exporter, or the package, at that server."""
    if redis.port:
        return {"REDIS_ENABLED": "true", "REDIS_HOST": "127.0.0.1", "REDIS_PORT": str(redis.port)}
    return {"REDIS_ENABLED": "true", "GUNICORN_EXPORTER_REDIS_URL": redis.url}
