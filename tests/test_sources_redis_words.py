"""Error messages of a Redis that cannot be used reach the user in Redis' own words."""

import urllib.error

import pytest

from harness import Exporter, RedisServer, scrape

KEY = "gunicorn:metrics"


def refusal(environment: dict[str, str]) -> str:
    """Returns the line that a scrape gets."""
    with Exporter(environment={"REDIS_ENABLED": "true", "REDIS_HOST": "127.0.0.1", **environment}) as exporter:
        with pytest.raises(urllib.error.HTTPError) as refused:
            scrape(exporter.metrics_url)
        assert refused.value.code == 503
        return refused.value.read().decode().strip()


def test_a_server_at_maxclients_is_named() -> None:
    """Like a server in protected mode, it sends the error at once, and closes the connection."""
    with RedisServer(tcp=True) as server:
        server.execute("CONFIG", "SET", "maxclients", "1")
        line = refusal({"REDIS_PORT": str(server.port)})
        assert line == f"redis at 127.0.0.1:{server.port} refuses connections: ERR max number of clients reached"
        server.execute("CONFIG", "SET", "maxclients", "100")


def test_tls_towards_a_plain_port_is_named() -> None:
    with RedisServer(tcp=True) as server:
        environment = {"REDIS_PORT": str(server.port), "GUNICORN_EXPORTER_REDIS_SSL_ENABLED": "true"}
        assert refusal(environment) == (
            f"redis at 127.0.0.1:{server.port} speaks no TLS at this port: "
            "name its TLS port, or turn exporter.redis.ssl.enabled (a URL of rediss://) off"
        )


def test_an_exporter_that_is_pointed_at_a_replica_uses_its_primary() -> None:
    with RedisServer(tcp=True) as primary, RedisServer(tcp=True, replica_of=primary) as replica:
        primary.execute("METRICS.INC", KEY, "hits")
        environment = {"REDIS_ENABLED": "true", "REDIS_HOST": "127.0.0.1", "REDIS_PORT": str(replica.port)}
        with Exporter(environment=environment) as exporter:
            assert scrape(exporter.metrics_url).value("hits_total") == 1
            assert f"redis at 127.0.0.1:{replica.port} is a replica: its primary 127.0.0.1:{primary.port} is used" in (
                exporter.log
            )
            primary.execute("METRICS.INC", KEY, "hits")
            assert scrape(exporter.metrics_url).value("hits_total") == 2
        primary.kill()
        line = refusal({"REDIS_PORT": str(replica.port)})
        assert line.startswith(f"redis at 127.0.0.1:{replica.port} is a replica of 127.0.0.1:{primary.port}, which")
