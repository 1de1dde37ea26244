"""Paths of the work tree."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VENVS = ROOT / ".venvs"
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
MODULE = TARGET / "release" / "libredis_metrics.so"
EXPORTER = TARGET / "release" / "gunicorn-prometheus-exporter"
TESTS = ROOT / "tests"


def built(path: Path) -> Path:
    """Returns the same path; if it is missing, the error names the command that builds it."""
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: run `make build` first")
    return path


def wheel() -> Path:
    """Returns the wheel that `make build` left."""
    wheels = sorted((TARGET / "wheels").glob("gunicorn_prometheus_exporter-*.whl"))
    if len(wheels) != 1:
        raise FileNotFoundError(f"{TARGET / 'wheels'} holds {len(wheels)} wheels, expected one: run `make build`")
    return wheels[0]
