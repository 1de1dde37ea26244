"""`push` sends the metrics of a batch job from a file to the registry, and the next push of the group replaces them."""

import os
import pty
import subprocess
import zlib
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, Summary
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from harness import Exporter, RedisServer, eventually, scrape
from harness.exporter import redis_environment
from harness.paths import EXPORTER, built
from harness.process import clean_environment
from harness.scrape import OPENMETRICS, Scrape

KEY = "gunicorn:metrics"


def push(
    redis: RedisServer,
    text: str | bytes | None,
    *arguments: str,
    job: str = "nightly",
    more: dict[str, str] | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Runs the command to its end, with the file on its standard input."""
    return subprocess.run(
        [str(built(EXPORTER)), "push", "--job", job, *arguments],
        env=clean_environment({**redis_environment(redis), **(more or {})}),
        input=(text or "").encode() if not isinstance(text, bytes) else text,
        capture_output=True,
        timeout=60,
        check=False,
    )


def pushed(redis: RedisServer, text: str | bytes | None, *arguments: str, job: str = "nightly") -> None:
    """The same, and the command succeeds."""
    done = push(redis, text, *arguments, job=job)
    assert (done.returncode, done.stdout) == (0, b""), done


def page(redis: RedisServer) -> Scrape:
    """Returns the page of the registry."""
    with Exporter(redis=redis) as exporter:
        return scrape(exporter.metrics_url, accept=OPENMETRICS)


def measured(number: int) -> CollectorRegistry:
    """Returns the metrics of a job, of every type."""
    registry = CollectorRegistry()
    Counter("rows", "Rows\ncopied", ["table"], registry=registry).labels('a "b"\\').inc(number)
    Gauge("last_success_seconds", "When", registry=registry).set(1.5e9 + number)
    histogram = Histogram("copy_seconds", "Time", ["table"], buckets=(0.5, 1, 2.5), registry=registry)
    for value in (0.1, 0.7, 9):
        for _ in range(number):
            histogram.labels("a").observe(value)
    Summary("row_bytes", "Size", registry=registry).observe(10 * number)
    Info("build", "Build", registry=registry).info({"version": f"1.{number}"})
    return registry


@pytest.mark.parametrize("form", ["text", "openmetrics"])
def test_a_file_of_prometheus_client_is_on_the_page(redis: RedisServer, form: str) -> None:
    registry = measured(3)
    text = generate_latest(registry) if form == "text" else generate_openmetrics(registry)  # type: ignore[no-untyped-call]
    pushed(redis, text, "--instance", "host-1")
    found = page(redis)
    group = {"job": "nightly", "instance": "host-1"}
    assert found.value("rows_total", table='a "b"\\', **group) == 3
    assert found.families["rows"].documentation == "Rows\ncopied"
    assert found.value("last_success_seconds", **group) == 1.5e9 + 3
    buckets = {s.labels["le"]: s.value for s in found.samples("copy_seconds_bucket", table="a", **group)}
    assert buckets == {"0.5": 3, "1.0": 6, "2.5": 6, "+Inf": 9}
    assert found.value("copy_seconds_sum", **group) == pytest.approx(29.4)
    assert (found.value("row_bytes_count", **group), found.value("row_bytes_sum", **group)) == (1, 30)
    assert found.value("build_info", version="1.3", **group) == 1
    # The job has no writer for which the registry would wait.
    assert redis.execute("TTL", KEY) == -1


def test_a_push_replaces_the_one_before(redis: RedisServer) -> None:
    """This holds for counters too, also when they go down. Series that the file no longer has are removed."""
    other = 'rows_total{table="a"} 1\n'
    pushed(redis, "# TYPE rows_total counter\n" + other, job="other")
    for number in (5, 5, 2):
        pushed(redis, generate_latest(measured(number)))
        found = page(redis)
        assert found.value("rows_total", job="nightly") == number
        assert found.value("copy_seconds_count", job="nightly") == 3 * number
        assert found.values_of("version", "build_info") == {f"1.{number}"}
        assert found.value("last_success_seconds") == 1.5e9 + number
    pushed(redis, "last_success_seconds 7\n", "--keep-others")
    found = page(redis)
    assert found.value("last_success_seconds", job="nightly") == 7
    assert found.value("rows_total", job="nightly") == 2
    pushed(redis, "last_success_seconds 8\n")
    found = page(redis)
    assert found.samples("rows_total", job="nightly") == []
    assert found.value("rows_total", job="other") == 1
    pushed(redis, None, "--delete")
    assert page(redis).samples("last_success_seconds") == []
    assert page(redis).value("rows_total", job="other") == 1


def test_the_groups_labels_replace_those_of_the_file(redis: RedisServer) -> None:
    pushed(redis, 'x{job="mine",zone="a"} 1\n', "--label", "zone=b", "--label", "env=")
    found = page(redis).samples("x")
    assert [sample.labels for sample in found] == [{"job": "nightly", "zone": "b"}]


def test_a_push_does_not_change_the_counts_of_an_application(redis: RedisServer) -> None:
    redis.execute("METRICS.INC", KEY, "rows", "BY", 4, "LABELS", 1, "table", "a")
    for _ in range(2):
        pushed(redis, "# TYPE rows counter\nrows_total 3\n")
    found = page(redis)
    assert found.value("rows_total", table="a") == 4
    assert found.value("rows_total", job="nightly") == 3


def test_a_type_that_differs_from_the_registry_is_an_error_that_names_it(redis: RedisServer) -> None:
    redis.execute("METRICS.INC", KEY, "rows")
    done = push(redis, "# TYPE rows histogram\nrows_sum 9\nrows_count 3\n")
    assert (done.returncode, done.stderr.decode()) == (
        65,
        "error: redis refuses the push, and nothing has changed: family 'rows' is a counter, not a histogram; "
        "'rows' is not this group's alone: give the group's family another name or that type, "
        "or remove 'rows' with METRICS.DEL if nothing needs it any more\n",
    )


def test_all_shards_are_checked_before_the_first_is_replaced(redis: RedisServer) -> None:
    """A family of another type is in the last shard, so the first one alone would accept the push."""
    shards = {"GUNICORN_EXPORTER_REDIS_SHARDS": "2"}
    keys = [f"{KEY}:{{{shard}}}" for shard in range(2)]
    first, last, taken = (
        next(name for name in names if zlib.crc32(name.encode()) % 2 == shard)
        for shard, names in ((0, "abcdefgh"), (1, "abcdefgh"), (1, "zyxwvuts"))
    )
    assert push(redis, f"{first} 1\n{last} 1\n", more=shards).returncode == 0
    before = [redis.execute("METRICS.EXPOSE", key) for key in keys]
    redis.execute("METRICS.INC", keys[1], taken, "LABELS", 1, "of", "an application")
    wrong = push(redis, f"{first} 2\n{last} 2\n# TYPE {taken} gauge\n{taken} 2\n", more=shards)
    assert wrong.returncode == 65
    assert b"redis refuses the push, and nothing has changed: family" in wrong.stderr
    assert redis.execute("METRICS.EXPOSE", keys[0]) == before[0]
    assert f'{last}{{job="nightly"}} 1' in str(redis.execute("METRICS.EXPOSE", keys[1]))
    assert push(redis, f"{first} 3\n{last} 3\n", more=shards).returncode == 0
    for key, name in zip(keys, (first, last), strict=True):
        assert f'{name}{{job="nightly"}} 3' in str(redis.execute("METRICS.EXPOSE", key))


def test_a_large_file_is_pushed_in_parts_with_its_progress_shown(redis: RedisServer, tmp_path: Path) -> None:
    file = tmp_path / "large.prom"
    lines = [f'big_total{{number="{number}"}} {number}\n' for number in range(20_000)]
    file.write_text("# TYPE big_total counter\n" + "".join(lines))
    leader, follower = pty.openpty()
    for _ in range(2):
        done = subprocess.run(
            [str(built(EXPORTER)), "push", "--job", "large", str(file)],
            env=clean_environment(redis_environment(redis)),
            stderr=follower,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0
        assert b"of 20000 series" in os.read(leader, 100_000)
    os.close(leader)
    os.close(follower)
    found = page(redis)
    assert found.sum("big_total") == sum(range(20_000))
    assert len(found.samples("big_total", job="large")) == 20_000


def test_the_ttl_begins_with_the_last_push(redis: RedisServer) -> None:
    pushed(redis, "x 1\n", "--ttl", "1")
    redis.execute("METRICS.INC", KEY, "stays")

    def names() -> set[str]:
        return set(page(redis).families)

    eventually(lambda: "x" not in names() and "stays" in names())


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "a 1\nb one\n",
            'standard input: line 2: "one" is no number, allowed are decimal numbers, +Inf, -Inf and NaN',
        ),
        ("a 1 1600000000\n", "standard input: line 1: a time stamp: what is pushed is what is now"),
        (
            'a 1\nb{le="1"} 1\n',
            "standard input: line 2: b: label name 'le' is reserved: it belongs to the buckets of a family "
            "with a line # TYPE … histogram",
        ),
        (
            "# TYPE a counter\na_total -1\n",
            "standard input: line 2: a: a counter is -1, allowed is a finite number from 0 on",
        ),
        (
            "# TYPE x counter\nx 1\n# TYPE x_total counter\nx_total 2\n",
            "standard input: line 4: counters x (line 2) and x_total: pages show both as x_total, allowed is one "
            "of the two names",
        ),
        (
            '# TYPE h histogram\nh_bucket{le="+Inf"} 3\nh_count 3\n',
            "standard input: line 2: h: it has no _sum, which pages would show as 0; allowed is a sum for each series, "
            "which may be NaN",
        ),
        (
            '# TYPE h histogram\nh_bucket{le="+Inf"} 3\nh_sum 1\nh_count 4\n',
            'standard input: line 4: h: _count is 4, and bucket le="+Inf" is 3; allowed are equal numbers',
        ),
    ],
)
def test_a_wrong_file_changes_nothing_and_the_error_names_the_line(redis: RedisServer, text: str, line: str) -> None:
    done = push(redis, text)
    assert (done.returncode, done.stderr.decode()) == (65, f"error: {line}\n")
    assert redis.execute("EXISTS", KEY) == 0


def test_exit_codes(redis: RedisServer, tmp_path: Path) -> None:
    missing = push(redis, "", str(tmp_path / "none"))
    assert missing.returncode == 66
    assert missing.stderr.decode().startswith(f"error: {tmp_path / 'none'} cannot be read: No such file")
    assert push(redis, "", "--label", "job=other").returncode == 64
    assert push(redis, "x 1\n", job="").returncode == 64
    redis.shutdown(keep_data=False)
    away = push(redis, "x 1\n")
    assert (away.returncode, away.stderr.decode()) == (
        69,
        f"error: redis at {redis.socket} cannot be reached: connection refused\n",
    )
    nowhere = subprocess.run(
        [str(built(EXPORTER)), "push", "--job", "x"], env=clean_environment({}), capture_output=True, check=False
    )
    assert nowhere.returncode == 64


# --- a group is its labels, and a push replaces it --------------------------------------------------------------------

NAMES = [
    ('{"http.requests_total"} 5\n', "http.requests_total"),
    ('# TYPE "http.requests" counter\n{"http.requests_total"} 5\n', "http.requests"),
    ('{"größe in µs","ein name"="ä\\"\\\\\\n"} 5\n', "größe in µs"),
    ('x{a="\\\\",b="\\"",c="\\n",d="#,}"} 5\n', "x"),
    ("U__a_2e_b 5\n", "U__a_2e_b"),
    ("# TYPE a_b_total counter\na_b_total 5\n", "a_b"),
]


def families(redis: RedisServer) -> dict[str, dict[str, object]]:
    """Returns METRICS.FAMILIES, by name."""
    listed = redis.execute("METRICS.FAMILIES", KEY)
    assert isinstance(listed, list)
    maps = [entry if isinstance(entry, dict) else dict(zip(entry[::2], entry[1::2], strict=True)) for entry in listed]
    return {entry["name"]: entry for entry in maps}


@pytest.mark.parametrize(("text", "name"), NAMES, ids=[name for _, name in NAMES])
def test_a_file_that_is_pushed_again_shows_its_values_once(redis: RedisServer, text: str, name: str) -> None:
    pushed(redis, text, "--label", 'größe=ä"\\')
    once = redis.execute("METRICS.EXPOSE", KEY, "FORMAT", "TEXT1", "ESCAPING", "ALLOWUTF8")
    assert list(families(redis)) == [name]
    for _ in range(2):
        pushed(redis, text, "--label", 'größe=ä"\\')
        assert redis.execute("METRICS.EXPOSE", KEY, "FORMAT", "TEXT1", "ESCAPING", "ALLOWUTF8") == once
    pushed(redis, None, "--label", 'größe=ä"\\', "--delete")
    assert families(redis) == {}


def test_two_groups_with_overlapping_labels_are_separate(redis: RedisServer) -> None:
    redis.execute("METRICS.INC", KEY, "kept", "LABELS", 1, "job", "nightly")
    pushed(redis, "x 1\n", "--instance", "a")
    pushed(redis, "x 2\n")
    pushed(redis, "y 3\n")
    found = page(redis)
    assert found.value("x", job="nightly", instance="a") == 1
    assert [sample.labels for sample in found.samples("x")] == [{"job": "nightly", "instance": "a"}]
    assert found.value("kept_total", job="nightly") == 1
    pushed(redis, None, "--delete")
    assert set(families(redis)) == {"x", "kept"}


def test_a_series_of_another_owner_is_an_error_that_names_it(redis: RedisServer) -> None:
    redis.execute("METRICS.INC", KEY, "rows", "BY", 4, "LABELS", 1, "job", "nightly")
    pushed(redis, "x 1\n", "--instance", "a")
    for text, message in (
        (
            "y 1\n# TYPE rows counter\nrows_total 3\n",
            'series rows{job="nightly"} belongs to an application, or was written by hand',
        ),
        (
            'y 1\nx{instance="a"} 3\n',
            'series x{instance="a",job="nightly"} belongs to the pushed group {instance="a",job="nightly"}',
        ),
    ):
        done = push(redis, text)
        expected = f"error: redis refuses the push, and nothing has changed: {message}\n"
        assert (done.returncode, done.stderr.decode()) == (65, expected)
    found = page(redis)
    assert (found.value("rows_total"), found.value("x"), found.samples("y")) == (4, 1, [])


def test_pushes_that_overlap_show_the_values_of_the_last_one_once(redis: RedisServer) -> None:
    """Ten processes push, and one of them is killed while it pushes."""
    texts = [
        "# TYPE n counter\n" + "".join(f'n_total{{number="{number}"}} {value}\n' for number in range(2000))
        for value in range(1, 11)
    ]

    def start(text: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [str(built(EXPORTER)), "push", "--job", "nightly"],
            env=clean_environment(redis_environment(redis)),
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert process.stdin is not None
        process.stdin.write(text.encode())
        process.stdin.close()
        return process

    for _ in range(2):
        processes = [start(text) for text in texts]
        processes[0].kill()
        processes[0].wait()
        assert [process.wait(60) for process in processes[1:]] == [0] * 9
        text = redis.execute("METRICS.EXPOSE", KEY)
        assert isinstance(text, str)
        values = [line.rsplit(" ", 1)[1] for line in text.splitlines()[1:]]
        assert (len(values), len(set(values))) == (2000, 1)
    assert redis.registry(KEY)["groups"] == "1"


def test_a_family_changes_its_type_in_one_push(redis: RedisServer) -> None:
    pushed(redis, "rows_total 1\n")
    assert families(redis)["rows_total"]["type"] == "gauge"
    pushed(redis, "# HELP rows Rows\n# TYPE rows counter\nrows_total 2\n", "--keep-others")
    found = families(redis)
    assert (list(found), found["rows"]["type"], found["rows"]["help"]) == (["rows"], "counter", "Rows")
    pushed(redis, "# HELP rows All rows\n# TYPE rows histogram\nrows_sum 9\nrows_count 3\n")
    assert (families(redis)["rows"]["type"], families(redis)["rows"]["help"]) == ("histogram", "All rows")


def test_repeated_pushes_leave_nothing_behind(redis: RedisServer) -> None:
    sizes = []
    for number in range(40):
        pushed(redis, f'# TYPE rows counter\nrows_total {number}\nlast{{run="{number % 7}"}} 1\n')
        sizes.append(int(redis.registry(KEY)["bytes"]))
    assert max(sizes[-20:]) <= max(sizes[:10])
    assert redis.execute("METRICS.WRITERS", KEY) == []


def test_exemplars_and_start_times_are_kept(redis: RedisServer) -> None:
    registry = measured(3)
    rows = Counter("shipped", "Shipped", registry=registry)
    rows.inc(2, exemplar={"trace": "abc"})
    pushed(redis, generate_openmetrics(registry))  # type: ignore[no-untyped-call]
    text = redis.execute("METRICS.EXPOSE", KEY, "FORMAT", "OPENMETRICS", "CREATED", "NAMES", 1, "shipped_total")
    assert isinstance(text, str)
    assert 'shipped_total{job="nightly"} 2 # {trace="abc"} 2 ' in text
    created = next(line for line in text.splitlines() if line.startswith("shipped_created"))
    started = registry.get_sample_value("shipped_created")
    assert started is not None
    assert float(created.rsplit(" ", 1)[1]) == pytest.approx(started, abs=0.01)


def test_a_gauge_named_like_a_start_time_is_kept(redis: RedisServer) -> None:
    pushed(redis, "# TYPE x counter\nx_total 3\n# TYPE x_created gauge\nx_created 7\n")
    found = page(redis)
    assert (found.value("x_total"), found.value("x_created")) == (3, 7)


def test_a_gauge_that_looks_like_a_start_time_in_all_but_its_value_is_kept(redis: RedisServer) -> None:
    pushed(
        redis,
        "# HELP orders_total Orders\n# TYPE orders_total counter\norders_total 5\n"
        "# HELP orders_created Orders\n# TYPE orders_created gauge\norders_created 12\n",
    )
    found = page(redis)
    assert (found.value("orders_total"), found.value("orders_created")) == (5, 12)


def test_a_counter_keeps_each_ending_but_one(redis: RedisServer) -> None:
    pushed(redis, "# TYPE a_total_total counter\na_total_total 3\n# TYPE b_total counter\nb_total 4\n")
    found = page(redis)
    assert (found.value("a_total_total"), found.value("b_total")) == (3, 4)


def test_samples_that_are_left_out_are_named(redis: RedisServer) -> None:
    done = push(redis, '# TYPE size summary\nsize{a="1",quantile="0.5"} 1\nsize_sum{a="1"} 9\nsize_count{a="1"} 4\n')
    assert done.returncode == 0
    assert 'left out: size{a="1",quantile="0.5"}: a quantile, and these cannot be added up' in done.stderr.decode(), (
        done
    )
    assert page(redis).value("size_count", a="1") == 4


# --- valid and invalid files ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"", "there is no sample in it; --delete removes what was pushed for the group before"),
        (b"# TYPE x counter\n\n", "there is no sample in it; --delete removes what was pushed for the group before"),
        ("x 1\n".encode("utf-16"), "the file is text in UTF-16, allowed is text in UTF-8 or protobuf messages"),
        ("x 1\n".encode("utf-32"), "the file is text in UTF-32, allowed is text in UTF-8 or protobuf messages"),
        ("x 1\n".encode("utf-16-be"), "the file is text in UTF-16, allowed is text in UTF-8 or protobuf messages"),
        (
            'x 1\ny{a="é"} 1\n'.encode("latin-1"),
            "line 2: byte 0xe9 is not UTF-8: the file is binary, or text in another encoding such as Latin-1",
        ),
        (
            b'x{zone="a"} 1\nx{zone="b"} 2\n',
            'line 2: x{zone="a"} and x{zone="b"} become one series, because the group sets job, zone',
        ),
        (b"x 1\n# EOF\nx 2\n# EOF\n", "line 3: x has this sample twice"),
        (b"x 1\n# EOF\n# TYPE x counter\n", "line 3: x has another type already"),
    ],
)
def test_a_file_that_cannot_be_pushed_says_why(redis: RedisServer, content: bytes, line: str) -> None:
    pushed(redis, "before 1\n", "--label", "zone=c")
    done = push(redis, content, "--label", "zone=c")
    assert (done.returncode, done.stderr.decode()) == (65, f"error: standard input: {line}\n")
    assert page(redis).value("before") == 1


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (b"\xef\xbb\xbfx 1\n", {}),
        (b'x{a="\x1b[31mred\x01"} 1\n', {"a": "\x1b[31mred\x01"}),
        (b"x 1\r\n", {}),
        (b"y 2\n# EOF\nx 1\n# EOF\n", {}),
    ],
)
def test_every_kind_of_text_is_read(redis: RedisServer, content: bytes, value: dict[str, str]) -> None:
    pushed(redis, content)
    assert (
        redis.execute("METRICS.GET", KEY, "x", "LABELS", 1 + len(value), "job", "nightly", *sum(value.items(), ()))
        == "1"
    )


def test_redis_host_alone_is_enough_to_push() -> None:
    with RedisServer(tcp=True) as redis:
        done = subprocess.run(
            [str(built(EXPORTER)), "push", "--job", "nightly"],
            env=clean_environment({"REDIS_HOST": "127.0.0.1", "REDIS_PORT": str(redis.port)}),
            input=b"x 1\n",
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done
        assert redis.execute("METRICS.GET", KEY, "x", "LABELS", 1, "job", "nightly") == "1"


def test_keep_others_keeps_the_other_families(redis: RedisServer) -> None:
    many = "".join(f"family_{number} 1\n" for number in range(5000))
    pushed(redis, many)
    pushed(redis, "family_7 2\nextra 3\n", "--keep-others")
    pushed(redis, many.replace(" 1\n", " 4\n"), "--keep-others")
    assert len(families_count := redis.registry(KEY)["families"]) == 4
    assert families_count == "5001"
    for name, value in (("family_7", "4"), ("extra", "3")):
        assert redis.execute("METRICS.GET", KEY, name, "LABELS", 1, "job", "nightly") == value


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_the_words_of_push(shell: str) -> None:
    script = subprocess.run([str(built(EXPORTER)), "completions", shell], capture_output=True, text=True, check=True)
    for word in ("standalone", "check-config", "push", "keep-others"):
        assert word in script.stdout
    if shell == "bash":
        asked = (
            "COMP_WORDS=(gunicorn-prometheus-exporter sta); COMP_CWORD=1; _gunicorn__prometheus__exporter "
            'gunicorn-prometheus-exporter sta gunicorn-prometheus-exporter; echo "${COMPREPLY[@]}"'
        )
        answer = subprocess.run(["bash", "-c", f"{script.stdout}\n{asked}"], capture_output=True, text=True, check=True)
        assert answer.stdout == "standalone\n"
