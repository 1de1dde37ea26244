"""prometheus_client's own tests pass on our stores and with our value class, in the version that is installed."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from harness import Venv
from harness.paths import VENVS

# These two inspect the files of prometheus_client, which we do not write; all other tests must pass.
ABOUT_ITS_FILES = {
    "test_initialization_detects_pid_change": "lists the *.db files of each process",
    "test_merge_no_accumulate": "merges *.db files that it finds by glob",
}
ON_THIS_MACHINE = sorted(path.name.removeprefix("prometheus_client-") for path in VENVS.glob("prometheus_client-*"))


@pytest.mark.parametrize("version", ON_THIS_MACHINE)
def test_the_multiprocess_tests_of_prometheus_client_pass(version: str, tmp_path: Path) -> None:
    """One line in a conftest.py is enough, for each version that `scripts/setup` has installed."""
    venv = Venv.prometheus_client(version)
    shutil.copy(venv.directory / "upstream" / "test_multiprocess.py", tmp_path)
    (tmp_path / "conftest.py").write_text("from gunicorn_prometheus_exporter.testing import *\n")
    exceptions = " and ".join(f"not {name}" for name in ABOUT_ITS_FILES)
    done = subprocess.run(
        [venv.bin / "python", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", exceptions, "test_multiprocess.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    counts = re.search(r"(\d+) passed, (\d+) deselected", done.stdout)
    assert counts is not None, done.stdout[-500:]
    passed, deselected = map(int, counts.groups())
    assert passed >= 26
    assert deselected == len(ABOUT_ITS_FILES)


@pytest.mark.parametrize("version", ON_THIS_MACHINE)
def test_the_other_tests_of_prometheus_client_pass_with_our_value_class(version: str, tmp_path: Path) -> None:
    """They run in a process without gunicorn: numbers, registries, timers, exemplars, pages, text files."""
    venv = Venv.prometheus_client(version)
    shutil.copytree(venv.directory / "upstream", tmp_path, dirs_exist_ok=True)
    program = "from gunicorn_prometheus_exporter import values\nvalues.install()\n"
    (tmp_path / "conftest.py").write_text(program)
    # Its tests of TLS depend on how fast a connection ends.
    options = ["-q", "-p", "no:cacheprovider", "-k", "not TLS"]
    done = subprocess.run(
        [venv.bin / "python", "-m", "pytest", *options, "test_core.py", "test_exposition.py", "test_gc_collector.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None, done.stdout[-500:]
    assert int(passed[1]) >= 120


def test_the_oldest_a_middle_and_the_newest_prometheus_client_are_tested() -> None:
    """`scripts/setup test` installs these."""
    assert {"0.19", "0.22", "newest"} <= set(ON_THIS_MACHINE)
