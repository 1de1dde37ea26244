"""Prometheus accepts the rules and dashboards in deploy/; each is tested, and none is empty over a real application."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness import Gunicorn, Load, Prometheus, RedisServer, eventually
from harness.paths import ROOT

PROMETHEUS = ROOT / "deploy" / "prometheus"
DASHBOARDS = sorted((ROOT / "deploy" / "grafana" / "dashboards").glob("*.json"))
SHOP = ROOT / "examples" / "flask_app"


def _promtool(*arguments: str) -> None:
    done = subprocess.run(["promtool", *arguments], cwd=PROMETHEUS, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_rules_pass_their_unit_tests() -> None:
    """Each alert fires in its case, and in no other."""
    _promtool("check", "rules", "rules.yml")
    _promtool("test", "rules", "rules.test.yml")


def test_every_alert_is_tested() -> None:
    """Every alert of rules.yml has a case in rules.test.yml."""
    rules = yaml.safe_load((PROMETHEUS / "rules.yml").read_text())
    alerts = {rule["alert"] for group in rules["groups"] for rule in group["rules"] if "alert" in rule}
    tests = yaml.safe_load((PROMETHEUS / "rules.test.yml").read_text())["tests"]
    tested = {case["alertname"] for test in tests for case in test.get("alert_rule_test", ()) if case["exp_alerts"]}
    assert alerts == tested


@pytest.mark.parametrize("name", ["prometheus.yml", "kubernetes.yml"])
def test_prometheus_accepts_its_configuration(name: str, tmp_path: Path) -> None:
    """The configurations of docker-compose.yml and of Kubernetes, with the rules beside them."""
    for rules in ("rules.yml", "original-names.yml"):
        shutil.copy(PROMETHEUS / rules, tmp_path)
    # Debian builds Prometheus without the discovery in Kubernetes.
    static = "static_configs: [{targets: [a:9091]}]"
    text = (PROMETHEUS / name).read_text().replace("kubernetes_sd_configs: [{role: pod}]", static)
    (tmp_path / name).write_text(text)
    _promtool("check", "config", str(tmp_path / name))


@pytest.mark.parametrize("name", ["prometheus.yml", "kubernetes.yml"])
def test_every_configuration_scrapes_the_exporters_themselves(name: str) -> None:
    """Push lag and errors are at `/-/metrics`."""
    jobs = yaml.safe_load((PROMETHEUS / name).read_text())["scrape_configs"]
    assert {job.get("metrics_path", "/metrics") for job in jobs} == {"/metrics", "/-/metrics"}


def test_every_alert_leads_to_its_section_and_to_a_dashboard() -> None:
    """`runbook_url` names a heading of docs/runbook.md, `dashboard_url` a dashboard; each heading has an alert."""
    alerts = {rule["alert"]: rule for rule in _rules() if "alert" in rule}
    headings = re.findall(r"^## (\w+)$", (ROOT / "docs" / "runbook.md").read_text(), re.MULTILINE)
    assert sorted(headings) == sorted(alerts)
    boards = {json.loads(path.read_text())["uid"] for path in DASHBOARDS}
    for name, rule in alerts.items():
        assert rule["annotations"]["runbook_url"].endswith(f"/runbook/#{name.lower()}")
        assert re.split(r"[/?]", rule["annotations"]["dashboard_url"])[2] in boards


def _rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((PROMETHEUS / "rules.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def _queries(path: Path) -> Iterator[tuple[str, str]]:
    board = json.loads(path.read_text())
    for panel in board["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], _selecting_everything(target["expr"])


def _selecting_everything(query: str) -> str:
    """Puts in the values that Grafana puts in for "All"."""
    query = re.sub(r"\$(job|worker)\b", ".+", query).replace("$__rate_interval", "20s")
    query = re.sub(r"\$(namespace|instance|endpoint)\b", ".*", query)
    assert "$" not in query, query
    return query


def _recorded() -> Iterator[tuple[str, str]]:
    for rule in _rules():
        # A rule that is made of other rules is empty, because this Prometheus evaluates no rules.
        if "record" in rule and "job:" not in rule["expr"]:
            yield rule["record"], rule["expr"]


@pytest.fixture(scope="module")
def prometheus() -> Iterator[Prometheus]:
    """A Prometheus that has scraped the shop while it served, failed, and lost a worker; and the exporter itself."""
    config = (SHOP / "gunicorn.conf.py").read_text()
    with (
        RedisServer() as redis,
        Gunicorn("shop:app", workers=2, config=config, redis=redis, app_directory=SHOP) as gunicorn,
    ):
        target = [f"127.0.0.1:{gunicorn.metrics_port}"]
        # The name of each job is the path that it scrapes.
        with Prometheus({"metrics": target, "-/metrics": target}, more="    metrics_path: /<job>\n") as server:
            eventually(lambda: server.value("sum(up)"), equals=2)
            for path in ("/", "/books/1", "/books/9", "/broken"):
                gunicorn.get(path)
            gunicorn.request("POST", "/orders", b'{"book": 1}', {"Content-Type": "application/json"})
            gunicorn.kill_worker(gunicorn.worker_pids()[0])
            os.kill(gunicorn.pid, signal.SIGUSR1)
            with Load([gunicorn.port], ["/", "/books/1", "/books/9", "/broken"], clients=1):
                yield server


def _figures(server: Prometheus, query: str) -> list[float]:
    found: list[dict[str, Any]] = server.query(query)
    figures = [float(element["value"][1]) for element in found]
    assert any(figure == figure for figure in figures), f"empty: {query}"
    return figures


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_no_panel_of_a_dashboard_is_empty(prometheus: Prometheus, path: Path) -> None:
    """Every query returns at least one number."""
    for title, query in _queries(path):
        assert eventually(lambda query=query: _figures(prometheus, query)), title  # type: ignore[misc]


def test_no_recorded_series_is_empty(prometheus: Prometheus) -> None:
    """Workers write the families that the rules read."""
    for name, query in _recorded():
        assert eventually(lambda query=query: _figures(prometheus, query)), name  # type: ignore[misc]


def test_the_alert_finds_a_registry_that_is_scraped_twice(redis: RedisServer) -> None:
    """One Prometheus scrapes two instances that share a Redis: the rule's expression finds them."""
    rules = yaml.safe_load((PROMETHEUS / "rules.yml").read_text())
    alerts = {rule["alert"]: rule for group in rules["groups"] for rule in group["rules"] if "alert" in rule}
    expression = alerts["GunicornRegistryScrapedTwice"]["expr"]
    with Gunicorn(redis=redis) as one, Gunicorn(redis=redis) as other:
        targets = [f"127.0.0.1:{gunicorn.metrics_port}" for gunicorn in (one, other)]
        with Prometheus({"shop": targets[:1]}) as right, Prometheus({"shop": targets}) as wrong:
            eventually(lambda: wrong.value(expression), equals=2)
            assert right.query("gunicorn_exporter_registry_info")
            assert right.query(expression) == []


def test_grafana_can_provision_the_dashboards() -> None:
    """Each dashboard has its own id, panels that do not overlap, and uses the selected data source."""
    assert DASHBOARDS
    boards = [json.loads(path.read_text()) for path in DASHBOARDS]
    assert len({board["uid"] for board in boards}) == len(boards)
    for board in boards:
        taken: set[tuple[int, int]] = set()
        for panel in board["panels"]:
            if panel["type"] != "row":
                assert panel["datasource"]["uid"] == "${datasource}"
            place = panel["gridPos"]
            cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
            assert not cells & taken, panel["title"]
            taken |= cells


def test_the_dashboards_are_what_operators_expect() -> None:
    """Variables, rows, a description on each panel, a heat map, links to details, marks of restarts and deploys."""
    boards = {board["uid"]: board for board in (json.loads(path.read_text()) for path in DASHBOARDS)}
    assert set(boards) == {"gunicorn-overview", "gunicorn-workers", "gunicorn-exporter"}
    for board in boards.values():
        names = [variable["name"] for variable in board["templating"]["list"]]
        assert names[:4] == ["datasource", "namespace", "job", "instance"]
        assert board["panels"][0]["type"] == "row"
        assert all(panel["description"] for panel in board["panels"] if panel["type"] != "row")
        assert {mark["name"] for mark in board["annotations"]["list"]} == {"Worker ends", "Reload or upgrade", "Deploy"}
        for link in re.findall(r"/d/([\w-]+)", json.dumps(board)):
            assert link in boards
    overview = boards["gunicorn-overview"]
    assert "endpoint" in [variable["name"] for variable in overview["templating"]["list"]]
    assert any(panel["type"] == "heatmap" for panel in overview["panels"])
    assert "var-endpoint=${__field.labels.endpoint}" in json.dumps(overview)
    assert "gunicorn_exporter_push_lag_seconds" in json.dumps(boards["gunicorn-exporter"])


def test_the_marks_on_the_dashboards_are_queries_that_prometheus_accepts(prometheus: Prometheus) -> None:
    """They are mostly empty, because mostly no worker ends."""
    for path in DASHBOARDS:
        for mark in json.loads(path.read_text())["annotations"]["list"]:
            prometheus.query(_selecting_everything(mark["expr"]))


def test_the_dashboards_are_those_of_their_script(tmp_path: Path) -> None:
    """`make docs` writes them."""
    subprocess.run([sys.executable, ROOT / "scripts" / "dashboards.py", tmp_path], check=True)
    assert {path.name: path.read_text() for path in tmp_path.glob("*.json")} == {
        path.name: path.read_text() for path in DASHBOARDS
    }
