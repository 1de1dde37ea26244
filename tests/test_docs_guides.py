"""The guides in docs/ say what the programs do: the YAML guide, pages of frameworks, and pages that are generated."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml

from harness import Gunicorn, Venv, eventually, own_network, scrape
from harness.paths import EXPORTER, ROOT, built
from harness.process import clean_environment
from harness.tls import Authority

DOCS = ROOT / "docs"
SCHEMA = DOCS / "settings.schema.json"


def _fences(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL)


def _check(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command: list[str | Path] = [built(EXPORTER), "check-config", *words]
    return subprocess.run(
        command, env=clean_environment(environment), capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("text", _fences("yaml.md", "yaml"))
def test_each_file_of_the_yaml_guide_is_right(text: str, tmp_path: Path) -> None:
    """Every key is known, every value is allowed, and the schema for editors agrees."""
    certificate, key = Authority(tmp_path).sign("metrics")
    text = text.replace("/etc/metrics/tls.crt", str(certificate)).replace("/etc/metrics/tls.key", str(key))
    secret = tmp_path / "secret"
    secret.write_text("hush\n")
    path = tmp_path / "exporter.yml"
    path.write_text(text)
    checked = _check("--strict", "--config", str(path), REDIS_PASSWORD_PATH=str(secret))
    assert checked.returncode == 0, checked.stderr
    assert "hush" not in checked.stdout
    jsonschema.validate(yaml.safe_load(text), json.loads(SCHEMA.read_text()))


def test_the_schema_is_the_one_of_the_program() -> None:
    """`make docs` writes it."""
    assert _check("--schema").stdout == SCHEMA.read_text()


def _keys(schema: dict[str, Any], path: str = "") -> set[str]:
    names = set()
    for name, one in schema.get("properties", {}).items():
        below = _keys(one, f"{path}{name}.")
        names |= below or {f"{path}{name}"}
    return names


def test_the_schema_has_exactly_the_keys_of_the_documentation() -> None:
    """Each key of docs/configuration.md, the other place of TLS, and the files of secrets."""
    documented = set(re.findall(r"^\| `([a-z_.]+)` \|", (DOCS / "configuration.md").read_text(), re.MULTILINE))
    documented |= {key.removeprefix("prometheus.") for key in documented if key.startswith("prometheus.ssl.")}
    documented |= set(re.findall(r"^\| `([a-z_.]+_file)` \|", (DOCS / "yaml.md").read_text(), re.MULTILINE))
    assert _keys(json.loads(SCHEMA.read_text())["properties"]["exporter"]) == documented


@pytest.mark.parametrize(
    ("file", "where"),
    [
        ("exporter: {redis: {prot: 1}}", "prot"),
        ("exporter: {redis: {port: 70000}}", "70000"),
        ("exporter: {redis: {enabled: maybe}}", "maybe"),
        ("exporter: {prometheus: {scope: all}}", "all"),
        ("exporter: {http: {skip_paths: {a: b}}}", "skip_paths"),
        ("other: {}", "exporter"),
    ],
)
def test_the_schema_finds_mistakes(file: str, where: str) -> None:
    """Each of these the program refuses, or warns of, as well."""
    with pytest.raises(jsonschema.ValidationError) as found:
        jsonschema.validate(yaml.safe_load(file), json.loads(SCHEMA.read_text()))
    assert where in str(found.value)


@pytest.mark.parametrize("name", ["api.md", "cli.md"])
def test_a_generated_page_is_current(name: str) -> None:
    """`make docs` writes it."""
    program = [str(built(EXPORTER))] if name == "cli.md" else []
    script = ROOT / "scripts" / name.replace(".md", "_page.py")
    done = subprocess.run([sys.executable, script, *program], capture_output=True, text=True, check=True)
    assert done.stdout == (DOCS / name).read_text(), f"docs/{name} is old: make docs"


@pytest.mark.parametrize("page", ["django.md", "flask.md", "fastapi.md", "pyramid.md"])
def test_the_page_of_a_framework_shows_what_happens(page: str) -> None:
    """Types its commands, and finds its lines on /metrics."""
    start, requests = _fences(page, "bash")[:2]
    directory, command = start.splitlines()
    (words,) = re.findall(r"--worker-class (\S+) (\S+)$", command)
    (lines,) = _fences(page, "text")
    with own_network():
        gunicorn = Gunicorn(
            words[1],
            worker_class=words[0],
            venv=Venv.frameworks(),
            app_directory=ROOT / directory.removeprefix("cd "),
        )
        gunicorn.port, gunicorn.metrics_port = 8000, 9091
        gunicorn.environment["PROMETHEUS_METRICS_PORT"] = "9091"
        with gunicorn:
            for line in requests.splitlines():
                subprocess.run(line.split(), check=True, capture_output=True, timeout=30)

            def shown() -> None:
                page = scrape(gunicorn.metrics_url)
                for line in lines.splitlines():
                    name, labels, value = re.fullmatch(r"(\w+)\{(.*)\} (\d+)", line).groups()  # type: ignore[union-attr]
                    wanted = dict(re.findall(r'(\w+)="([^"]*)"', labels))
                    assert page.sum(name, **wanted) == float(value), line

            eventually(shown)
