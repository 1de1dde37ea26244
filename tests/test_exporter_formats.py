"""Every format and every escaping scheme over HTTP: the scraper asks for it, and the answer names it."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from redis import ResponseError
from test_exporter_standalone import ask, declare_some, fill

from harness import Exporter, Prometheus, RedisServer, eventually
from harness.paths import ROOT
from harness.prometheus import assert_promtool_accepts

KEY = "gunicorn:metrics"
PROTOBUF = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
FORMS = {
    "TEXT": "text/plain; version=0.0.4",
    "TEXT1": "text/plain; version=1.0.0",
    "OPENMETRICS": "application/openmetrics-text; version=1.0.0",
    "OPENMETRICS2": "application/openmetrics-text; version=2.0.0",
    "PROTOBUF": PROTOBUF,
}


@pytest.fixture
def exporter(redis: RedisServer) -> Iterator[Exporter]:
    """An exporter for that Redis."""
    with Exporter(redis=redis) as running:
        yield running


def rendered(redis: RedisServer, form: str, escaping: str) -> bytes:
    """Returns the registry as Redis renders it, in one piece."""
    with redis.raw_client() as client:
        page = client.execute_command("METRICS.EXPOSE", KEY, "FORMAT", form, "ESCAPING", escaping)
    assert isinstance(page, bytes)
    return page


def declare_all(redis: RedisServer) -> None:
    """Makes metrics of all types, including those that only newer formats can show."""
    declare_some(redis)
    redis.execute("METRICS.INC", KEY, "über.all", "BY", 2, "LABELS", 1, "ein.label", "x")
    redis.execute("METRICS.DECLARE", KEY, "native_seconds", "NATIVEHISTOGRAM")
    for value in ("0.1", "0.2", "3"):
        redis.execute("METRICS.OBSERVE", KEY, "native_seconds", value)
    redis.execute("METRICS.INC", KEY, "traced", "EXEMPLAR", 1, "trace_id", "abc")


def test_every_format_of_redis_is_one_of_these(redis: RedisServer) -> None:
    with pytest.raises(ResponseError, match=f"expected {', '.join(list(FORMS)[:-1])} or {list(FORMS)[-1]}$"):
        redis.execute("METRICS.EXPOSE", KEY, "FORMAT", "?")


@pytest.mark.parametrize("escaping", ["underscores", "dots", "values", "allow-utf-8"])
@pytest.mark.parametrize("form", FORMS)
def test_a_format_is_what_redis_renders(redis: RedisServer, exporter: Exporter, form: str, escaping: str) -> None:
    declare_all(redis)
    answer = ask(exporter, "/metrics", Accept=f"{FORMS[form]}; escaping={escaping}, */*;q=0.1")
    told = answer.headers["content-type"]
    assert told.startswith(FORMS[form])
    if (form, escaping) == ("TEXT", "allow-utf-8"):
        # This format has no quotes.
        escaping = "underscores"
        assert "escaping" not in told
    elif (form, escaping) != ("TEXT", "underscores"):
        assert told.endswith(f"; escaping={escaping}")
    redis_word = escaping.upper().replace("-", "")
    assert answer.body.endswith(rendered(redis, form, redis_word))
    info = answer.body[: -len(rendered(redis, form, redis_word))]
    # The scheme `dots` doubles underscores.
    assert b"gunicorn_exporter_registry_info" in info.replace(b"__", b"_")
    assert b"# EOF" not in info
    if form == "TEXT":
        assert_promtool_accepts(answer.body.decode())


@pytest.mark.parametrize("form", FORMS)
def test_a_format_may_be_many_pages(redis: RedisServer, exporter: Exporter, form: str) -> None:
    fill(redis, series=3_000, label_bytes=500)
    answer = ask(exporter, "/metrics", Accept=FORMS[form])
    assert answer.headers["transfer-encoding"] == "chunked"
    assert answer.body.endswith(rendered(redis, form, "UNDERSCORES"))


PROMETHEUS_3 = ROOT / ".tools" / "prometheus-3" / "usr" / "bin" / "prometheus"
PROTOCOLS = (
    "PrometheusProto",
    "OpenMetricsText1.0.0",
    "OpenMetricsText0.0.1",
    "PrometheusText1.0.0",
    "PrometheusText0.0.4",
)


@pytest.mark.parametrize("compressed", [True, False], ids=["gzip", "identity"])
def test_prometheus_3_reads_every_protocol_that_it_speaks(
    redis: RedisServer, exporter: Exporter, compressed: bool
) -> None:
    """One job for each protocol, which asks for this protocol first and accepts any other with a low weight."""
    declare_all(redis)
    more = f"    scrape_protocols: [<job>]\n    enable_compression: {str(compressed).lower()}\n"
    targets = {protocol: [f"127.0.0.1:{exporter.port}"] for protocol in PROTOCOLS}
    features = "--enable-feature=native-histograms,exemplar-storage"
    with Prometheus(targets, more=more, binary=PROMETHEUS_3, arguments=[features]) as prometheus:
        for protocol in PROTOCOLS:
            eventually(partial(prometheus.value, f'up{{job="{protocol}"}}'), equals=1.0)
            assert_read(prometheus, protocol)
        assert {target["lastError"] for target in prometheus.targets()} == {""}


def assert_read(prometheus: Prometheus, protocol: str) -> None:
    """Everything that this protocol can express is there, and nothing else; the protocols differ in that."""
    job = f'job="{protocol}"'
    assert prometheus.value(f"temperature{{{job}}}") == -2.5
    assert prometheus.value(f'jobs_total{{{job},queue="a \\"b\\"\\\\\\n"}}') == 3
    assert prometheus.value(f'wait_seconds_bucket{{{job},le="0.5"}}') == 1
    # It requests unescaped names if the version of a text format allows them, and never with protobuf.
    utf8 = protocol.endswith("1.0.0")
    name, label = ("über.all_total", "ein.label") if utf8 else ("_ber_all_total", "ein_label")
    (found,) = prometheus.query(f'{{"{name}",{job}}}')
    assert (found["metric"][label], found["value"][1]) == ("x", "2")
    exemplars = prometheus.exemplars(f"traced_total{{{job}}}")
    expected = [{"trace_id": "abc"}] if protocol.startswith(("PrometheusProto", "OpenMetrics")) else []
    assert [one["labels"] for one in exemplars] == expected
    natives = prometheus.query(f"native_seconds{{{job}}}")
    if protocol == "PrometheusProto":
        (native,) = natives
        assert (native["histogram"][1]["count"], native["histogram"][1]["sum"]) == ("3", "3.3")
    else:
        assert natives == []
        assert prometheus.value(f"native_seconds_count{{{job}}}") == 3


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("features", ["", "native-histograms"], ids=["text", "protobuf"])
def test_prometheus_reads_what_it_asks_for(redis: RedisServer, exporter: Exporter, version: int, features: str) -> None:
    """Prometheus requests protobuf if native histograms are on, and shows them."""
    binary: str | Path = "prometheus" if version == 2 else PROMETHEUS_3
    declare_all(redis)
    arguments = [f"--enable-feature=exemplar-storage,{features}" if features else "--enable-feature=exemplar-storage"]
    targets = {"exporter": [f"127.0.0.1:{exporter.port}"]}
    with Prometheus(targets, binary=binary, arguments=arguments) as prometheus:
        eventually(lambda: prometheus.value("temperature"), equals=-2.5)
        assert [target["lastError"] for target in prometheus.targets()] == [""]
        assert prometheus.value('wait_seconds_bucket{le="0.5"}') == 1
        assert prometheus.value("traced_total") == 1
        exemplars = prometheus.exemplars("traced_total")
        assert [found["labels"] for found in exemplars] == [{"trace_id": "abc"}]
        if features:
            found = prometheus.query("native_seconds")
            assert found[0]["histogram"][1]["count"] == "3"
        assert len(prometheus.query("gunicorn_exporter_registry_info == 1")) == 1
