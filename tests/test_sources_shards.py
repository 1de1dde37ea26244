"""Pages that are joined from several shards: whose name stays, what has moved, and that real scrapers read them."""

import urllib.request
import zlib
from collections.abc import Iterator
from contextlib import suppress
from functools import partial

import pytest
from redis import ResponseError

from harness import Exporter, Gunicorn, Prometheus, RedisServer, eventually, scrape
from harness.metric_family import messages
from harness.prometheus import assert_promtool_accepts, prometheus_3
from harness.scrape import OPENMETRICS

SHARDS = 3
ACCEPTS = [
    "text/plain;version=0.0.4",
    "text/plain;version=0.0.4;escaping=values",
    "text/plain;version=0.0.4;escaping=dots",
    "text/plain;version=1.0.0;escaping=allow-utf-8",
    OPENMETRICS,
    f"{OPENMETRICS};escaping=allow-utf-8",
    "application/openmetrics-text;version=2.0.0;escaping=allow-utf-8",
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited",
]
PROTOCOLS = ("PrometheusProto", "OpenMetricsText1.0.0", "PrometheusText1.0.0", "PrometheusText0.0.4")
# Name and type.
MOVING = [
    *((f"hits{number}", "COUNTER") for number in range(4)),
    *((f"depth{number}", "GAUGE") for number in range(4)),
    *((f"wait{number}", "HISTOGRAM") for number in range(4)),
    *((f"size{number}", "SUMMARY") for number in range(4)),
    *((f"build{number}", "INFO") for number in range(8)),
    *((f"mode{number}", "STATESET") for number in range(4)),
    *((f"http.{number}.calls", "COUNTER") for number in range(4)),
    *((f"queue_{number}.depth", "GAUGE") for number in range(4)),
]


def key_of(name: str, shards: int) -> str:
    """Returns the key of the family's own shard."""
    return f"gunicorn:metrics:{{{zlib.crc32(name.replace('.', '_').encode()) % shards}}}"


def write(redis: RedisServer, key: str, name: str, kind: str, value: int) -> None:
    """Writes a family of one series, which shows the value and has the label `v`."""
    if kind != "GAUGE":
        redis.execute("METRICS.DECLARE", key, name, kind)
    label = ["LABELS", 1, "v", value]
    if kind == "COUNTER":
        redis.execute("METRICS.INC", key, name, "BY", value, *label)
    elif kind in ("HISTOGRAM", "SUMMARY"):
        redis.execute("METRICS.OBSERVE", key, name, value, *label)
    elif kind == "STATESET":
        redis.execute("METRICS.SET", key, name, 1, "LABELS", 2, "v", value, name, "on")
    else:
        redis.execute("METRICS.SET", key, name, 1 if kind == "INFO" else value, *label)


def reader(redis: RedisServer, shards: int = SHARDS) -> Exporter:
    """Returns an exporter that shows a registry over so many keys."""
    return Exporter(redis=redis, environment={"GUNICORN_EXPORTER_REDIS_SHARDS": str(shards)})


def body_of(url: str, accept: str) -> bytes:
    """Returns a page as it is."""
    with urllib.request.urlopen(urllib.request.Request(url, headers={"Accept": accept}), timeout=10) as answer:
        body: bytes = answer.read()
        return body


def shown(body: bytes, accept: str) -> set[int]:
    """Returns the values of the label `v`, each of which only one family of a page may have."""
    if "protobuf" in accept:
        found = [
            (family.name, int(label.value))
            for family in messages(body)
            for metric in family.metric
            for label in metric.label
            if label.name == "v"
        ]
    else:
        lines = [line for line in body.decode().splitlines() if 'v="' in line]
        found = [(line.split("{")[0], int(line.split('v="')[1].split('"')[0])) for line in lines]
    assert not [name for name, _ in found if name.startswith("U__") and "_2e_" not in name], "a name that was changed"
    return {value for _, value in found}


def test_a_family_that_has_moved_is_shown_from_its_own_shard_alone(redis: RedisServer) -> None:
    """Of every type, in every format: where the number of shards was 2, and is 3."""
    moving = [(name, kind) for name, kind in MOVING if key_of(name, 2) != key_of(name, SHARDS)]
    assert {kind for _, kind in moving} == {kind for _, kind in MOVING}
    assert any("." in name for name, _ in moving)
    for number, (name, kind) in enumerate(moving):
        write(redis, key_of(name, 2), name, kind, 1000 + number)
    with reader(redis) as exporter:
        for accept in ACCEPTS:
            # No instance with three shards writes them: the page shows what there is.
            assert shown(body_of(exporter.metrics_url, accept), accept) == {1000 + n for n in range(len(moving))}
        for number, (name, kind) in enumerate(moving):
            write(redis, key_of(name, SHARDS), name, kind, 2000 + number)
        for accept in ACCEPTS:
            expected = {2000 + number for number in range(len(moving))}
            assert shown(body_of(exporter.metrics_url, accept), accept) == expected, accept
        # What is left out is logged, once for each key; and a filter does not bring it back.
        assert exporter.log.count("the page leaves out families") == 2
        name = next(name for name, kind in moving if kind == "HISTOGRAM")
        narrow = body_of(f"{exporter.metrics_url}?name[]={name}_count", ACCEPTS[0])
        assert len(shown(narrow, ACCEPTS[0])) == 1


def test_another_family_with_the_name_of_one_that_is_in_its_own_shard_gets_another_name(redis: RedisServer) -> None:
    """A client has written to a wrong key: nothing of it is lost, and the right one keeps its name."""
    wrong, own = (f"gunicorn:metrics:{{{shard}}}" for shard in (0, 1))
    name = next(name for name in (f"load{number}" for number in range(100)) if key_of(name, SHARDS) == own)
    write(redis, wrong, name, "GAUGE", 7)
    write(redis, own, name, "HISTOGRAM", 8)
    with reader(redis) as exporter:
        page = scrape(exporter.metrics_url)
        assert (page.value(f"{name}_sum"), page.value(f"U__{name}")) == (8, 7)


@pytest.mark.parametrize(("before", "after"), [(2, 3), (4, 2)])
def test_instances_with_another_number_of_shards_show_their_own_values(
    redis: RedisServer, before: int, after: int
) -> None:
    """The counters of families that have moved begin again, the others go on; gauges are those of now."""
    names = [f"m{number}" for number in range(8)]
    prelude = (
        "from prometheus_client import Counter, Gauge\n"
        f"counters = [Counter(name, '') for name in {names}]\n"
        f"gauges = [Gauge(name + '_now', '', multiprocess_mode='livesum') for name in {names}]\n"
        "def post_request(worker, request, environ, response):\n"
        "    for counter in counters: counter.inc()\n"
        "    for gauge in gauges: gauge.set(3)\n"
    )
    for shards, requests in ((before, 10), (after, 4)):
        environment = {"GUNICORN_EXPORTER_REDIS_SHARDS": str(shards)}
        with Gunicorn(redis=redis, config=prelude, environment=environment) as gunicorn:
            for _ in range(requests):
                assert gunicorn.get("/").status == 200
            expected = {
                name: 14 if shards == after and key_of(name, before) == key_of(name, after) else requests
                for name in names
            }
            assert shards == before or set(expected.values()) == {4, 14}

            def counted(url: str = gunicorn.metrics_url) -> dict[str, float]:
                page = scrape(url)
                assert "U__" not in page.body
                assert [page.value(f"{name}_now") for name in names] == [3] * len(names)
                return {name: page.value(f"{name}_total") for name in names}

            eventually(counted, equals=expected)


@pytest.fixture
def strange(redis: RedisServer) -> Iterator[Exporter]:
    """Three shards with names that collide on pages, in one shard and across shards."""
    collisions = [("a.b", "COUNTER"), ("a-b", "COUNTER"), ("a_b", "COUNTER"), ("花", "GAUGE"), ("é", "GAUGE")]
    for number in range(SHARDS * 4):
        collisions += [(f"h{number}", "HISTOGRAM"), (f"h{number}_count", "GAUGE"), (f"h{number}_sum", "COUNTER")]
        collisions += [(f"c{number}", "COUNTER"), (f"c{number}_total", "GAUGE"), (f"i{number}", "INFO")]
    for value, (name, kind) in enumerate(collisions):
        shown = "".join(character if character.isascii() and character.isalnum() else "_" for character in name)
        stem = shown.removesuffix("_total") if kind == "COUNTER" else shown
        # In one shard, the registry itself refuses what collides.
        with suppress(ResponseError):
            write(redis, f"gunicorn:metrics:{{{zlib.crc32(stem.encode()) % SHARDS}}}", name, kind, value + 1)
    with reader(redis) as exporter:
        yield exporter


def test_prometheus_reads_the_pages_of_several_shards(strange: Exporter) -> None:
    """In each format that it asks for, with names changed by the exporter among them."""
    assert "U__h" in scrape(strange.metrics_url).body
    assert_promtool_accepts(scrape(strange.metrics_url).body)
    address = [f"127.0.0.1:{strange.port}"]
    more = "    scrape_protocols: [<job>]\n"
    native = "--enable-feature=native-histograms"
    with Prometheus(dict.fromkeys(PROTOCOLS, address), more=more, binary=prometheus_3(), arguments=[native]) as reading:
        for protocol in PROTOCOLS:
            eventually(partial(reading.value, f'up{{job="{protocol}"}}'), equals=1.0)
            assert reading.value(f'scrape_samples_post_metric_relabeling{{job="{protocol}"}}') > 50
        assert {target["lastError"] for target in reading.targets()} == {""}
