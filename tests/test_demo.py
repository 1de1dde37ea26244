"""`make demo`, as a user runs it right after `git clone`."""

import subprocess
import sys

import pytest

from harness.paths import ROOT


@pytest.mark.parametrize("arguments", [["--once"], ["--once", "--embedded"]], ids=["redis", "embedded"])
def test_the_demo_counts_exactly_what_it_sent(arguments: list[str]) -> None:
    """The demo checks its counts itself; this test reads its table again."""
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "demo.py", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.split() for line in done.stdout.splitlines() if line.endswith("  ok")]
    assert [(row[-3], row[-2]) for row in rows] == [
        ("240", "240"),
        ("240", "240"),
        ("240", "240"),
        ("120", "120"),
        ("40", "40"),
        ("40", "40"),
        ("120", "120"),
    ]
