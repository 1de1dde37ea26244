"""One library for every server: old, new, and Valkey; its settings, and the rights of users."""

import subprocess
from collections.abc import Iterator, Sequence

import pytest
from redis import Redis, ResponseError
from test_module_durability import state, write_all_kinds
from test_module_push import Writer

from harness import RedisServer, eventually
from harness.batch import Batch, counter
from harness.paths import ROOT
from harness.redis import since_7
from harness.scrape import Scrape

SERVERS = ["redis-7.0", "redis-6.2", "valkey-8.0", "redis-8", "valkey-9"]

# Servers that are built from sources are tested only where they have been built: `make test-matrix` builds them.
SCRIPTS = {
    "redis-6.2": ["get-redis-6.2"],
    "valkey-8.0": ["get-valkey"],
    "redis-8": ["get-redis-8", "--if-built"],
    "valkey-9": ["get-valkey-9", "--if-built"],
}


def binary(server: str) -> str:
    """Returns the path of that server; a script fetches one that is missing here, or the test is skipped."""
    if server not in SCRIPTS:
        return "redis-server"
    script, *options = SCRIPTS[server]
    words = [str(ROOT / "scripts" / script), *options]
    found = subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()
    if not found:
        pytest.skip(f"{server} is built by `make test-matrix`, and is not there")
    return found


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """Each of the servers in turn."""
    with RedisServer(binary=binary(request.param), tcp=True, settings=debug(request.param)) as running:
        yield running


def debug(server: str) -> dict[str, str]:
    """Since 7.0 DEBUG must be allowed."""
    return {} if server == "redis-6.2" else {"enable-debug-command": "local"}


def test_the_main_job_works_on_every_server(server: RedisServer) -> None:
    writer = write_all_kinds(server, writes=100)
    assert writer.push(Batch.full(registry_ttl_ms=100_000).define(counter("hits"), {"code": "200"}, 100))[0] == "OK"
    assert 155_000 < int(str(server.execute("PTTL", "m"))) <= 160_000
    page = str(server.execute("METRICS.EXPOSE", "m"))
    assert Scrape(page, "text/plain").value("hits_total", code="200") >= 100
    digest = server.execute("DEBUG", "DIGEST-VALUE", "m")
    server.execute("DEBUG", "RELOAD")
    assert server.execute("DEBUG", "DIGEST-VALUE", "m") == digest
    server.execute("COPY", "m", "copy")
    assert server.execute("DEBUG", "DIGEST-VALUE", "copy") == digest
    # A server may free the keys of before the reload in the background.
    eventually(lambda: server.client.info("metrics")["metrics_keys"], equals=2)
    assert server.registry("m")["epoch"] == writer.epoch


@pytest.mark.parametrize("name", SERVERS)
def test_replicas_follow_on_every_server(name: str) -> None:
    with RedisServer(binary=binary(name), tcp=True, settings=debug(name)) as primary:
        with RedisServer(binary=binary(name), settings=debug(name), replica_of=primary) as replica:
            writer = write_all_kinds(primary, writes=100)
            writer.push(Batch.full(registry_ttl_ms=100_000).define(counter("hits"), {}, 1))
            eventually(lambda: state(replica), equals=state(primary))
            behind = int(str(primary.execute("PTTL", "m"))) - int(str(replica.execute("PTTL", "m")))
            assert abs(behind) < 2_000


@pytest.mark.parametrize("name", SERVERS)
@pytest.mark.parametrize("preamble", ["yes", "no"])
def test_the_append_only_file_works_on_every_server(name: str, preamble: str) -> None:
    settings = {"appendonly": "yes", "aof-use-rdb-preamble": preamble, "appendfsync": "always", **debug(name)}
    with RedisServer(binary=binary(name), settings=settings) as server:
        write_all_kinds(server, writes=50)
        server.execute("BGREWRITEAOF")
        eventually(lambda: server.client.info("persistence")["aof_rewrite_in_progress"], equals=0)
        server.execute("METRICS.INC", "m", "after_the_rewrite")
        _, before = state(server)
        server.kill()
        server.start()
        assert server.execute("DEBUG", "DIGEST-VALUE", "m") == before


@pytest.mark.parametrize(
    ("name", "rules"),
    [
        ("redis-6.2", ["~m*", "+metrics.expose"]),
        ("redis-7.0", ["%R~m*", "+metrics.expose"]),
        ("valkey-8.0", ["%R~m*", "+@read"]),
        ("redis-8", ["%R~m*", "+@read"]),
        ("valkey-9", ["%R~m*", "+@read"]),
    ],
)
def test_a_scraper_may_read_and_not_write(name: str, rules: Sequence[str]) -> None:
    with RedisServer(binary=binary(name)) as server:
        server.execute("METRICS.INC", "m", "hits")
        server.execute("ACL", "SETUSER", "scraper", "on", "nopass", *rules)
        socket = str(server.socket)
        with Redis(unix_socket_path=socket, username="scraper", password="x", decode_responses=True) as user:
            assert user.execute_command("METRICS.EXPOSE", "m") == "# TYPE hits_total counter\nhits_total 1\n"
            for words in (["METRICS.INC", "m", "hits"], ["METRICS.DEL", "m", "hits"], ["METRICS.EXPOSE", "other"]):
                with pytest.raises(ResponseError, match=r"permission"):
                    user.execute_command(*words)


@pytest.mark.parametrize("name", SERVERS)
def test_settings_are_arguments_of_loadmodule(name: str) -> None:
    with RedisServer(binary=binary(name), module_arguments=["max-series", "1", "MAX-LABEL-BYTES", "20"]) as server:
        server.execute("METRICS.INC", "m", "hits", "LABELS", 1, "a", "1")
        with pytest.raises(ResponseError, match=r"as many as metrics\.max-series allows"):
            server.execute("METRICS.INC", "m", "hits", "LABELS", 1, "a", "2")
        with pytest.raises(ResponseError, match=r"metrics\.max-label-bytes allows 20"):
            server.execute("METRICS.INC", "m", "hits", "LABELS", 1, "a", "x" * 20)


@since_7
def test_config_set_changes_settings_which_take_effect_with_the_next_write() -> None:
    with RedisServer(settings={"metrics.default-ttl": "60000"}, module_arguments=["default-ttl", "1"]) as server:
        assert server.execute("CONFIG", "GET", "metrics.default-ttl") == {"metrics.default-ttl": "60000"}
        server.execute("METRICS.INC", "m", "hits")
        server.execute("CONFIG", "SET", "metrics.max-series", 7)
        assert server.registry("m")["max_series"] == "1000000"
        server.execute("METRICS.INC", "m", "hits")
        assert server.registry("m")["max_series"] == "7"
        with pytest.raises(ResponseError, match=r"argument must be between 1 and"):
            server.execute("CONFIG", "SET", "metrics.max-series", 0)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["max-serie", "1"], "unknown argument 'max-serie' of loadmodule, expected max-series, "),
        (["max-series"], "argument 'max-series' of loadmodule lacks its value"),
        (["max-series", "none"], "'none' is no value for max-series of loadmodule, expected a whole number from 1 on"),
        (["healing-time", "-1"], "'-1' is no value for healing-time of loadmodule, expected a whole number from 0 on"),
    ],
)
def test_wrong_arguments_refuse_the_load_with_one_line(arguments: list[str], reason: str) -> None:
    server = RedisServer(module_arguments=arguments)
    with pytest.raises(RuntimeError) as error, server:
        raise AssertionError("the server runs")
    lines = [line for line in str(error.value).splitlines() if "<metrics>" in line]
    assert len(lines) == 1
    assert reason in lines[0]


def test_a_scrape_may_come_from_a_valkey_replica_of_redis() -> None:
    """Redis 7.0 to Valkey 8.0 is a usual migration; later versions do not read each other's dumps."""
    with RedisServer(binary="redis-server", tcp=True, settings=debug("")) as primary:
        writer = Writer(primary).begin()
        writer.push(Batch.full().define(counter("hits"), {}, 3))
        with RedisServer(binary=binary("valkey-8.0"), settings=debug(""), replica_of=primary) as replica:
            eventually(lambda: state(replica), equals=state(primary))
            writer.push(Batch().value(0, 4))
            eventually(lambda: replica.execute("METRICS.GET", "m", "hits"), equals="4")
            assert state(replica) == state(primary)
