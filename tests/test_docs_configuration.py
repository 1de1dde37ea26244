"""docs/configuration.md describes the settings: every key, its variable, its default."""

import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from harness.paths import EXPORTER, ROOT, built
from harness.process import clean_environment

PAGE = ROOT / "docs" / "configuration.md"
# The spelling in a file of settings that `check-config` shows under another name.
SPELLED = {"cleanup_db_files": "cleanup.db_files", "flush_interval_ms": "flush_interval", "sidecar_mode": ""}
# Keys that are only valid together: one alone is refused.
SECTIONS = {"redis.sentinel", "auth"}
# Sentinels, without which their users and passwords have no effect.
SENTINEL = {
    "GUNICORN_EXPORTER_REDIS_SENTINEL_HOSTS": "127.0.0.1:26379",
    "GUNICORN_EXPORTER_REDIS_SENTINEL_MASTER": "metrics",
}


class Row(NamedTuple):
    """One line of a table."""

    key: str
    variable: str
    default: str


def _rows() -> list[Row]:
    found = re.findall(r"^\| (?:`([a-z_.]+)`)? ?\| `([A-Z_]+)` \|([^|]*)\|", PAGE.read_text(), re.MULTILINE)
    return [Row(key, variable, default.strip()) for key, variable, default in found]


def _check(*arguments: str, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(built(EXPORTER)), "check-config", *arguments],
        env=clean_environment(environment or {}),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def _leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict):
        for name, value in node.items():
            yield from _leaves(value, f"{path}.{name}" if path else name)
    else:
        yield path, node


def _in_force() -> dict[str, Any]:
    return dict(_leaves(yaml.safe_load(_check().stdout)["exporter"]))


def test_every_setting_is_documented() -> None:
    """Each setting that `check-config` shows has a line."""
    documented = {row.key for row in _rows()}
    for key in _in_force():
        known = SPELLED.get(key, key)
        assert known in documented or known in SECTIONS, f"{key} has no line in {PAGE.name}"


def test_every_documented_key_is_a_setting(tmp_path: Path) -> None:
    """The program knows every key of the tables."""
    file = tmp_path / "exporter.yml"
    for row in _rows():
        if row.key:
            lines = "".join(f"{'  ' * depth}{name}:\n" for depth, name in enumerate(f"exporter.{row.key}".split(".")))
            file.write_text(lines.rstrip() + " 1\n")
            ended = _check("--config", str(file))
            assert "unknown key" not in ended.stderr, f"{row.key}: {ended.stderr}"


@pytest.mark.parametrize("row", _rows(), ids=lambda row: row.variable)
def test_every_documented_variable_is_read(row: Row) -> None:
    """An invalid value is refused with the name of the variable, or changes the settings in force."""
    ended = _check(environment={**SENTINEL, row.variable: "strange:1"})
    assert ended.stdout != _check(environment=SENTINEL).stdout or row.variable in ended.stderr, row


def test_documented_defaults_are_those_in_force() -> None:
    """Checks every setting whose default is one plain value."""
    in_force = _in_force()
    for row in _rows():
        if row.default and row.key in in_force and "…" not in row.default:
            assert in_force[row.key] == yaml.safe_load(row.default), row
