"""A metric whose declaration changes: the page follows once no live process holds the old declaration."""

import json
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from test_life_upgrade import Upgradable, exporters_of

from harness import Gunicorn, RedisServer, Scrape, eventually, scrape
from harness.process import task

APP = "apps.declared:app"
WAITS = "the new declaration takes effect when the last of these has ended"
OLDER = "and older processes still declare"

SUM = {"type": "gauge", "help": "Jobs", "multiprocess_mode": "sum"}
MAX = {"type": "gauge", "help": "Jobs", "multiprocess_mode": "max"}
ALL = {"type": "gauge", "help": "Jobs", "multiprocess_mode": "all"}
COUNTER = {"type": "counter", "help": "Jobs"}
NEW_HELP = {"type": "counter", "help": "Jobs that were done"}
BUCKETS = {"type": "histogram", "help": "Jobs", "buckets": [1, 2]}
NEW_BUCKETS = {"type": "histogram", "help": "Jobs", "buckets": [1, 5]}

CHANGES = [
    (SUM, MAX, "gauge in mode max", "gauge in mode sum"),
    (COUNTER, ALL, "gauge in mode all", "counter"),
    (BUCKETS, SUM, "gauge in mode sum", "histogram"),
    (BUCKETS, NEW_BUCKETS, "buckets 1.0 5.0", "buckets 1.0 2.0"),
    (COUNTER, NEW_HELP, 'help text "Jobs that were done"', 'help text "Jobs"'),
]
"""Old and new declaration, and how the line in the log names the new and the old one."""


def declare(folder: Path, declaration: dict[str, Any]) -> None:
    (folder / "declaration.json").write_text(json.dumps(declaration))


@contextmanager
def started(folder: Path, **options: Any) -> Iterator[Gunicorn]:
    environment = {"DECLARED_FOLDER": str(folder), "PROMETHEUS_MULTIPROC_DIR": ""} | options.pop("environment", {})
    with Gunicorn(APP, environment=environment, **options) as gunicorn:
        yield gunicorn


def shown(page: Scrape) -> dict[str, Any]:
    """Returns the metric as the page shows it."""
    names = ("jobs", "jobs_total", "jobs_count")
    families = [family for family in page.families.values() if family.name in ("jobs", "jobs_total")]
    assert len(families) == 1, families
    family = families[0]
    values = [sample.value for sample in family.samples if sample.name in names]
    bounds = [sample.labels["le"] for sample in family.samples if "le" in sample.labels]
    return {"type": family.type, "help": family.documentation, "values": values, "bounds": bounds}


def expected(declaration: dict[str, Any], value: float) -> dict[str, Any]:
    """Returns the metric as the page must show it when one process has written `value` once."""
    is_histogram = declaration["type"] == "histogram"
    return {
        "type": declaration["type"],
        "help": declaration["help"],
        "values": [1 if is_histogram else value],
        "bounds": [*(f"{float(bound)}" for bound in declaration.get("buckets", [])), "+Inf"] if is_histogram else [],
    }


def answering(gunicorn: Gunicorn) -> set[int]:
    """Returns the workers that answer requests now."""
    return {int(gunicorn.get("/pid").body) for _ in range(10)}


@pytest.mark.parametrize(("old", "new", "named_new", "named_old"), CHANGES)
def test_hup_changes_a_declaration_when_the_last_worker_of_the_old_one_has_ended(
    old: dict[str, Any], new: dict[str, Any], named_new: str, named_old: str, tmp_path: Path
) -> None:
    declare(tmp_path, old)
    with started(
        tmp_path, arguments=["--threads=2"], worker_class="gunicorn_prometheus_exporter.PrometheusThreadWorker"
    ) as gunicorn:
        gunicorn.get("/?value=3")
        eventually(lambda: shown(scrape(gunicorn.metrics_url)), equals=expected(old, 3))
        held = threading.Thread(target=gunicorn.get, args=("/hold",))
        held.start()
        eventually(lambda: (tmp_path / "held").exists(), equals=True)
        declare(tmp_path, new)
        gunicorn.send(signal.SIGHUP)
        eventually(lambda: answering(gunicorn) == set(gunicorn.worker_pids()[1:]))
        gunicorn.get("/?value=4")
        eventually(lambda: gunicorn.log.count(WAITS), equals=1)
        line = next(line for line in gunicorn.log.splitlines() if WAITS in line)
        assert f"family 'jobs' is declared as {named_new}" in line
        assert f"still hold {named_old}:" in line
        page = scrape(gunicorn.metrics_url)
        assert page.value("gunicorn_exporter_errors_total", where="declaration") >= 1
        assert (shown(page)["type"], shown(page)["help"]) == (old["type"], old["help"])
        (tmp_path / "release").touch()
        held.join()
        values = 7 if new is NEW_HELP else 4
        eventually(lambda: shown(scrape(gunicorn.metrics_url)), equals=expected(new, values))
        assert gunicorn.log.count(WAITS) == 1


@pytest.mark.parametrize(("old", "new"), [(old, new) for old, new, _, _ in CHANGES])
@pytest.mark.parametrize("place", ["memory", "redis"])
def test_a_reload_whose_old_workers_end_at_once_logs_and_counts_nothing(
    old: dict[str, Any], new: dict[str, Any], place: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    server = request.getfixturevalue("redis") if place == "redis" else None
    declare(tmp_path, old)
    with started(tmp_path, workers=2, redis=server) as gunicorn:
        for _ in range(2):
            before = set(gunicorn.worker_pids())
            gunicorn.get("/?value=3")
            declare(tmp_path, new)
            gunicorn.send(signal.SIGHUP)
            gunicorn.get("/?value=3")
            eventually(lambda b=before: len(set(gunicorn.worker_pids()) - b) == len(gunicorn.worker_pids()) == 2)  # type: ignore[misc]
            old, new = new, old
        gunicorn.get("/?value=4")
        eventually(lambda: shown(scrape(gunicorn.metrics_url))["help"], equals=old["help"])
        # By then the exporter has compared the declarations of all workers.
        eventually(lambda: min(uptimes(scrape(gunicorn.metrics_url))) > 7)
        page = scrape(gunicorn.metrics_url)
        assert shown(page)["type"] == old["type"]
        assert page.sum("gunicorn_exporter_errors_total", where="declaration") == 0
        assert WAITS not in gunicorn.log
        assert OLDER not in gunicorn.log


def uptimes(page: Scrape) -> list[float]:
    """Returns the uptime of each worker, in seconds."""
    return [sample.value for sample in page.samples("gunicorn_worker_uptime_seconds")]


@pytest.mark.parametrize(("old", "new", "named_new", "named_old"), CHANGES)
def test_an_upgrade_in_file_mode_changes_a_declaration_when_the_old_arbiter_has_ended(
    old: dict[str, Any], new: dict[str, Any], named_new: str, named_old: str, tmp_path: Path
) -> None:
    """Until then one line names both, and the page shows the old one."""
    declare(tmp_path, old)
    directory = tmp_path / "metrics"
    with Upgradable(
        APP, environment={"DECLARED_FOLDER": str(tmp_path), "PROMETHEUS_MULTIPROC_DIR": str(directory)}
    ) as gunicorn:
        gunicorn.get("/?value=3")
        eventually(lambda: shown(scrape(gunicorn.metrics_url)), equals=expected(old, 3))
        eventually(lambda: list(directory.glob("*.store")) != [])
        declare(tmp_path, new)
        arbiter = gunicorn.upgrade()
        eventually(lambda: len(exporters_of(arbiter)), equals=1)
        eventually(lambda: gunicorn.log.count(WAITS), equals=1)
        line = next(line for line in gunicorn.log.splitlines() if WAITS in line)
        assert f"family 'jobs' is declared as {named_new}" in line
        assert f"still hold {named_old}:" in line
        page = scrape(gunicorn.metrics_url)
        assert page.value("gunicorn_exporter_errors_total", where="declaration") >= 1
        assert (shown(page)["type"], shown(page)["help"]) == (old["type"], old["help"])
        os.kill(gunicorn.arbiters[0], signal.SIGTERM)
        eventually(lambda: task(gunicorn.arbiters[0]) is None)
        gunicorn.get("/?value=4")
        values = 7 if new is NEW_HELP else 4
        eventually(lambda: shown(scrape(gunicorn.metrics_url)), equals=expected(new, values))
        assert gunicorn.log.count(WAITS) == 1
        assert OLDER not in gunicorn.log


@pytest.mark.parametrize(("old", "new"), [(old, new) for old, new, _, _ in CHANGES])
def test_a_restart_with_redis_changes_a_declaration(
    old: dict[str, Any], new: dict[str, Any], redis: RedisServer, tmp_path: Path
) -> None:
    declare(tmp_path, old)
    with started(tmp_path, redis=redis) as gunicorn:
        gunicorn.get("/?value=3")
        eventually(lambda: shown(scrape(gunicorn.metrics_url)), equals=expected(old, 3))
    declare(tmp_path, new)
    with started(tmp_path, redis=redis) as gunicorn:
        gunicorn.get("/?value=4")
        values = 7 if new is NEW_HELP else 4
        eventually(lambda: shown(scrape(gunicorn.metrics_url)), equals=expected(new, values))
        assert WAITS not in gunicorn.log


@pytest.mark.parametrize(("old", "new", "named_new", "named_old"), CHANGES)
def test_another_instance_with_redis_waits_for_the_old_one_and_logs_it_once(
    old: dict[str, Any], new: dict[str, Any], named_new: str, named_old: str, redis: RedisServer, tmp_path: Path
) -> None:
    declare(tmp_path, old)
    with started(tmp_path, redis=redis) as one:
        one.get("/?value=3")
        eventually(lambda: shown(scrape(one.metrics_url)), equals=expected(old, 3))
        declare(tmp_path, new)
        with started(tmp_path, redis=redis, workers=2) as other:
            other.get("/?value=4")
            eventually(lambda: other.log.count(WAITS), equals=1)
            line = next(line for line in other.log.splitlines() if WAITS in line)
            assert f"family 'jobs' is declared as {named_new}" in line
            assert f"still hold {named_old}:" in line
            page = scrape(one.metrics_url)
            assert (shown(page)["type"], shown(page)["help"]) == (old["type"], old["help"])
            eventually(
                lambda: scrape(other.metrics_url).sum("gunicorn_exporter_errors_total", where="declaration") >= 1
            )
            one.stop()
            values = 7 if new is NEW_HELP else 4
            if new["type"] == "gauge" and new["multiprocess_mode"] == "all":
                # Each of the two workers has its own value.
                eventually(lambda: 4 in shown(scrape(other.metrics_url))["values"], equals=True)
            else:
                eventually(lambda: shown(scrape(other.metrics_url)), equals=expected(new, values))
            assert other.log.count(WAITS) == 1
            assert WAITS not in one.log
