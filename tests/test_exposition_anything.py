"""No page has anything twice, whatever the commands accept, and the strictest readers accept every page."""

import re
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from redis import ResponseError

from harness import Prometheus, RedisServer, eventually
from harness.metric_family import labels_of, messages
from harness.pages import page, pages, served
from harness.prometheus import assert_promtool_accepts, prometheus_3

TYPES = {
    "TEXT": "text/plain; version=0.0.4; charset=utf-8",
    "TEXT1": "text/plain; version=1.0.0; charset=utf-8",
    "OPENMETRICS": "application/openmetrics-text; version=1.0.0; charset=utf-8",
    "OPENMETRICS2": "application/openmetrics-text; version=2.0.0; charset=utf-8",
    "PROTOBUF": "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited",
}
SCHEMES = {"UNDERSCORES": "underscores", "DOTS": "dots", "VALUES": "values", "ALLOWUTF8": "allow-utf-8"}
# Text 0.0.4 has no quoted names.
FORMS = [(form, scheme) for form in TYPES for scheme in SCHEMES if (form, scheme) != ("TEXT", "ALLOWUTF8")]

LEGAL = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
# Names that a scheme makes equal, and names that formats and Prometheus reserve.
ALIKE = ["a.b", "a-b", "a_b", "a b", "a:b", "U__a_2e_b", "UU__a_2e_b", "U..a_2e_b", "1a", "é", "花.火"]
OURS = ["..name__", "_name_", "__name__", "le", "quantile", "pid", "metrics.rejected_samples", "job", "exported_job"]
ENDINGS = ["", "", "", "_total", ".total", "_created", "_info", "-count", "_sum", "_bucket", "_seconds"]
VALUES = ["0", "1", "-1.5", "1e300", "+Inf", "-Inf", "NaN"]

any_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
names = st.one_of(
    st.builds("{}{}".format, st.sampled_from([*ALIKE, *OURS]), st.sampled_from(ENDINGS)),
    any_text,
    st.just("x" * 600),
    st.just(b"\xff\xfe"),
)
label_values = st.one_of(st.sampled_from(["", "x", "y"]), any_text, st.just(b"\xff"))
label_names = st.one_of(st.sampled_from([*ALIKE, *OURS]), any_text, st.just(b"\xff"))
label_pairs = st.lists(st.tuples(label_names, label_values), max_size=4)
writers = st.sampled_from(["", "one", "two\n", b"\xfe", b"\xff"])
Words = list[object]


def pairs(keyword: str, of: Sequence[tuple[object, object]]) -> Words:
    """Returns `LABELS n name value ...`; nothing if there are no labels."""
    return [keyword, len(of), *(word for pair in of for word in pair)] if of else []


@st.composite
def commands(draw: st.DrawFn) -> list[Words]:
    """Draws the commands that one user sends for one family."""
    name, kind = draw(names), draw(st.sampled_from(["INC", "SET", "OBSERVE", "NATIVEHISTOGRAM", "INFO", "STATESET"]))
    words: list[Words] = []
    exemplar = pairs("EXEMPLAR", draw(label_pairs)) if draw(st.booleans()) else []
    told = ["HELP", draw(any_text), "UNIT", draw(st.one_of(st.sampled_from(["seconds", "b", "total"]), any_text))]
    if kind in ("NATIVEHISTOGRAM", "INFO", "STATESET"):
        words.append(["METRICS.DECLARE", "m", name, kind, *told])
    elif draw(st.booleans()):
        types = {"INC": "COUNTER", "SET": "GAUGE", "OBSERVE": draw(st.sampled_from(["HISTOGRAM", "SUMMARY"]))}
        words.append(["METRICS.DECLARE", "m", name, types[kind], *told])
    mode = draw(st.sampled_from(["sum", "all", "all", "liveall", "mostrecent"]))
    for of in draw(st.lists(label_pairs, min_size=1, max_size=4)):
        value = draw(st.sampled_from(VALUES))
        if kind == "INC":
            words.append(["METRICS.INC", "m", name, *pairs("LABELS", of), *exemplar])
        elif kind == "SET":
            # Some are shown alike, some have left and come back.
            for writer in draw(st.lists(writers, min_size=1, max_size=4)):
                words.append(["METRICS.SET", "m", name, value, "MODE", mode, "WRITER", writer, *pairs("LABELS", of)])
                if draw(st.booleans()) and writer:
                    words.append(["METRICS.LEAVE", "m", writer, 0])
        elif kind in ("OBSERVE", "NATIVEHISTOGRAM"):
            # prometheus_client accepts no sum that is negative or NaN.
            value = value.lstrip("-")
            words.append(["METRICS.OBSERVE", "m", name, value, *pairs("LABELS", of), *exemplar])
        else:
            state = [(name, draw(label_values))] if kind == "STATESET" else []
            words.append(["METRICS.SET", "m", name, "1", *pairs("LABELS", [*state, *of])])
    return words


def fill(redis: RedisServer, families: list[list[Words]]) -> None:
    """Sends all commands; a refusal is one line."""
    redis.execute("DEL", "m")
    refusals = []
    for words in (words for family in families for words in family):
        try:
            redis.execute(*words)
        except ResponseError as error:
            refusals.append(str(error))
    assert [refusal for refusal in refusals if "\n" in refusal or "internal error" in refusal] == []


def identities(form: str, body: bytes) -> list[tuple[str, frozenset[tuple[str, str]]]]:
    """Returns name and labels of each sample (in protobuf: of each metric), as a reader of the format reads them."""
    if form == "PROTOBUF":
        found = []
        for message in messages(body):
            for metric in message.metric:
                names = [pair.name for pair in metric.label]
                assert len(names) == len(set(names)), message
                found.append((message.name, frozenset(labels_of(metric).items())))
        return found
    text = body.decode()
    families: list[Metric] = list((parse_text if form.startswith("TEXT") else parse_openmetrics)(text))
    heads = [line.split()[:3] for line in text.split("\n") if line.startswith("# TYPE ")]
    assert sorted(map(str, heads)) == sorted(set(map(str, heads)))
    return [(sample.name, frozenset(sample.labels.items())) for family in families for sample in family.samples]


def check(redis: RedisServer) -> dict[tuple[str, str], bytes]:
    """Returns every page of the present registry."""
    bodies = {(form, scheme): page(redis, "m", "FORMAT", form, "ESCAPING", scheme) for form, scheme in FORMS}
    counts: dict[str, set[int]] = {}
    for (form, scheme), body in bodies.items():
        assert b"".join(pages(redis, "m", "FORMAT", form, "ESCAPING", scheme, "COUNT", 1)) == body
        if form == "OPENMETRICS2":
            continue
        found = identities(form, body)
        assert len(found) == len(set(found)), f"twice in {form} {scheme}: {body!r}"
        if scheme != "ALLOWUTF8":
            for name, labels in found:
                assert LEGAL.fullmatch(name), (form, scheme, name)
                for label, _ in labels:
                    assert LEGAL.fullmatch(label), (form, scheme, label)
                    assert ":" not in label
        counts.setdefault("PROTOBUF" if form == "PROTOBUF" else "TEXT", set()).add(len(found))
    assert all(len(of) == 1 for of in counts.values()), counts
    for scheme in ("UNDERSCORES", "DOTS", "VALUES"):
        assert_promtool_accepts(bodies["TEXT", scheme].decode())
    return bodies


FEW = settings(
    max_examples=12,
    deadline=None,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
)


def test_every_reader_accepts_every_page(redis: RedisServer) -> None:
    binary = prometheus_3()
    bodies: dict[str, tuple[str, bytes]] = {}

    @FEW
    @given(st.lists(commands(), min_size=1, max_size=12))
    def collect(families: list[list[Words]]) -> None:
        fill(redis, families)
        for (form, scheme), body in check(redis).items():
            # Prometheus 3.5 does not read OpenMetrics 2.0.
            if form != "OPENMETRICS2":
                escaping = "" if form == "TEXT" else f"; escaping={SCHEMES[scheme]}"
                bodies[f"{form}_{scheme}_{len(bodies)}"] = (TYPES[form] + escaping, body)

    collect()
    by_path = '    relabel_configs: [{source_labels: [job], target_label: __metrics_path__, replacement: "/$1"}]\n'
    arguments = ["--enable-feature=native-histograms,exemplar-storage"]
    with (
        served(bodies) as address,
        Prometheus(
            {name: [address] for name in bodies}, more=by_path, binary=binary, arguments=arguments, interval="3s"
        ) as prometheus,
    ):
        eventually(lambda: len(prometheus.query("scrape_samples_scraped")), equals=len(bodies), within=60)
        refused = {
            target["labels"]["job"]: target["lastError"] for target in prometheus.targets() if target["lastError"]
        }
        assert not refused, {job: (error, bodies[job]) for job, error in refused.items()}
        assert len(prometheus.query("up == 1")) == len(bodies)
        taken = {e["metric"]["job"]: int(e["value"][1]) for e in prometheus.query("scrape_samples_scraped")}
        kept = {e["metric"]["job"]: int(e["value"][1]) for e in prometheus.query('count by (job) ({job!=""})')}
        # Five more series describe the scrape itself.
        assert {job: count - 5 for job, count in kept.items()} == taken


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["METRICS.SET", "m", "g", "1", "LABELS", 1, "le", "1"], "label name 'le' is reserved"),
        (["METRICS.SET", "m", "g", "1", "LABELS", 1, "quantile", "1"], "label name 'quantile' is reserved"),
        (["METRICS.SET", "m", "g", "1", "LABELS", 1, "__name__", "x"], "label name '__name__' is reserved"),
        (["METRICS.SET", "m", "g", "1", "LABELS", 2, "a", "1", "a", "2"], "label name 'a' is given twice"),
        (["METRICS.SET", "m", "g", "1", "LABELS", 1, "a\0b", "1"], "label name 'a\\0b' has a NUL"),
        (["METRICS.INC", "m", "metrics_rejected_samples_created"], "is reserved for the registry's own samples"),
    ],
)
def test_names_that_no_page_can_contain_are_refused_in_one_line(redis: RedisServer, words: Words, said: str) -> None:
    with pytest.raises(ResponseError) as refused:
        redis.execute(*words)
    assert said in str(refused.value)
    assert redis.execute("METRICS.EXPOSE", "m") == ""


def test_an_empty_label_equals_an_absent_one_and_the_order_does_not_matter(redis: RedisServer) -> None:
    redis.execute("METRICS.INC", "m", "hits", "LABELS", 2, "b", "2", "a", "1")
    redis.execute("METRICS.INC", "m", "hits", "LABELS", 3, "a", "1", "c", "", "b", "2")
    assert redis.execute("METRICS.EXPOSE", "m") == '# TYPE hits_total counter\nhits_total{a="1",b="2"} 2\n'


def test_a_negative_sum_is_left_out_where_openmetrics_allows_none(redis: RedisServer) -> None:
    """OpenMetrics 1.0.0: the sum of a histogram is like a counter, and without a sum there is no count."""
    redis.execute("METRICS.DECLARE", "m", "s", "SUMMARY")
    redis.execute("METRICS.DECLARE", "m", "n", "NATIVEHISTOGRAM")
    for name in ("h", "s", "n"):
        redis.execute("METRICS.OBSERVE", "m", name, "-1")
    redis.execute("METRICS.OBSERVE", "m", "bounds", "3", "BUCKETS", 2, "-1", "1")
    for value in ("+Inf", "-Inf"):
        redis.execute("METRICS.OBSERVE", "m", "nan", value)
    text = page(redis, "m").decode()
    assert_promtool_accepts(text)
    found = {
        s.name: s.value for family in parse_text(text) for s in family.samples if s.name.endswith(("_sum", "_count"))
    }
    assert [found[f"{name}_sum"] for name in ("h", "s", "n", "bounds")] == [-1, -1, -1, 3]
    assert [found[f"{name}_count"] for name in ("h", "s", "n", "bounds", "nan")] == [1, 1, 1, 1, 2]
    openmetrics = page(redis, "m", "FORMAT", "OPENMETRICS").decode()
    families: list[Metric] = list(parse_openmetrics(openmetrics))  # type: ignore[no-untyped-call]
    shown = {s.name: s for family in families for s in family.samples if s.labels.get("le") != "1.0"}
    assert sorted(name for name in shown if name.endswith(("_sum", "_count"))) == ["s_count"]
    assert [shown[f"{name}_bucket"].value for name in ("h", "n", "bounds", "nan")] == [1, 1, 1, 2]
