"""`push`: what a batch job has measured, from a file into the registry, and what the next push makes of it."""

import os
import pty
import subprocess
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
    redis: RedisServer, text: str | bytes, *arguments: str, job: str = "nightly"
) -> subprocess.CompletedProcess[bytes]:
    """The command to its end, with the file on its standard input."""
    return subprocess.run(
        [str(built(EXPORTER)), "push", "--job", job, *arguments],
        env=clean_environment(redis_environment(redis)),
        input=text.encode() if isinstance(text, str) else text,
        capture_output=True,
        timeout=60,
        check=False,
    )


def pushed(redis: RedisServer, text: str | bytes, *arguments: str, job: str = "nightly") -> None:
    """The same, and it has worked."""
    done = push(redis, text, *arguments, job=job)
    assert (done.returncode, done.stdout) == (0, b""), done


def page(redis: RedisServer) -> Scrape:
    """What a scrape of the registry shows."""
    with Exporter(redis=redis) as exporter:
        return scrape(exporter.metrics_url, accept=OPENMETRICS)


def measured(number: int) -> CollectorRegistry:
    """What a job has measured, of every type."""
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
    # It has left: nobody is waited for.
    assert redis.execute("TTL", KEY) == -1


def test_a_push_takes_the_place_of_the_one_before(redis: RedisServer) -> None:
    """Counters too, downwards too; and what is not there any more is gone."""
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
    pushed(redis, "")
    assert page(redis).samples("last_success_seconds") == []


def test_the_groups_labels_count_more_than_the_files(redis: RedisServer) -> None:
    pushed(redis, 'x{job="mine",zone="a"} 1\n', "--label", "zone=b", "--label", "env=")
    found = page(redis).samples("x")
    assert [sample.labels for sample in found] == [{"job": "nightly", "zone": "b"}]


def test_what_an_application_counts_is_left_alone(redis: RedisServer) -> None:
    redis.execute("METRICS.INC", KEY, "rows", "BY", 4, "LABELS", 1, "table", "a")
    for _ in range(2):
        pushed(redis, "# TYPE rows counter\nrows_total 3\n")
    found = page(redis)
    assert found.value("rows_total", table="a") == 4
    assert found.value("rows_total", job="nightly") == 3


def test_a_type_that_is_another_in_the_registry_is_said_to_be(redis: RedisServer) -> None:
    redis.execute("METRICS.INC", KEY, "rows")
    done = push(redis, "# TYPE rows histogram\nrows_count 3\n")
    assert (done.returncode, done.stderr.decode()) == (
        65,
        "error: 1 of the series were left out: METRICS.INFO counts them by reason\n",
    )


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


def test_a_time_to_live_begins_with_the_last_push(redis: RedisServer) -> None:
    pushed(redis, "x 1\n", "--ttl", "1")
    redis.execute("METRICS.INC", KEY, "stays")

    def names() -> set[str]:
        return set(page(redis).families)

    eventually(lambda: "x" not in names() and "stays" in names())


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a 1\nb one\n", 'standard input: line 2: "one" is no number'),
        ("a 1 1600000000\n", "standard input: line 1: a time stamp: what is pushed is what is now"),
        ('a{le="1"} 1\n', "standard input: a: label name 'le' is reserved"),
        ("# TYPE a counter\na_total -1\n", "standard input: a: a counter is -1, allowed is a finite number from 0 on"),
    ],
)
def test_a_wrong_file_changes_nothing_and_says_where(redis: RedisServer, text: str, line: str) -> None:
    done = push(redis, "x 1\n" + text if "line" not in line else text)
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


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_its_words(shell: str) -> None:
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
