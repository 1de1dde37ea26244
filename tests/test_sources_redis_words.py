"""Error messages of a Redis that cannot be used reach the user in Redis' own words."""

import contextlib
import html
import socket
import urllib.error
import urllib.request
from typing import NamedTuple

import pytest

from harness import Exporter, Gunicorn, RedisServer, eventually, scrape
from harness.fake_redis import FakeRedis

KEY = "gunicorn:metrics"


def refusal(environment: dict[str, str]) -> str:
    """Returns the line that a scrape gets; the log has it, and the page for browsers."""
    with Exporter(environment={"REDIS_ENABLED": "true", "REDIS_HOST": "127.0.0.1", **environment}) as exporter:
        line = _refused(exporter.metrics_url, "text/plain")
        assert line in exporter.log
        page = _refused(f"{exporter.url}/", "text/html")
        assert line in html.unescape(page), page
        return line


def _refused(url: str, accept: str) -> str:
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(urllib.request.Request(url, headers={"Accept": accept}), timeout=10)
    assert refused.value.code == 503
    return refused.value.read().decode().strip()


class State(NamedTuple):
    """What a server says in it, and what the user is told; `{at}` is the address."""

    says: str
    told: str


GREETINGS = {
    "protected": State(
        "DENIED Redis is running in protected mode because protected mode is enabled and no password is set for the "
        "default user. In this mode connections are only accepted from the loopback interface.",
        "redis at {at} refuses connections: DENIED Redis is running in protected mode because protected mode is "
        "enabled and no password is set for the default user. In this mode connections are only accepted from the "
        "loopback interface.",
    ),
}
ANSWERS = {
    "loading": State(
        "LOADING Redis is loading the dataset in memory", "redis at {at} is still loading its data, try again soon"
    ),
    "cut off": State(
        "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
        "redis at {at} is a replica that is cut off from its primary: Link with MASTER is down and "
        "replica-serve-stale-data is set to 'no'.",
    ),
    "busy": State(
        "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
        "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
    ),
    "another node": State(
        "MOVED 3999 127.0.0.1:6381",
        "redis at {at} is a node of a cluster and does not hold gunicorn:metrics: set exporter.redis.cluster",
    ),
    "cluster down": State(
        "CLUSTERDOWN The cluster is down", "the cluster of redis at {at} cannot answer now: The cluster is down"
    ),
    "no login": State(
        "NOAUTH Authentication required.",
        "redis at {at} refuses to log in: check exporter.redis.username and exporter.redis.password",
    ),
    "no disk": State(
        "MISCONF Errors writing to the AOF file: No space left on device",
        "MISCONF Errors writing to the AOF file: No space left on device",
    ),
    "no replicas": State(
        "NOREPLICAS Not enough good replicas to write.", "NOREPLICAS Not enough good replicas to write."
    ),
}


@pytest.mark.parametrize("state", GREETINGS.values(), ids=GREETINGS)
def test_what_a_server_says_unasked_is_told(state: State) -> None:
    with FakeRedis(greeting=state.says) as server:
        assert refusal({"REDIS_PORT": str(server.port)}) == state.told.format(at=f"127.0.0.1:{server.port}")


@pytest.mark.parametrize("state", ANSWERS.values(), ids=ANSWERS)
def test_what_a_server_answers_is_told(state: State) -> None:
    with FakeRedis(answer=state.says) as server:
        line = refusal({"REDIS_PORT": str(server.port)})
        assert state.told.format(at=f"127.0.0.1:{server.port}") in line
        assert line.startswith(f"redis at 127.0.0.1:{server.port} ") or line.startswith("the cluster of redis at ")


@pytest.mark.parametrize("state", [*GREETINGS.values(), *ANSWERS.values()], ids=[*GREETINGS, *ANSWERS])
def test_an_application_logs_what_the_server_says_once(state: State) -> None:
    greets = state in GREETINGS.values()
    with FakeRedis(**{"greeting" if greets else "answer": state.says}) as server:
        environment = {"REDIS_ENABLED": "true", "REDIS_HOST": "127.0.0.1", "REDIS_PORT": str(server.port)}
        with Gunicorn(environment=environment) as gunicorn:
            assert gunicorn.get("/").status == 200
            told = state.told.format(at=f"127.0.0.1:{server.port}")
            eventually(lambda: told in gunicorn.log)
            scrape(f"{gunicorn.metrics_url}/instance")
            lines = [line for line in gunicorn.log.splitlines() if "has to wait" in line]
            assert len(lines) == 1, lines


@pytest.mark.parametrize("protects", ["plain", "tls"])
def test_a_server_in_protected_mode_says_so(protects: str) -> None:
    """A real one, by the address of this machine that is not its loopback device's."""
    address = _own_address()
    with RedisServer(tcp=True, settings={"bind": "0.0.0.0", "protected-mode": "yes"}) as server:
        environment = {"REDIS_HOST": address, "REDIS_PORT": str(server.port)}
        if protects == "tls":
            environment["GUNICORN_EXPORTER_REDIS_SSL_ENABLED"] = "true"
        line = refusal(environment)
        start = f"redis at {address}:{server.port} refuses connections: DENIED Redis is running in protected mode "
        assert line.startswith(start)
        assert line.endswith(".")


def _own_address() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
        # Nothing is sent: the system only chooses from which address it would be.
        probe.connect(("192.0.2.1", 9))
        address: str = probe.getsockname()[0]
        if not address.startswith("127."):
            return address
    pytest.skip("this machine has no address but the loopback device's")


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
