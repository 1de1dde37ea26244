"""EXPOSE: whole pages and parts of them, read by parsers of other projects."""

import itertools
import time
from collections.abc import Iterator

import pytest
from redis import ResponseError

from harness import RedisServer, eventually
from harness.scrape import Scrape


def fill(redis: RedisServer, series: int = 500) -> None:
    """Makes families of every type."""
    commands: list[list[object]] = [
        ["METRICS.DECLARE", "m", "size_bytes", "SUMMARY", "HELP", "Size", "UNIT", "bytes"],
        ["METRICS.OBSERVE", "m", "size_bytes", 3],
    ]
    for number in range(series):
        labels = ["LABELS", 1, "path", f"/{number}"]
        commands.append(["METRICS.INC", "m", "hits", "BY", number, *labels])
        commands.append(["METRICS.SET", "m", "depth", number / 7, *labels])
        commands.append(["METRICS.OBSERVE", "m", "wait", number, "BUCKETS", 3, 1, 10, 100, *labels])
    redis.execute_all(commands)


def pages(redis: RedisServer, *options: object) -> Iterator[str]:
    """Yields all pages, one after the other."""
    cursor: object = "0"
    for _ in range(100_000):
        reply = redis.execute("METRICS.EXPOSE", "m", *options, "CURSOR", cursor)
        assert isinstance(reply, list)
        cursor, body = reply
        yield body
        if cursor == "0":
            return
    raise AssertionError("the pages do not end")


@pytest.mark.parametrize("form", ["TEXT", "OPENMETRICS"])
@pytest.mark.parametrize("count", [[], ["COUNT", 1], ["COUNT", 7]])
def test_pages_join_into_the_whole_page(redis: RedisServer, form: str, count: list[object]) -> None:
    fill(redis)
    whole = redis.execute("METRICS.EXPOSE", "m", "FORMAT", form)
    assert "".join(pages(redis, "FORMAT", form, *count)) == whole


@pytest.mark.parametrize(
    ("options", "size"), [([], 256 * 1024), (["BYTES", 16_384], 16_384), (["bytes", 100_000], 100_000)]
)
def test_pages_have_the_size_that_was_asked_for(redis: RedisServer, options: list[object], size: int) -> None:
    fill(redis, 4_000)
    sizes = [len(body) for body in pages(redis, *options)]
    assert len(sizes) > 2
    assert all(size <= found < size + 1_000 for found in sizes[:-1])


def test_each_page_may_have_another_size(redis: RedisServer) -> None:
    fill(redis, 4_000)
    whole = redis.execute("METRICS.EXPOSE", "m", "FORMAT", "OPENMETRICS")
    bodies, cursor = [], "0"
    for size in itertools.cycle([16_384, 1_048_576, 40_000, None]):
        options: list[object] = [] if size is None else ["BYTES", size]
        reply = redis.execute("METRICS.EXPOSE", "m", "FORMAT", "OPENMETRICS", "CURSOR", cursor, *options)
        assert isinstance(reply, list)
        cursor, body = reply
        bodies.append(body)
        if cursor == "0":
            break
    assert len(bodies) > 4
    assert "".join(bodies) == whole


@pytest.mark.parametrize("form", ["TEXT", "OPENMETRICS"])
def test_parsers_read_what_was_written(redis: RedisServer, form: str) -> None:
    fill(redis, 20)
    body = str(redis.execute("METRICS.EXPOSE", "m", "FORMAT", form))
    found = Scrape(body, "openmetrics" if form == "OPENMETRICS" else "text/plain")
    for number in range(20):
        assert found.value("hits_total", path=f"/{number}") == number
        assert found.value("depth", path=f"/{number}") == number / 7
        assert found.value("wait_bucket", path=f"/{number}", le="10" if form == "TEXT" else "10.0") == (number <= 10)
    types = {name: family.type for name, family in found.families.items()}
    assert types == {"hits": "counter", "depth": "gauge", "wait": "histogram", "size_bytes": "summary"}


def test_created_adds_start_times(redis: RedisServer) -> None:
    before = time.time()
    fill(redis, 2)
    body = str(redis.execute("METRICS.EXPOSE", "m", "CREATED", "FORMAT", "OPENMETRICS"))
    found = Scrape(body, "openmetrics")
    for name in ("hits_created", "wait_created"):
        assert before - 1 < found.value(name, path="/1") < time.time() + 1
    assert before - 1 < found.value("size_bytes_created") < time.time() + 1


def test_names_selects_whole_families(redis: RedisServer) -> None:
    fill(redis, 3)
    body = str(redis.execute("METRICS.EXPOSE", "m", "NAMES", 2, "wait_sum", "hits_total", "FORMAT", "OPENMETRICS"))
    assert set(Scrape(body, "openmetrics").families) == {"wait", "hits"}
    assert "".join(pages(redis, "NAMES", 1, "nothing")) == ""


def test_a_series_that_exists_during_all_pages_appears_exactly_once(redis: RedisServer) -> None:
    fill(redis, 100)
    bodies = []
    for step, body in enumerate(pages(redis, "COUNT", 10)):
        bodies.append(body)
        redis.execute("METRICS.INC", "m", "hits", "LABELS", 1, "path", f"/new/{step}")
        redis.execute("METRICS.INC", "m", "aaa", "LABELS", 1, "path", f"/new/{step}")
        if step > 15:
            redis.execute("METRICS.DEL", "m", "depth", "LABELS", 1, "path", f"/{step}")
    seen = [sample.labels["path"] for sample in Scrape("".join(bodies), "text/plain").samples("hits_total")]
    assert sorted(seen) == sorted(f"/{number}" for number in range(100))


def test_a_cursor_of_an_earlier_key_is_stale(redis: RedisServer) -> None:
    fill(redis, 10)
    reply = redis.execute("METRICS.EXPOSE", "m", "CURSOR", 0, "COUNT", 1)
    assert isinstance(reply, list)
    redis.execute("DEL", "m")
    fill(redis, 10)
    with pytest.raises(ResponseError, match=r"^STALECURSOR "):
        redis.execute("METRICS.EXPOSE", "m", "CURSOR", reply[0])
    redis.execute("DEL", "m")
    with pytest.raises(ResponseError, match=r"^STALECURSOR "):
        redis.execute("METRICS.EXPOSE", "m", "CURSOR", reply[0])
    with pytest.raises(ResponseError, match="cursor"):
        redis.execute("METRICS.EXPOSE", "m", "CURSOR", "nonsense")


def test_the_error_for_a_page_that_is_too_large_names_cursor(redis: RedisServer) -> None:
    value = "x" * 4000
    redis.execute_all(["METRICS.INC", "m", "hits", "LABELS", 1, "path", f"{n}{value}"] for n in range(1100))
    with pytest.raises(ResponseError, match="CURSOR"):
        redis.execute("METRICS.EXPOSE", "m")
    assert "".join(pages(redis)).count("\nhits_total{") == 1100


def test_special_names_survive_as_underscores(redis: RedisServer) -> None:
    redis.execute("METRICS.INC", "m", "http.server-hits", "LABELS", 1, "url.path", "/")
    found = Scrape(str(redis.execute("METRICS.EXPOSE", "m")), "text/plain")
    assert found.value("http_server_hits_total", url_path="/") == 1


def test_reads_change_nothing(redis: RedisServer) -> None:
    redis.execute("METRICS.SET", "m", "depth", 1, "TTL", 1)
    eventually(lambda: redis.execute("METRICS.EXPOSE", "m"), equals="")
    offset = redis.client.info("replication")["master_repl_offset"]
    for words in itertools.chain([("EXPOSE", "m"), ("GET", "m", "depth"), ("INFO", "m")]):
        redis.execute(f"METRICS.{words[0]}", *words[1:])
    assert redis.client.info("replication")["master_repl_offset"] == offset
