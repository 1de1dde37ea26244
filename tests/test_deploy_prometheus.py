"""Prometheus accepts the rules and dashboards in deploy/; each is tested, and none is empty over a real application."""

import json
import os
import re
import signal
import subprocess
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


def test_prometheus_accepts_its_configuration(tmp_path: Path) -> None:
    """The configuration of docker-compose.yml, with the rules beside it."""
    text = (PROMETHEUS / "prometheus.yml").read_text()
    (tmp_path / "prometheus.yml").write_text(text)
    (tmp_path / "rules.yml").write_text((PROMETHEUS / "rules.yml").read_text())
    _promtool("check", "config", str(tmp_path / "prometheus.yml"))


def _queries(path: Path) -> Iterator[tuple[str, str]]:
    for panel in json.loads(path.read_text())["panels"]:
        for target in panel["targets"]:
            query = re.sub(r"\$(job|worker)\b", ".+", target["expr"]).replace("$__rate_interval", "20s")
            assert "$" not in query, query
            yield panel["title"], query


def _recorded() -> Iterator[tuple[str, str]]:
    rules = yaml.safe_load((PROMETHEUS / "rules.yml").read_text())
    for group in rules["groups"]:
        for rule in group["rules"]:
            # A rule that is made of other rules is empty, because this Prometheus evaluates no rules.
            if "record" in rule and "job:" not in rule["expr"]:
                yield rule["record"], rule["expr"]


@pytest.fixture(scope="module")
def prometheus() -> Iterator[Prometheus]:
    """A Prometheus that has scraped the shop while it served, failed, and lost a worker."""
    config = (SHOP / "gunicorn.conf.py").read_text()
    with Gunicorn("shop:app", workers=2, config=config, app_directory=SHOP) as gunicorn:
        with Prometheus({"shop": [f"127.0.0.1:{gunicorn.metrics_port}"]}) as server:
            eventually(lambda: server.value('up{job="shop"}'), equals=1)
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
            assert panel["datasource"]["uid"] == "${datasource}"
            place = panel["gridPos"]
            cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
            assert not cells & taken, panel["title"]
            taken |= cells
