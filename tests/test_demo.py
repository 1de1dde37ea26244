"""`make demo`, as a user runs it right after `git clone`."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harness import eventually, scrape
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


def test_the_demo_goes_on_until_it_is_interrupted() -> None:
    """The first address is the live page; requests go on; Ctrl-C ends everything with status 0."""
    command: list[str | Path] = [sys.executable, ROOT / "scripts" / "demo.py", "--embedded"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as demo:
        try:
            assert demo.stdout is not None
            said = ""
            while "Ctrl-C" not in said:
                line = demo.stdout.readline()
                assert line, said
                said += line
            addresses = re.findall(r"^  (\w[\w ]*?)  +(http\S+)", said, re.MULTILINE)
            name, url = addresses[0]
            assert (name, url[-1]) == ("live page", "/")
            counted = scrape(f"{url}metrics").sum("gunicorn_worker_requests_total")
            eventually(lambda: scrape(f"{url}metrics").sum("gunicorn_worker_requests_total") > counted + 3, equals=True)
        finally:
            demo.send_signal(signal.SIGINT)
            assert demo.wait(30) == 0
