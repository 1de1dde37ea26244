"""A real Prometheus that scrapes given targets."""

import json
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.paths import ROOT
from harness.ports import free_port
from harness.process import Guard

_CONFIG = """
global:
  scrape_interval: {interval}
  scrape_timeout: {interval}
{rules}scrape_configs:
{jobs}
"""

_JOB = """
  - job_name: "{job}"
    static_configs:
      - targets: {targets}
{more}"""


class Prometheus(Guard):
    """Debian's `prometheus` with one job for each given name."""

    name = "prometheus"

    def __init__(
        self,
        jobs: Mapping[str, Sequence[str]],
        *,
        interval: str = "1s",
        more: str = "",
        binary: str | Path = "prometheus",
        arguments: Sequence[str] = (),
        rules: Sequence[Path] = (),
    ) -> None:
        """`jobs` maps a job's name to its targets, each `host:port`.

        `more` are settings of every job, as YAML in which `<job>` is its name.
        """
        super().__init__()
        self.binary = binary
        self.arguments = arguments
        self.port = free_port()
        self.config_path = self.directory / "prometheus.yml"
        text = "".join(
            _JOB.format(job=job, targets=json.dumps(list(targets)), more=more.replace("<job>", job))
            for job, targets in jobs.items()
        )
        self.config_path.write_text(_CONFIG.format(interval=interval, rules=_rules(rules, interval), jobs=text))

    def command(self) -> Sequence[str | Path]:
        """All files that it writes are in the guard's directory."""
        return [
            self.binary,
            f"--config.file={self.config_path}",
            f"--storage.tsdb.path={self.directory / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
            *self.arguments,
        ]

    @property
    def url(self) -> str:
        """The address of its web interface."""
        return f"http://127.0.0.1:{self.port}"

    def assert_ready(self) -> None:
        """Prometheus says that it is ready."""
        with urllib.request.urlopen(f"{self.url}/-/ready", timeout=5) as answer:
            assert answer.status == 200

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Runs an instant query; returns the elements of the vector, each with `metric` and `value`."""
        result: list[dict[str, Any]] = self._api("query", query=expression)["result"]
        return result

    def value(self, expression: str) -> float:
        """Returns the value of an expression that has exactly one."""
        found = self.query(expression)
        assert len(found) == 1, f"{len(found)} elements in the answer to {expression}, expected one"
        return float(found[0]["value"][1])

    def targets(self) -> list[dict[str, Any]]:
        """Returns the active targets: `health`, `lastError`, `scrapeUrl` and more."""
        active: list[dict[str, Any]] = self._api("targets")["activeTargets"]
        return active

    def exemplars(self, expression: str) -> list[dict[str, Any]]:
        """Returns the exemplars of the series that an expression names, over the last hour."""
        now = time.time()
        found = self._api("query_exemplars", query=expression, start=str(now - 3_600), end=str(now + 60))
        return [exemplar for series in found for exemplar in series["exemplars"]]

    def _api(self, name: str, **parameters: str) -> Any:
        address = f"{self.url}/api/v1/{name}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(address, timeout=10) as answer:
            return json.load(answer)["data"]


def assert_promtool_accepts(page: str) -> None:
    """Lets `promtool check metrics` parse a page of text 0.0.4; advice about names (exit code 3) is no error."""
    done = subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 3), f"promtool: {done.stdout}{done.stderr}"


def prometheus_3() -> Path:
    """Debian's newest; a script fetches it if it is missing."""
    done = subprocess.run([ROOT / "scripts" / "get-prometheus-3"], check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"Prometheus 3 cannot be fetched here: {done.stderr.strip().splitlines()[-1:]}")
    return Path(done.stdout.strip())


def _rules(rules: Sequence[Path], interval: str) -> str:
    """Returns the settings of rules, which Victoria Metrics does not know."""
    if not rules:
        return ""
    paths = json.dumps([str(path) for path in rules])
    return f"  evaluation_interval: {interval}\nrule_files: {paths}\n"
