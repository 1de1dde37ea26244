"""Every format, read by other projects: Prometheus 2 and 3, Google's protobuf, prometheus_client."""

import time
from collections.abc import Iterator

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from harness import Prometheus, RedisServer, eventually
from harness.metric_family import labels_of, messages, type_of
from harness.pages import page, pages, served
from harness.prometheus import assert_promtool_accepts, prometheus_3

# The content type that a scraper gets, and the options of EXPOSE that make the page.
FORMATS: dict[str, tuple[str, list[str]]] = {
    "text": ("text/plain; version=0.0.4; charset=utf-8", ["FORMAT", "TEXT"]),
    "text1": (
        "text/plain; version=1.0.0; charset=utf-8; escaping=allow-utf-8",
        ["FORMAT", "TEXT1", "ESCAPING", "ALLOWUTF8"],
    ),
    "openmetrics": (
        "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=allow-utf-8",
        ["FORMAT", "OPENMETRICS", "ESCAPING", "ALLOWUTF8"],
    ),
    "openmetrics_legacy": ("application/openmetrics-text; version=1.0.0; charset=utf-8", ["FORMAT", "OPENMETRICS"]),
    "protobuf": (
        "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited",
        ["FORMAT", "PROTOBUF"],
    ),
}
STRANGE = 'a"b\\c\nd é 花火'


@pytest.fixture
def filled(redis: RedisServer) -> RedisServer:
    """A family of every type, values that are hard to spell, and names that need quotes."""
    exemplar = ["EXEMPLAR", 1, "trace_id", "abc"]
    commands: list[list[object]] = [
        ["METRICS.DECLARE", "m", "calls", "COUNTER", "HELP", STRANGE],
        ["METRICS.INC", "m", "calls", "BY", 2.5, "LABELS", 2, "path", STRANGE, "a", "1", *exemplar],
        ["METRICS.INC", "m", "my.calls", "BY", 3, "LABELS", 1, "http.method", "GET"],
        ["METRICS.SET", "m", "busy", "-Inf", "MODE", "all", "WRITER", "one"],
        ["METRICS.SET", "m", "busy", 1e300, "MODE", "all", "WRITER", "two"],
        ["METRICS.DECLARE", "m", "size_bytes", "SUMMARY", "UNIT", "bytes"],
        ["METRICS.OBSERVE", "m", "size_bytes", 3],
        ["METRICS.DECLARE", "m", "build", "INFO"],
        ["METRICS.SET", "m", "build", 1, "LABELS", 1, "version", "1.2"],
        ["METRICS.DECLARE", "m", "mode", "STATESET"],
        ["METRICS.SET", "m", "mode", 1, "LABELS", 1, "mode", "fast"],
        ["METRICS.SET", "m", "mode", 0, "LABELS", 1, "mode", "slow"],
        ["METRICS.DECLARE", "m", "load", "NATIVEHISTOGRAM"],
    ]
    for wait in (0.25, 0.75, 7):
        commands.append(["METRICS.OBSERVE", "m", "wait", wait, "BUCKETS", 2, 0.5, 1, *exemplar])
    for load in (-1, 0, 1, 1, 4):
        commands.append(["METRICS.OBSERVE", "m", "load", load, *exemplar])
    redis.execute_all(commands)
    return redis


@pytest.fixture(params=["2", "3"])
def scraper(request: pytest.FixtureRequest, filled: RedisServer) -> Iterator[tuple[str, Prometheus]]:
    """A Prometheus of that major version, with one job for each format that it reads."""
    known = set(FORMATS) - ({"text1", "openmetrics"} if request.param == "2" else set())
    arguments = ["--enable-feature=native-histograms,exemplar-storage"]
    if request.param == "3":
        arguments.append("--enable-feature=created-timestamp-zero-ingestion")
    bodies = {name: (FORMATS[name][0], page(filled, "m", *FORMATS[name][1])) for name in known}
    by_path = '    relabel_configs: [{source_labels: [job], target_label: __metrics_path__, replacement: "/$1"}]\n'
    binary = "prometheus" if request.param == "2" else prometheus_3()
    with (
        served(bodies) as address,
        Prometheus({name: [address] for name in known}, more=by_path, binary=binary, arguments=arguments) as running,
    ):
        yield request.param, running


def test_prometheus_reads_every_format_and_returns_the_written_values(scraper: tuple[str, Prometheus]) -> None:
    version, prometheus = scraper
    eventually(lambda: len(prometheus.query("up == 1")) == len(prometheus.targets()) > 0)
    for job in [target["labels"]["job"] for target in prometheus.targets()]:
        of = f'job="{job}"'
        assert [element["metric"]["path"] for element in prometheus.query(f"calls_total{{{of}}} == 2.5")] == [STRANGE]
        assert prometheus.value(f'busy{{{of},pid="one"}}') == float("-inf")
        assert prometheus.value(f'busy{{{of},pid="two"}}') == 1e300
        assert prometheus.value(f"size_bytes_sum{{{of}}}") == 3
        assert prometheus.value(f"build_info{{{of}}}") == 1
        assert prometheus.value(f'mode{{{of},mode="slow"}}') == 0
        assert prometheus.value(f'wait_bucket{{{of},le=~"1(.0)?"}}') == 2
        assert prometheus.value(f"wait_count{{{of}}}") == 3
        utf_8 = job in ("text1", "openmetrics")
        name, label = ("my.calls_total", "http.method") if utf_8 else ("my_calls_total", "http_method")
        found = prometheus.query(f'{{__name__="{name}",{of}}}')
        assert [(element["value"][1], element["metric"][label]) for element in found] == [("3", "GET")]
        if job == "protobuf":
            (native,) = prometheus.query(f"load{{{of}}}")
            count, total = native["histogram"][1]["count"], native["histogram"][1]["sum"]
            assert (count, total, len(native["histogram"][1]["buckets"])) == ("5", "5", 4)
        else:
            assert prometheus.value(f"load_count{{{of}}}") == 5
        if job == "protobuf" or "openmetrics" in job:
            for selector, value in (("calls_total", "2.5"), ('wait_bucket{le="+Inf"}', "7")):
                narrow = selector.replace("}", f",{of}}}") if "}" in selector else f"{selector}{{{of}}}"
                stored = prometheus.exemplars(narrow)
                assert [(one["labels"], float(one["value"])) for one in stored] == [
                    ({"trace_id": "abc"}, float(value))
                ], narrow
    assert {target["lastError"] for target in prometheus.targets()} == {""}
    if version == "3":
        # A start time is a sample of zero.
        assert prometheus.value('min_over_time(calls_total{job="protobuf"}[10m])') == 0


def test_googles_protobuf_reads_the_same_values_as_the_text(filled: RedisServer) -> None:
    body = page(filled, "m", "FORMAT", "PROTOBUF")
    families = {message.name: message for message in messages(body)}
    types = {name: type_of(message) for name, message in families.items()}
    assert types == {
        "build_info": "GAUGE",
        "busy": "GAUGE",
        "calls_total": "COUNTER",
        "load": "HISTOGRAM",
        "mode": "GAUGE",
        "my_calls_total": "COUNTER",
        "size_bytes": "SUMMARY",
        "wait": "HISTOGRAM",
    }
    assert families["calls_total"].help == STRANGE
    assert families["size_bytes"].unit == "bytes"
    (call,) = families["calls_total"].metric
    assert labels_of(call) == {"path": STRANGE, "a": "1"}
    assert (call.counter.value, labels_of(call.counter.exemplar)) == (2.5, {"trace_id": "abc"})
    assert abs(call.counter.start.seconds - time.time()) < 600
    (wait,) = families["wait"].metric
    buckets = [(bucket.upper_bound, bucket.count, bucket.exemplar.value) for bucket in wait.histogram.bucket]
    assert buckets == [(0.5, 1, 0.25), (1.0, 2, 0.75), (float("inf"), 3, 7.0)]
    assert (wait.histogram.count, wait.histogram.sum) == (3, 8.0)
    (load,) = families["load"].metric
    native = load.histogram
    assert (native.count, native.sum, native.zero_count, list(native.bucket)) == (5, 5.0, 1, [])
    assert [(span.offset, span.length) for span in native.positive_span] == [(0, 1), (2**native.schema * 2 - 1, 1)]
    assert (list(native.positive_delta), list(native.negative_delta)) == ([2, -1], [1])


@pytest.mark.parametrize("name", ["text", "text1", "openmetrics"])
def test_prometheus_client_reads_every_label_back(filled: RedisServer, name: str) -> None:
    body = page(filled, "m", *FORMATS[name][1]).decode()
    families = {family.name: family for family in (parse_openmetrics if "open" in name else parse_text)(body)}
    (sample,) = [s for s in families["calls"].samples if s.name == "calls_total"]
    assert (sample.labels, sample.value) == ({"path": STRANGE, "a": "1"}, 2.5)
    assert families["calls"].documentation == STRANGE
    if name == "text":
        assert_promtool_accepts(body)
    else:
        (quoted,) = families["my.calls"].samples
        assert (quoted.name, quoted.labels, quoted.value) == ("my.calls_total", {"http.method": "GET"}, 3)
    if name == "openmetrics":
        assert sample.exemplar is not None
        assert (sample.exemplar.labels, sample.exemplar.value) == ({"trace_id": "abc"}, 2.5)
        types = {family: families[family].type for family in ("build", "mode", "size_bytes", "load")}
        assert types == {"build": "info", "mode": "stateset", "size_bytes": "summary", "load": "histogram"}


@pytest.mark.parametrize("form", ["TEXT", "TEXT1", "OPENMETRICS", "OPENMETRICS2", "PROTOBUF"])
def test_pages_join_into_the_whole_page_in_every_format(filled: RedisServer, form: str) -> None:
    commands = [["METRICS.INC", "m", "many", "LABELS", 1, "n", number] for number in range(3000)]
    filled.execute_all(commands)
    for options in ([], ["CREATED"], ["ESCAPING", "VALUES"]):
        whole = page(filled, "m", "FORMAT", form, *options)
        parts = pages(filled, "m", "FORMAT", form, *options, "BYTES", 16_384)
        assert len(parts) > 1
        assert b"".join(parts) == whole
