"""Libraries of these tests, in C, that stand in for functions of the system."""

import subprocess
import tempfile
from pathlib import Path

from harness.paths import TARGET, TESTS


def library(name: str) -> Path:
    """`harness/<name>.c`, compiled where it is missing or older than its source."""
    source, built = TESTS / f"harness/{name}.c", TARGET / f"tests/lib{name}.so"
    if not built.exists() or built.stat().st_mtime < source.stat().st_mtime:
        built.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=built.parent) as scratch:
            made = Path(scratch, built.name)
            subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", made, source], check=True)
            made.replace(built)
    return built
