"""docs/metrics.md is written from the code, and running instances show the same metrics."""

import http.client
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

import yaml

from harness import Gunicorn, RedisServer, Scrape, Venv, eventually, scrape
from harness.paths import ROOT

PAGE = ROOT / "docs" / "metrics.md"


class Row(NamedTuple):
    """One family of the overview, named as a parser of OpenMetrics names it."""

    name: str
    kind: str
    labels: frozenset[str]


def _rows(page: str) -> set[Row]:
    """Returns the families at that path."""
    found = re.findall(r"^\| `(\w+)`(?: at `([^`]+)`)? \| (\w+) \| (.*) \|$", PAGE.read_text(), re.MULTILINE)
    return {
        Row(re.sub("_(total|info)$", "", name) if kind in ("counter", "info") else name, kind, _labels(labels))
        for name, at, kind, labels in found
        if (at or "/metrics") == page
    }


def _labels(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"`(\w+)`", text))


def _rows_of(page: Scrape, *, without: tuple[str, ...] = ()) -> set[Row]:
    families = (family for family in page.families.values() if not family.name.startswith(without))
    return {
        Row(family.name, family.type, frozenset(label for sample in family.samples for label in sample.labels) - {"le"})
        for family in families
    }


def test_the_page_is_what_make_docs_writes() -> None:
    """After a change of the catalogue, type `make docs`."""
    assert Venv.gunicorn().run(str(ROOT / "scripts" / "metrics_page.py")) == PAGE.read_text()


def test_a_running_instance_shows_the_metrics_of_the_page() -> None:
    """Every event has happened to this instance. Both directions are compared, with types and labels."""
    with RedisServer() as redis:
        redis.execute("METRICS.INC", "gunicorn:metrics", "shop_conflict")
        arguments = ["--threads=2", "--graceful-timeout=5"]
        worker = "gunicorn_prometheus_exporter.PrometheusThreadWorker"
        with Gunicorn("apps.every_family:app", redis=redis, worker_class=worker, arguments=arguments) as gunicorn:
            gunicorn.request("GET", "/", headers={"X-Request-Start": f"t={time.time()}"})
            gunicorn.get("/boom")
            eventually(lambda: _cut_off(gunicorn))
            # Only a worker that runs can be told to end.
            eventually(lambda: _page(gunicorn).sum("gunicorn_worker_restart_total", reason="kill"), equals=1)
            gunicorn.send(signal.SIGHUP)
            documented = _rows("/metrics")
            eventually(lambda: _rows_of(_page(gunicorn), without=("shop_",)), equals=documented)
            own = scrape(gunicorn.metrics_url.replace("/metrics", "/-/metrics"))
            for row in _rows_of(own):
                known = next(known for known in _rows("/-/metrics") if known.name == row.name)
                # A family without any event has no sample, and so no labels.
                assert (row.kind, row.labels | known.labels) == (known.kind, known.labels), row
            # Shown after an error, and nothing has failed in this exporter.
            without_errors = {row.name for row in _rows("/-/metrics")} - {"gunicorn_exporter_errors"}
            assert {row.name for row in _rows_of(own)} - {"gunicorn_exporter_errors"} == without_errors


def _cut_off(gunicorn: Gunicorn) -> None:
    """Lets a worker die during a request."""
    try:
        gunicorn.get("/die?when=before")
    except (http.client.HTTPException, OSError):
        return
    raise AssertionError("the request was answered")


def _page(gunicorn: Gunicorn) -> Scrape:
    gunicorn.get("/boom")
    return scrape(gunicorn.metrics_url, accept="application/openmetrics-text; version=1.0.0")


def test_promtool_parses_the_queries(tmp_path: Path) -> None:
    """Lets promtool parse them; each query uses the metric under which it is written."""
    found = re.findall(r"^### (\w+)\n.*?```promql\n(.+?)\n```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(found) == len(_rows("/metrics")) + len(_rows("/-/metrics"))
    rules = [{"record": f"query:{number}", "expr": query} for number, (_, query) in enumerate(found)]
    for name, query in found:
        assert name in query, (name, query)
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    subprocess.run(["promtool", "check", "rules", str(file)], check=True, capture_output=True)


def test_the_metrics_classes_have_the_help_and_labels_of_the_catalogue() -> None:
    """The classes of `gunicorn_prometheus_exporter.metrics` have the help and labels of the catalogue."""
    program = (
        "from gunicorn_prometheus_exporter import _native, metrics\n"
        "known = {family.name: family for family in _native.described() if family.page == '/metrics'}\n"
        "classes = {c for c in vars(metrics).values() if isinstance(c, type) and 'documentation' in vars(c)}\n"
        "for c in classes:\n"
        "    family = known[c.name.removesuffix('_total')]\n"
        "    assert (c.documentation, sorted(c.labelnames)) == (family.help, sorted(family.labels)), c\n"
        "    assert c.kind.__name__.lower() == family.kind, c\n"
        "print(len(classes))\n"
    )
    assert int(Venv.gunicorn().run("-c", program)) == 14
