"""A Redis with sentinels: the exporter finds it by its name, and again after a failover."""

import urllib.error
from collections.abc import Iterator

import pytest

from harness import Exporter, Gunicorn, Load, eventually, scrape
from harness.sentinel import MASTER, SentinelSetup

REQUESTS = "gunicorn_worker_requests_total"


@pytest.fixture(scope="module")
def watched() -> Iterator[SentinelSetup]:
    """A primary and a replica under sentinels that require a password."""
    with SentinelSetup(password="two%20words:/@") as one:
        yield one


def test_a_primary_that_dies_is_replaced_and_counts_are_exact() -> None:
    """The replica replaces it under load; instance and exporter follow, and no request counts twice."""
    with SentinelSetup() as watched:
        environment = watched.environment()
        with Gunicorn(workers=2, environment=environment) as gunicorn, Exporter(environment=environment) as exporter:
            with Load([gunicorn.port]) as load:
                load.wait_for(200)
                eventually(lambda: scrape(exporter.metrics_url).sum(REQUESTS) > 0)
                watched.primary.kill()
                eventually(lambda: watched.replica.client.info("replication")["role"], equals="master")
                load.wait_for(200)
            assert load.statuses() == {200: len(load.outcomes)}
            for url in (exporter.metrics_url, gunicorn.metrics_url):
                eventually(lambda: scrape(url).sum(REQUESTS), equals=float(len(load.outcomes)), within=60)
            assert load.slowest() < 5, "a request waited for Redis"


def test_a_planned_failover_is_followed(watched: SentinelSetup) -> None:
    """The old primary becomes a replica that refuses writes: the exporter no longer reads it."""
    environment = watched.environment()
    with Gunicorn(environment=environment) as gunicorn, Exporter(environment=environment) as exporter:
        with Load([gunicorn.port], ["/slow?seconds=0.01"]) as load:
            load.wait_for(50)
            eventually(lambda: scrape(exporter.metrics_url).sum(REQUESTS) > 0)
            old = watched.primary if watched.primary.client.info("replication")["role"] == "master" else watched.replica
            watched.fail_over()
            eventually(lambda: old.client.info("replication")["role"], equals="slave", within=60)
            load.wait_for(50)
        for url in (exporter.metrics_url, gunicorn.metrics_url):
            eventually(lambda: scrape(url).sum(REQUESTS), equals=float(len(load.outcomes)), within=60)


def test_a_wrong_name_or_password_is_one_line(watched: SentinelSetup) -> None:
    environment = watched.environment()
    with Exporter(environment={**environment, "GUNICORN_EXPORTER_REDIS_SENTINEL_MASTER": "other"}) as exporter:
        line = refusal(exporter)
        assert line.endswith("does not know other: check exporter.redis.sentinel.master")
    with Exporter(environment={**environment, "GUNICORN_EXPORTER_REDIS_SENTINEL_PASSWORD": "wrong"}) as exporter:
        line = refusal(exporter)
        assert line.startswith("no sentinel of 127.0.0.1:")
        assert "exporter.redis.sentinel.password" in line
        assert "wrong" not in line
        assert MASTER in line


def refusal(exporter: Exporter) -> str:
    """Returns the one line of a 503."""
    with pytest.raises(urllib.error.HTTPError) as refused:
        scrape(exporter.metrics_url)
    assert refused.value.code == 503
    return refused.value.read().decode().strip()
