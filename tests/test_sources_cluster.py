"""Families spread over shards, on one Redis and in a Cluster: counts are exact, whatever moves or dies."""

import signal
import time
import urllib.error
import zlib
from collections.abc import Iterator

import pytest

from harness import Exporter, Gunicorn, Load, RedisServer, eventually, scrape
from harness.batch import Batch, counter
from harness.cluster import Cluster
from harness.redis import Client
from harness.scrape import OPENMETRICS

SHARDS = 4
KEYS = [f"gunicorn:metrics:{{{shard}}}" for shard in range(SHARDS)]
REQUESTS = "gunicorn_worker_requests_total"
DURATIONS = "gunicorn_worker_request_duration_seconds_count"


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """Three primaries, one replica."""
    with Cluster() as one:
        yield one


def test_the_checksum_of_a_familys_name_selects_its_shard(redis: RedisServer) -> None:
    environment = {"GUNICORN_EXPORTER_REDIS_SHARDS": str(SHARDS)}
    with Gunicorn(redis=redis, environment=environment) as gunicorn:
        assert gunicorn.get("/").status == 200
        eventually(lambda: scrape(gunicorn.metrics_url).sum(REQUESTS), equals=1.0)
        spread = {
            key: {line.split()[2] for line in page(redis, key).splitlines() if line.startswith("# TYPE")}
            for key in KEYS
        }
        assert sum(len(names) > 0 for names in spread.values()) == SHARDS
        for shard, key in enumerate(KEYS):
            for name in spread[key]:
                assert zlib.crc32(name.removesuffix("_total").encode()) % SHARDS == shard


def test_a_page_of_several_shards_has_nothing_twice(redis: RedisServer) -> None:
    """The page counts what all shards left out in one family, and names that look equal on it are in one shard."""
    wrong = Batch.full().define(counter("hits"), {"le": "1"}, 1.0).encode()
    for key in KEYS[:2]:
        epoch = redis.execute("METRICS.PUSH", key, "w", 0, Batch().encode())
        assert isinstance(epoch, list)
        redis.execute("METRICS.PUSH", key, "w", 1, wrong, "EPOCH", epoch[1])
    for value, name in enumerate(["a.b", "a-b", "a_b"]):
        redis.execute("METRICS.SET", KEYS[zlib.crc32(b"a_b") % SHARDS], name, value)
    with Exporter(redis=redis, environment={"GUNICORN_EXPORTER_REDIS_SHARDS": str(SHARDS)}) as exporter:
        for accept in (None, OPENMETRICS):
            # The reader refuses two families of one name.
            whole = scrape(exporter.metrics_url, accept=accept)
            assert whole.value("metrics_rejected_samples_total", reason="labels") == 2
            names = ("U__a_2e_b", "U__a_2d_b", "a_b")
            assert [whole.value(name) for name in names] == [0, 1, 2]
            assert whole.body.count("# EOF\n") == (accept == OPENMETRICS)
        narrow = scrape(f"{exporter.metrics_url}?name[]=metrics_rejected_samples_total")
        assert set(narrow.families) == {"metrics_rejected_samples"}


def test_the_pages_of_all_shards_are_joined_into_one(redis: RedisServer) -> None:
    """One page in each format, with one end, from the instance and from an exporter that only reads."""
    environment = {"GUNICORN_EXPORTER_REDIS_SHARDS": str(SHARDS)}
    with (
        Gunicorn(redis=redis, environment=environment, workers=2) as gunicorn,
        Exporter(redis=redis, environment=environment) as exporter,
    ):
        with Load([gunicorn.port]) as load:
            load.wait_for(50)
        for url in (gunicorn.metrics_url, exporter.metrics_url):
            for accept in (None, OPENMETRICS):
                eventually(lambda: scrape(url, accept=accept).sum(REQUESTS), equals=float(len(load.outcomes)))
                whole = scrape(url, accept=accept)
                assert whole.sum(DURATIONS) == len(load.outcomes)
                assert len(whole.values_of("registry", "gunicorn_exporter_registry_info")) == SHARDS
                assert whole.body.count("# EOF\n") == (accept == OPENMETRICS)


def test_after_the_number_of_shards_changes_nothing_counts_twice(redis: RedisServer) -> None:
    """At HUP the families move to keys that do not have them yet: there they begin with the new counts."""
    config = "import os\nos.environ['GUNICORN_EXPORTER_REDIS_SHARDS'] = open('shards').read()\n"
    gunicorn = Gunicorn(redis=redis, workers=2, config=config)
    (gunicorn.directory / "shards").write_text("1")
    with gunicorn:
        with Load([gunicorn.port]) as load:
            load.wait_for(100)
        eventually(lambda: scrape(gunicorn.metrics_url).sum(REQUESTS), equals=float(len(load.outcomes)))
        before = set(gunicorn.worker_pids())
        (gunicorn.directory / "shards").write_text("3")
        with Load([gunicorn.port]) as more:
            more.wait_for(50)
            gunicorn.send(signal.SIGHUP)
            eventually(lambda: before.isdisjoint(gunicorn.worker_pids()))
            more.wait_for(50)
        total = float(len(load.outcomes) + len(more.outcomes))
        eventually(lambda: scrape(f"{gunicorn.metrics_url}/instance").sum(REQUESTS), equals=total)
        keys = ["gunicorn:metrics", *KEYS[:3]]
        eventually(lambda: sum(samples(page(redis, key), REQUESTS) for key in keys), equals=total)


def test_a_cluster_that_is_resharded_loses_nothing(cluster: Cluster) -> None:
    environment = cluster.environment(shards=SHARDS)
    with Gunicorn(workers=2, environment=environment) as gunicorn, Exporter(environment=environment) as exporter:
        with Load([gunicorn.port]) as load:
            load.wait_for(200)
            for turn in range(2 * SHARDS):
                key = KEYS[turn % SHARDS]
                owner = cluster.owner(key)
                cluster.move(key, next(node for node in cluster.primaries if node is not owner))
                load.wait_for(50)
        assert load.statuses() == {200: len(load.outcomes)}
        for url in (exporter.metrics_url, gunicorn.metrics_url):
            eventually(lambda: scrape(url).sum(REQUESTS), equals=float(len(load.outcomes)), within=60)
            assert scrape(url).sum(DURATIONS) == len(load.outcomes)


def test_a_primary_that_dies_is_replaced_and_counts_are_exact(cluster: Cluster) -> None:
    """The settings name this node; the exporter knows the others by then."""
    environment = cluster.environment(shards=SHARDS)
    with Gunicorn(workers=2, environment=environment) as gunicorn, Exporter(environment=environment) as exporter:
        dying = cluster.primaries[0]
        if not any(cluster.owner(key) is dying for key in KEYS):
            cluster.move(KEYS[0], dying)
        with Load([gunicorn.port]) as load:
            load.wait_for(200)
            eventually(lambda: scrape(exporter.metrics_url).sum(REQUESTS) > 0)
            dying.kill()
            end = time.monotonic() + 5
            eventually(lambda: time.monotonic() > end)
            load.wait_for(200)
        assert load.statuses() == {200: len(load.outcomes)}
        for url in (exporter.metrics_url, gunicorn.metrics_url):
            eventually(lambda: scrape(url).sum(REQUESTS), equals=float(len(load.outcomes)), within=60)
            assert scrape(url).sum(DURATIONS) == len(load.outcomes)


def test_a_cluster_without_the_setting_is_named(cluster: Cluster) -> None:
    node = next(node for node in cluster.primaries if node is not cluster.owner("gunicorn:metrics"))
    with Exporter(
        environment={"REDIS_ENABLED": "true", "REDIS_HOST": "127.0.0.1", "REDIS_PORT": str(node.port)}
    ) as one:
        answer = eventually(lambda: refusal(one))
        assert answer == (
            f"redis at 127.0.0.1:{node.port} is a node of a cluster and does not hold gunicorn:metrics: "
            "set exporter.redis.cluster"
        )


def refusal(exporter: Exporter) -> str:
    """Returns the one line of a 503."""
    with pytest.raises(urllib.error.HTTPError) as refused:
        scrape(exporter.metrics_url)
    return refused.value.read().decode().strip()


def page(redis: RedisServer, key: str) -> str:
    """Returns the whole page of one shard."""
    client: Client = redis.client
    return str(client.execute_command("METRICS.EXPOSE", key))  # type: ignore[no-untyped-call]


def samples(text: str, name: str) -> float:
    """Returns the sum of the samples of that name."""
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(name + "{"))
