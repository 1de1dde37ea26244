"""The ways to reach one Redis, and the names that its keys may have, from an instance and from an exporter."""

import urllib.error
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import pytest

from harness import Exporter, Gunicorn, RedisServer, eventually, scrape

REQUESTS = "gunicorn_worker_requests_total"
PASSWORD = "p@ss:w/ord?#%20 é"
USER = "metrics-writer"


def assert_counted_once(environment: Mapping[str, str]) -> None:
    """One request is counted, on the page of the instance and on that of an exporter that only reads."""
    with Gunicorn(environment=environment) as gunicorn, Exporter(environment=environment) as exporter:
        assert gunicorn.get("/").status == 200
        for url in (gunicorn.metrics_url, exporter.metrics_url):
            eventually(lambda: scrape(url).sum(REQUESTS), equals=1.0)


def restricted(server: RedisServer) -> None:
    """Gives a user the rights of an exporter, and no others."""
    server.execute(
        "ACL", "SETUSER", USER, "on", f">{PASSWORD}", "~gunicorn:metrics*", "-@all",
        "+metrics.push", "+metrics.leave", "+metrics.expose", "+metrics.info", "+select",
    )  # fmt: skip


def test_a_user_with_a_password_of_every_kind_of_character() -> None:
    """In separate settings the password stands as it is; in a URL it is percent-encoded."""
    with RedisServer(tcp=True) as server:
        restricted(server)
        host = {"REDIS_ENABLED": "true", "REDIS_HOST": "127.0.0.1", "REDIS_PORT": str(server.port)}
        login = {"GUNICORN_EXPORTER_REDIS_USERNAME": USER, "REDIS_PASSWORD": PASSWORD}
        assert_counted_once({**host, **login})
        server.execute("FLUSHALL")
        url = f"redis://{USER}:{quote(PASSWORD, safe='')}@127.0.0.1:{server.port}/0"
        assert_counted_once({"GUNICORN_EXPORTER_REDIS_URL": url})


def test_a_password_on_a_unix_socket(redis: RedisServer) -> None:
    redis.execute("CONFIG", "SET", "requirepass", "two-words")
    url = f"unix://{redis.socket}?pass=two-words"
    with Exporter(environment={"GUNICORN_EXPORTER_REDIS_URL": url}) as exporter:
        eventually(lambda: scrape(exporter.metrics_url))
    with Exporter(environment={"GUNICORN_EXPORTER_REDIS_URL": url.replace("two", "three")}) as exporter:
        with pytest.raises(urllib.error.HTTPError) as refused:
            scrape(exporter.metrics_url)
        assert refused.value.read().decode().strip() == (
            f"redis at {redis.socket} refuses to log in: check exporter.redis.username and exporter.redis.password"
        )


@pytest.mark.parametrize(
    "prefix", ["app{one}", "zwölf 𝄞", "*?[a]\\", "tab\there, line\nthere", " spaced ", "nul\0", "\"'"]
)
def test_a_key_prefix_of_any_characters(redis: RedisServer, tmp_path: Path, prefix: str) -> None:
    config = tmp_path / "exporter.yml"
    spelled = "".join(f"\\U{ord(character):08X}" for character in prefix)
    config.write_text(f'exporter:\n  redis:\n    url: "{redis.url}"\n    key_prefix: "{spelled}"\n')
    redis.execute("METRICS.INC", f"{prefix}:metrics", "hits")
    with Exporter(arguments=["--config", str(config)]) as exporter:
        assert scrape(exporter.metrics_url).value("hits_total") == 1


def test_a_sidecar_serves_the_registry_to_which_an_instance_pushes(redis: RedisServer) -> None:
    """The instance then has no port of its own."""
    with (
        Gunicorn(redis=redis, environment={"SIDECAR_MODE": "true"}) as gunicorn,
        Exporter("sidecar", redis=redis) as sidecar,
    ):
        assert gunicorn.get("/").status == 200
        eventually(lambda: scrape(sidecar.metrics_url).sum(REQUESTS), equals=1.0)
        with pytest.raises(urllib.error.URLError, match="refused"):
            scrape(gunicorn.metrics_url)
