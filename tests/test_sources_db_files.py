"""A directory of prometheus_client's own .db files: our page shows the same as its MultiProcessCollector."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.multiprocess import MultiProcessCollector

from apps.db_writer import MODES
from harness import Exporter, eventually, scrape
from harness.paths import TESTS
from harness.process import clean_environment

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]

# Sums of these are exact in any order.
NUMBERS = st.integers(-1000, 1000).map(lambda number: number / 8)
TEXTS = st.sampled_from(["a", "b", 'q"uote', "back\\slash", "new\nline", "zwölf", "𝄞"])


def operation(name: str, kind: str, methods: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Returns one call of a metric of that kind; all calls of one name have the same labels."""
    labelled = name.endswith("_by")
    return st.sampled_from(sorted(methods)).flatmap(
        lambda method: st.fixed_dictionaries(
            {
                "name": st.just(name),
                "kind": st.just(kind),
                "labels": st.fixed_dictionaries({"first": TEXTS, "second": TEXTS}) if labelled else st.just({}),
                "layout": st.sampled_from([[0.5, 1, 10], [0.25, 1, 2.5, 100], [1]]),
                "method": st.just(method),
                "arguments": st.tuples(*methods[method]),
            }
        )
    )


def operations() -> st.SearchStrategy[list[dict[str, Any]]]:
    """Returns a list of calls that one process makes in one go."""
    amounts = NUMBERS.map(abs)
    every = []
    for suffix in ("", "_by"):
        every += [
            operation(f"hits{suffix}", "counter", {"inc": [amounts]}),
            operation(f"waits{suffix}", "summary", {"observe": [NUMBERS]}),
            operation(f"sizes{suffix}", "histogram", {"observe": [NUMBERS]}),
        ]
        for mode in MODES:
            methods = {"set": [NUMBERS]} if "recent" in mode else {"set": [NUMBERS], "inc": [NUMBERS], "dec": [NUMBERS]}
            every.append(operation(f"level_{mode}{suffix}", mode, methods))
    return st.lists(st.one_of(every), min_size=1, max_size=25)


class Process:
    """A program that writes its own files there."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.process = subprocess.Popen(
            [sys.executable, TESTS / "apps" / "db_writer.py"],
            env=clean_environment({"PROMETHEUS_MULTIPROC_DIR": str(directory)}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def do(self, todo: Sequence[dict[str, Any]]) -> None:
        """Returns when it has done all."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(todo) + "\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "done\n"

    def kill(self) -> None:
        """Kills it as the kernel does when memory runs out."""
        self.process.kill()
        self.process.communicate()

    @property
    def files(self) -> list[str]:
        """Returns the files that it has written."""
        return [path.name for path in self.directory.glob(f"*_{self.process.pid}.db")]


@contextmanager
def writers(directory: Path, count: int) -> Iterator[list[Process]]:
    """Starts some processes, and ends them at the end."""
    with ExitStack() as stack:
        made = []
        for _ in range(count):
            made.append(Process(directory))
            stack.callback(made[-1].kill)
        yield made


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """The directory of the files."""
    path = tmp_path / "metrics"
    path.mkdir()
    return path


def sidecar(directory: Path, *, cleanup: bool = False) -> Exporter:
    """Returns a sidecar for the directory."""
    environment = {"PROMETHEUS_MULTIPROC_DIR": str(directory), "CLEANUP_DB_FILES": str(cleanup).lower()}
    return Exporter("sidecar", environment=environment)


def collector_view(directory: Path) -> tuple[Samples, dict[str, str]]:
    """Returns what prometheus_client reads from the files: samples, and types by family."""
    collector = MultiProcessCollector(CollectorRegistry(), path=str(directory))  # type: ignore[no-untyped-call]
    return samples_and_types(collector.collect())  # type: ignore[no-untyped-call]


def page_view(exporter: Exporter) -> tuple[Samples, dict[str, str]]:
    """Returns the samples and types of our page."""
    return samples_and_types(scrape(exporter.metrics_url).families.values())


def assert_agree(exporter: Exporter, directory: Path) -> None:
    """The page and the collector agree; the error names the differences."""
    (ours, our_types), (theirs, their_types) = page_view(exporter), collector_view(directory)
    differing = {
        key: (ours.get(key), theirs.get(key)) for key in ours.keys() | theirs if ours.get(key) != theirs.get(key)
    }
    assert differing == {}
    assert our_types == their_types


def samples_and_types(families: Sequence[Metric] | Any) -> tuple[Samples, dict[str, str]]:
    """Compares bounds as numbers, and an empty label as none. A family without a sample is left out."""
    samples: Samples = {}
    types: dict[str, str] = {}
    for family in families:
        for sample in family.samples:
            labels = {name: value for name, value in sample.labels.items() if value}
            if "le" in labels:
                labels["le"] = repr(float(labels["le"]))
            key = (sample.name, frozenset(labels.items()))
            assert key not in samples, f"{key} is there twice"
            samples[key] = sample.value
            types[family.name] = family.type
    return samples, types


@settings(
    max_examples=12, deadline=None, phases=[Phase.explicit, Phase.generate], suppress_health_check=list(HealthCheck)
)
@given(st.lists(st.lists(operations(), min_size=1, max_size=3), min_size=1, max_size=3))
def test_the_page_and_the_collector_agree(tmp_path_factory: pytest.TempPathFactory, work: list[Any]) -> None:
    """Random work by random processes, compared during the work, after deaths, and by a sidecar that starts late."""
    directory = tmp_path_factory.mktemp("metrics")
    with writers(directory, len(work)) as processes, sidecar(directory) as exporter:
        for step in range(max(map(len, work))):
            for process, todo in zip(processes, work, strict=True):
                if step < len(todo):
                    process.do(todo[step])
            assert_agree(exporter, directory)
        dying = processes[0]
        dying.kill()
        assert_agree(exporter, directory)
        for path in directory.glob(f"gauge_live*_{dying.process.pid}.db"):
            path.unlink()
        assert_agree(exporter, directory)
        exporter.stop()
        exporter.start()
        assert_agree(exporter, directory)


def call(name: str, kind: str, method: str, *arguments: float) -> dict[str, Any]:
    """Returns one operation."""
    return {"name": name, "kind": kind, "labels": {}, "layout": [1, 10], "method": method, "arguments": arguments}


def test_a_counter_that_is_reset_and_a_file_that_is_deleted_go_down(directory: Path) -> None:
    with writers(directory, 2) as (first, second), sidecar(directory) as exporter:
        for process in (first, second):
            process.do([call("hits", "counter", "inc", 5), call("sizes", "histogram", "observe", 3)])
        assert_agree(exporter, directory)
        first.do([call("hits", "counter", "reset")])
        assert page_view(exporter)[0]["hits_total", frozenset()] == 5
        assert_agree(exporter, directory)
        for name in second.files:
            (directory / name).unlink()
        assert_agree(exporter, directory)
        first.do([call("hits", "counter", "inc", 2)])
        assert_agree(exporter, directory)


def test_files_of_the_dead_are_folded_and_deleted(directory: Path) -> None:
    """The page loses only values of live processes, also for a successor of the exporter."""
    work = [
        call("hits", "counter", "inc", 5),
        call("sizes", "histogram", "observe", 3),
        call("waits", "summary", "observe", 2),
    ]
    work += [call(f"level_{mode}", mode, "set", 7) for mode in MODES]
    with writers(directory, 3) as processes, sidecar(directory, cleanup=True) as exporter:
        for number, process in enumerate(processes):
            process.do([*work, call("level_max", "max", "set", number), call("level_min", "min", "set", -number)])
        assert_agree(exporter, directory)
        for dying in processes[:2]:
            after = directory.parent / "after"
            shutil.copytree(directory, after)
            for path in after.glob(f"gauge_live*_{dying.process.pid}.db"):
                path.unlink()
            expected = collector_view(after) if dying is processes[0] else None
            dying.kill()
            eventually(lambda: dying.files, equals=[])
            if expected:
                assert page_view(exporter) == expected
            shutil.rmtree(after)
        exporter.kill()
        exporter.start()
        samples, _ = page_view(exporter)
        assert samples["hits_total", frozenset()] == 15
        assert samples["sizes_count", frozenset()] == 3
        assert samples["waits_sum", frozenset()] == 6
        assert samples["level_max", frozenset()] == 2
        assert samples["level_min", frozenset()] == -2
        assert samples["level_sum", frozenset()] == 21
        assert samples["level_livesum", frozenset()] == 7
        assert len([key for key in samples if key[0] == "level_all"]) == 3
        assert len([key for key in samples if key[0] == "level_liveall"]) == 1


def test_files_of_processes_that_cannot_be_seen_stay(directory: Path) -> None:
    with writers(directory, 1) as (process,):
        process.do([call("hits", "counter", "inc", 5)])
    files = process.files
    with sidecar(directory, cleanup=True) as exporter:
        assert page_view(exporter)[0]["hits_total", frozenset()] == 5
        shutil.copy(directory / files[0], directory / "counter_uwsgi-1.db")
        eventually(lambda: page_view(exporter)[0]["hits_total", frozenset()], equals=10)
        assert process.files == files


def test_a_damaged_file_is_left_out_and_named_once(directory: Path) -> None:
    (directory / "counter_1.db").write_bytes(b"\x40\0\0\0\0\0\0\0\xff\xff\xff\x7f" + bytes(64))
    with writers(directory, 1) as (process,), sidecar(directory) as exporter:
        process.do([call("hits", "counter", "inc", 5)])
        for _ in range(3):
            assert page_view(exporter)[0]["hits_total", frozenset()] == 5
        assert exporter.log.count("counter_1.db is left out: it is damaged at byte 8") == 1


def test_a_second_sidecar_waits_and_takes_over(directory: Path) -> None:
    """The second waits, logs it, and continues where the first stopped."""
    with writers(directory, 1) as (process,), sidecar(directory) as first:
        process.do([call("hits", "counter", "inc", 5)])
        assert page_view(first)[0]["hits_total", frozenset()] == 5
        second = sidecar(directory)
        with second.log_path.open("ab") as log:
            command = [str(word) for word in second.command()]
            second.process = subprocess.Popen(command, env=second.environment, stdout=log, stderr=log)
        try:
            eventually(lambda: f"another process reads {directory}" in second.log)
            first.kill()
            eventually(lambda: page_view(second)[0]["hits_total", frozenset()], equals=5)
        finally:
            assert second.stop() == 0


def test_a_sidecar_without_a_source_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="there is nothing to serve: set REDIS_ENABLED=true"):
        Exporter("sidecar").start()


def test_an_orderly_end_is_exit_status_0(directory: Path) -> None:
    with sidecar(directory) as exporter:
        os.kill(exporter.pid, 15)
        assert exporter.process is not None
        assert exporter.process.wait(15) == 0
