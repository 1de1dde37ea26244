"""The package is typed: its stubs match the code, and a strict program is checked against the installed wheel."""

import subprocess
from pathlib import Path

from harness import Venv
from harness.paths import ROOT

# Names that stubtest cannot compare.
ALLOWED = """\
# A worker class that this version of Gunicorn does not have says so.
gunicorn_prometheus_exporter.eventlet_worker
# Names of the errors that are re-raised, which mypy thinks stay.
gunicorn_prometheus_exporter\\.\\w+_worker\\.error
# Classes that are made in a function.
gunicorn_prometheus_exporter\\..*@\\d+
gunicorn_prometheus_exporter\\.testing\\.__all__
# A slot of a class in Rust has no signature to look at.
gunicorn_prometheus_exporter\\._native\\.\\w+\\.__call__
gunicorn_prometheus_exporter\\.compat\\.storage_dict\\.__all__
# A staticmethod of a function that is typed where it is.
gunicorn_prometheus_exporter\\.compat\\.storage_dict\\.CleanupUtilsMixin\\..*
"""
PROGRAM = """\
from typing import assert_type

from gunicorn_prometheus_exporter import (
    ConfigError, ExporterConfig, RedisStorageDict, get_config, load_yaml_config, registry, setup_metrics,
)
from gunicorn_prometheus_exporter.hooks import default_when_ready as when_ready
from gunicorn_prometheus_exporter.metrics import WORKER_REQUESTS
from prometheus_client import CollectorRegistry, Counter

ORDERS = Counter("orders", "Orders", registry=registry)


def main() -> int:
    try:
        load_yaml_config("exporter.yml")
    except ConfigError as error:
        print(error)
        return 1
    assert_type(get_config(), ExporterConfig)
    assert_type(get_config().redis_port, int)
    assert_type(registry, CollectorRegistry)
    setup_metrics()
    ORDERS.inc()
    WORKER_REQUESTS.inc(worker_id="0")
    return 0
"""


def _mypy(directory: Path, program: str) -> subprocess.CompletedProcess[str]:
    (directory / "program.py").write_text(program)
    command = [str(Venv.frameworks().bin / "python"), "-m", "mypy", "--strict", "--config-file=", "program.py"]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)


def test_the_stubs_match_the_package(tmp_path: Path) -> None:
    """Stubtest compares every module of the package with its stubs."""
    allowed = tmp_path / "allowed"
    allowed.write_text(ALLOWED)
    command = [
        str(Venv.frameworks().bin / "stubtest"),
        "--concise",
        "--ignore-unused-allowlist",
        f"--allowlist={allowed}",
    ]
    done = subprocess.run(
        [*command, f"--mypy-config-file={ROOT / 'pyproject.toml'}", "gunicorn_prometheus_exporter"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_strict_program_is_checked_against_the_wheel(tmp_path: Path) -> None:
    """The user's type checker sees types, and finds mistakes."""
    done = _mypy(tmp_path, PROGRAM)
    assert done.returncode == 0, done.stdout
    done = _mypy(tmp_path, PROGRAM.replace('load_yaml_config("exporter.yml")', "load_yaml_config(1)"))
    assert "incompatible type" in done.stdout
    assert done.returncode == 1


def test_every_public_name_has_a_docstring() -> None:
    """This includes classes, functions, methods and properties that are written in Rust."""
    program = """
import inspect

import gunicorn_prometheus_exporter as package
from gunicorn_prometheus_exporter import _native

workers = [f"Prometheus{kind}Worker" for kind in ("Gevent", "ASGI", "Uvicorn", "Tornado")]
found = [(name, getattr(package, name)) for name in [*package.__all__, *workers]]
found += [(name, getattr(_native, name)) for name in _native.__all__]
for owner, cls in [pair for pair in found if inspect.isclass(pair[1])]:
    found += [(f"{owner}.{name}", member) for name, member in vars(cls).items() if not name.startswith("_")]
of_code = [(name, it) for name, it in found if callable(it) or inspect.isdatadescriptor(it)]
print(len(of_code), *[name for name, it in of_code if not inspect.getdoc(it)])
"""
    number, *without = Venv.frameworks().run("-c", program).split()
    assert int(number) > 60
    assert without == []
